"""The load speaks as an Envoy does."""

from collections.abc import Iterable

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import config_source_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as manager_pb2,
)
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from bench.conversation import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    VIRTUAL_HOST,
    Conversation,
    Head,
    Proxy,
    read_head,
)

ME = Proxy(7, "ns3")


def clusters(*names: str) -> list[Message]:
    """Clusters with endpoints from the control plane, and one that needs none."""
    return [
        *(cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.EDS) for name in names),
        cluster_pb2.Cluster(name="PassthroughCluster"),
    ]


def listener(route: str) -> Message:
    """A listener whose routes come by name."""
    manager = manager_pb2.HttpConnectionManager(
        rds=manager_pb2.Rds(route_config_name=route, config_source=config_source_pb2.ConfigSource())
    )
    each = listener_components_pb2.Filter(name="http")
    each.typed_config.Pack(manager)
    return listener_pb2.Listener(
        filter_chains=[listener_components_pb2.FilterChain(filters=[each])]
    )


def table(name: str) -> Message:
    """A route table whose virtual hosts come one by one."""
    return route_pb2.RouteConfiguration(name=name, vhds=route_pb2.Vhds())


def packed(message: Message) -> AnyMessage:
    """As responses carry it."""
    found = AnyMessage()
    found.Pack(message)
    return found


def delta_response(type_url: str, nonce: str, resources: Iterable[Message] = ()) -> bytes:
    """A response as our server writes it: fields in the order of their numbers."""
    return discovery_pb2.DeltaDiscoveryResponse(
        resources=[discovery_pb2.Resource(resource=packed(each)) for each in resources],
        type_url=type_url,
        nonce=nonce,
        removed_resources=["some.host"],
    ).SerializeToString()


def full_response(type_url: str, nonce: str, resources: Iterable[Message] = ()) -> bytes:
    """The same without delta."""
    return discovery_pb2.DiscoveryResponse(
        version_info=f"version of {nonce}",
        resources=[packed(each) for each in resources],
        type_url=type_url,
        nonce=nonce,
    ).SerializeToString()


def told(conversation: Conversation, payload: bytes) -> list[discovery_pb2.DeltaDiscoveryRequest]:
    """What a delta conversation says to a response."""
    head = read_head(payload, delta=True)
    return [
        discovery_pb2.DeltaDiscoveryRequest.FromString(each)
        for each in conversation.receive(head, payload)
    ]


def told_fully(conversation: Conversation, payload: bytes) -> list[discovery_pb2.DiscoveryRequest]:
    """What a state-of-the-world conversation says to a response."""
    head = read_head(payload, delta=False)
    return [
        discovery_pb2.DiscoveryRequest.FromString(each)
        for each in conversation.receive(head, payload)
    ]


def test_head_is_found_behind_resources_of_the_same_type() -> None:
    """The type's name is in every resource, and only at one place says what the response is."""
    payload = delta_response(CLUSTER, "n1", clusters("a", "b"))

    assert read_head(payload, delta=True) == Head(CLUSTER, "n1", "")
    full = full_response(CLUSTER, "n2", clusters("a"))
    assert read_head(full, delta=False) == Head(CLUSTER, "n2", "version of n2")


def test_response_without_a_nonce_is_refused() -> None:
    """What the load does not understand must not be measured as if it had been taken."""
    payload = discovery_pb2.DeltaDiscoveryResponse(type_url=CLUSTER).SerializeToString()

    with pytest.raises((ValueError, IndexError)):
        read_head(payload + b"\x0a\x00", delta=True)


def test_delta_session_goes_from_clusters_to_virtual_hosts() -> None:
    """Each type is asked for when an Envoy would, and everything is acknowledged."""
    conversation = Conversation(ME, delta=True)
    first = discovery_pb2.DeltaDiscoveryRequest.FromString(conversation.begin())
    assert (first.type_url, first.node.user_agent_name) == (CLUSTER, "envoy")

    ack, endpoints = told(conversation, delta_response(CLUSTER, "c", clusters("a", "b")))
    assert (ack.type_url, ack.response_nonce) == (CLUSTER, "c")
    assert list(endpoints.resource_names_subscribe) == ["a", "b"]

    _, listeners = told(conversation, delta_response(ENDPOINT, "e"))
    assert (listeners.type_url, list(listeners.resource_names_subscribe)) == (LISTENER, [])
    _, routes = told(conversation, delta_response(LISTENER, "l", [listener("8080")]))
    assert (routes.type_url, list(routes.resource_names_subscribe)) == (ROUTE, ["8080"])
    assert not conversation.complete
    _, hosts = told(conversation, delta_response(ROUTE, "r", [table("8080")]))
    assert (hosts.type_url, list(hosts.resource_names_subscribe)) == (VIRTUAL_HOST, [])
    assert not conversation.complete
    (last,) = told(conversation, delta_response(VIRTUAL_HOST, "v"))
    assert last.response_nonce == "v"
    assert conversation.complete


def test_further_clusters_add_to_the_subscription() -> None:
    """A delta client names only what is new; another one repeats all, with its last nonce."""
    delta, full = Conversation(ME, delta=True), Conversation(ME, delta=False)
    for conversation in (delta, full):
        conversation.begin()
    told(delta, delta_response(CLUSTER, "c1", clusters("a")))
    told(delta, delta_response(ENDPOINT, "e1"))
    _, added = told(delta, delta_response(CLUSTER, "c2", clusters("a", "b")))
    assert list(added.resource_names_subscribe) == ["b"]
    assert len(told(delta, delta_response(CLUSTER, "c3", clusters("b")))) == 1

    told_fully(full, full_response(CLUSTER, "c1", clusters("a")))
    told_fully(full, full_response(ENDPOINT, "e1"))
    _, repeated = told_fully(full, full_response(CLUSTER, "c2", clusters("a", "b")))
    assert (list(repeated.resource_names), repeated.response_nonce) == (["a", "b"], "e1")


def test_state_of_the_world_acknowledges_with_its_names() -> None:
    """Without the names an acknowledgement would give up the subscription."""
    conversation = Conversation(ME, delta=False)
    conversation.begin()
    told_fully(conversation, full_response(CLUSTER, "c", clusters("a", "b")))

    ack, listeners = told_fully(conversation, full_response(ENDPOINT, "e"))

    assert (list(ack.resource_names), ack.version_info) == (["a", "b"], "version of e")
    assert (listeners.type_url, listeners.response_nonce) == (LISTENER, "")
