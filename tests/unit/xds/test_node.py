"""What is read of a node, whoever it says it is."""

import pytest
from envoy.config.core.v3 import base_pb2

from aggregator.model.errors import StreamError
from aggregator.xds.node import decode_node


def decode(node: base_pb2.Node) -> str:
    """The id as we take it."""
    return decode_node(node, "cluster.local", 45.0).id


def test_an_endless_id_is_refused() -> None:
    """It would be repeated in the log for as long as its client comes back."""
    assert decode(base_pb2.Node(id="x" * 1024)) == "x" * 1024

    with pytest.raises(StreamError, match=r"at most 1024 characters, found 1025$"):
        decode(base_pb2.Node(id="x" * 1025))


def test_metadata_that_is_no_json_is_refused_as_the_clients_mistake() -> None:
    """Numbers like these cannot be shown in the debug views."""
    node = base_pb2.Node(id="proxy-1")
    node.metadata["WEIGHT"] = float("nan")

    with pytest.raises(StreamError, match="the metadata of node 'proxy-1' cannot be read"):
        decode(node)


def test_metadata_of_another_type_is_ignored() -> None:
    """A client that misspells what it says of itself is served all the same."""
    node = base_pb2.Node(id="proxy-1")
    node.metadata.update({"NAMESPACE": 5, "LABELS": "x", "PROXY_CONFIG": {"drainDuration": "-9s"}})

    proxy = decode_node(node, "cluster.local", 45.0)

    assert (proxy.namespace, proxy.labels, proxy.drain_seconds) == ("default", (), 600.0)
