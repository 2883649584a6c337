"""Requests are parsed once, and never mistaken for each other."""

import pytest
from envoy.service.discovery.v3 import discovery_pb2

from aggregator.generators.spec import ENDPOINT
from aggregator.model.errors import StreamError
from aggregator.xds.message import RequestDecoder


def acknowledgement(*names: str, nonce: str = "n1") -> bytes:
    """What a state-of-the-world client says after each response: all of its names again."""
    return discovery_pb2.DiscoveryRequest(
        resource_names=names, type_url=ENDPOINT.type_url, response_nonce=nonce
    ).SerializeToString()


def test_equal_bytes_are_parsed_once() -> None:
    """Five hundred proxies of a class repeat thousands of names with each acknowledgement."""
    decoder = RequestDecoder(delta=False)
    first = decoder.decode(acknowledgement("a", "b"))
    assert decoder.decode(acknowledgement("a", "b")) is first


def test_equal_ends_are_not_equal_requests() -> None:
    """Requests are looked up by length and end, and two that share these may ask differently."""
    decoder = RequestDecoder(delta=False)
    common = [f"common-{number}" for number in range(50)]
    for name in ("a", "b", "a"):
        assert decoder.decode(acknowledgement(name, *common)).names == {name, *common}


def test_equal_sets_of_names_are_one_object() -> None:
    """Streams in the same state compare their subscriptions by identity."""
    decoder = RequestDecoder(delta=False)
    one = decoder.decode(acknowledgement("a", "b", nonce="n1"))
    two = decoder.decode(acknowledgement("b", "a", nonce="n2"))
    assert one is not two
    assert one.names is two.names


@pytest.mark.parametrize("delta", [True, False])
def test_what_is_no_request_is_refused(delta: bool) -> None:
    """Garbage ends the stream that brought it, with a reason."""
    with pytest.raises(StreamError, match="not a discovery request"):
        RequestDecoder(delta=delta).decode(b"\xff\xff\xff")
