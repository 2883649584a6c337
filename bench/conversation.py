"""One proxy's side of a session, as an Envoy leads it, without I/O.

Thousands of proxies say the same things, so what follows from a response is found out once for all
of them: a response is known by its nonce, which is the same wherever the bytes are.
"""

from collections.abc import Iterable
from functools import cache
from typing import Final

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as manager_pb2,
)
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.struct_pb2 import Struct as StructMessage
from msgspec import Struct

PREFIX: Final = "type.googleapis.com/envoy.config."
CLUSTER: Final = PREFIX + "cluster.v3.Cluster"
ENDPOINT: Final = PREFIX + "endpoint.v3.ClusterLoadAssignment"
LISTENER: Final = PREFIX + "listener.v3.Listener"
ROUTE: Final = PREFIX + "route.v3.RouteConfiguration"
VIRTUAL_HOST: Final = PREFIX + "route.v3.VirtualHost"
TYPES: Final = (CLUSTER, ENDPOINT, LISTENER, ROUTE, VIRTUAL_HOST)

NOTHING: Final[frozenset[str]] = frozenset()


class Head(Struct, frozen=True):
    """What tells a response from others: its type, its nonce and, without delta, its version."""

    type_url: str
    nonce: str
    version: str


class Proxy(Struct, frozen=True):
    """Who a client says it is."""

    number: int
    namespace: str


def read_head(payload: bytes, *, delta: bool) -> Head:
    """Find what identifies a response without parsing it. Raises ValueError if it is not there.

    Field 4 is the type and field 5 the nonce, and both come after all resources.
    """
    start = payload.rfind(PREFIX.encode())
    end = start + payload[start - 1]
    if start < 2 or payload[start - 2] != 0x22 or payload[end] != 0x2A:
        message = "a response without type and nonce where they are expected"
        raise ValueError(message)
    nonce = payload[end + 2 : end + 2 + payload[end + 1]]
    version = b"" if delta or payload[0] != 0x0A else payload[2 : 2 + payload[1]]
    return Head(payload[start:end].decode(), nonce.decode(), version.decode())


class Conversation:
    """What one proxy has asked for, and what it says to each response."""

    def __init__(self, proxy: Proxy, *, delta: bool) -> None:
        self._proxy: Final = proxy
        self._delta: Final = delta
        self._names: Final[dict[str, frozenset[str]]] = {}
        self._heads: Final[dict[str, Head]] = {}

    def begin(self) -> bytes:
        """The first request: all clusters."""
        self._names[CLUSTER] = NOTHING
        return first_request(self._proxy, delta=self._delta)

    def receive(self, head: Head, payload: bytes) -> tuple[bytes, ...]:
        """What to answer: the acknowledgement, and what an Envoy asks for next."""
        type_url = head.type_url
        self._heads[type_url] = head
        accept = acknowledgement(head, self._names.get(type_url, NOTHING), delta=self._delta)
        return accept, *self._next(head, payload)

    def _next(self, head: Head, payload: bytes) -> tuple[bytes, ...]:
        if head.type_url == CLUSTER:
            return self._want(ENDPOINT, _found(head, payload, self._delta))
        if head.type_url == ENDPOINT:
            return self._begin(LISTENER)
        if head.type_url == LISTENER:
            return self._want(ROUTE, _found(head, payload, self._delta))
        if head.type_url == ROUTE and _found(head, payload, self._delta):
            return self._begin(VIRTUAL_HOST)
        return ()

    def _begin(self, type_url: str) -> tuple[bytes, ...]:
        """Ask for all of a type, once."""
        if type_url in self._names:
            return ()
        self._names[type_url] = NOTHING
        return (subscription(type_url, NOTHING, delta=self._delta),)

    def _want(self, type_url: str, names: frozenset[str]) -> tuple[bytes, ...]:
        """Ask for names that were not asked for before."""
        known = self._names.get(type_url, NOTHING)
        if names <= known:
            return ()
        self._names[type_url], added = _grown(known, names)
        head = self._heads.get(type_url)
        if self._delta or head is None:
            return (subscription(type_url, added, delta=self._delta),)
        return (acknowledgement(head, self._names[type_url], delta=False),)

    @property
    def complete(self) -> bool:
        """Whether it has had something of each type that it needs to serve."""
        return self._heads.keys() >= {CLUSTER, ENDPOINT, LISTENER, ROUTE} and (
            VIRTUAL_HOST not in self._names or VIRTUAL_HOST in self._heads
        )


@cache
def _grown(known: frozenset[str], names: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    return known | names, names - known


@cache
def acknowledgement(head: Head, names: frozenset[str], *, delta: bool) -> bytes:
    """The request that accepts a response."""
    if delta:
        return discovery_pb2.DeltaDiscoveryRequest(
            type_url=head.type_url, response_nonce=head.nonce
        ).SerializeToString()
    return discovery_pb2.DiscoveryRequest(
        version_info=head.version,
        resource_names=sorted(names),
        type_url=head.type_url,
        response_nonce=head.nonce,
    ).SerializeToString()


@cache
def subscription(type_url: str, names: frozenset[str], *, delta: bool) -> bytes:
    """The request that asks for more."""
    if delta:
        return discovery_pb2.DeltaDiscoveryRequest(
            type_url=type_url, resource_names_subscribe=sorted(names)
        ).SerializeToString()
    return discovery_pb2.DiscoveryRequest(
        type_url=type_url, resource_names=sorted(names)
    ).SerializeToString()


def first_request(proxy: Proxy, *, delta: bool) -> bytes:
    """Asks for all clusters and says who asks: a sidecar beside an application."""
    address = f"10.{128 + (proxy.number >> 16)}.{proxy.number >> 8 & 255}.{proxy.number & 255}"
    domain = f"{proxy.namespace}.svc.cluster.local"
    metadata = StructMessage()
    metadata.update(
        {
            "NAMESPACE": proxy.namespace,
            "CLUSTER_ID": "Kubernetes",
            "ISTIO_VERSION": "1.28.0",
            "MESH_ID": "cluster.local",
            "INSTANCE_IPS": address,
            "LABELS": {"app": "load"},
        }
    )
    node = base_pb2.Node(
        id=f"sidecar~{address}~load{proxy.number}.{proxy.namespace}~{domain}",
        cluster=f"load.{proxy.namespace}",
        metadata=metadata,
        locality=base_pb2.Locality(region="r1", zone="z1"),
        user_agent_name="envoy",
    )
    if delta:
        return discovery_pb2.DeltaDiscoveryRequest(node=node, type_url=CLUSTER).SerializeToString()
    return discovery_pb2.DiscoveryRequest(node=node, type_url=CLUSTER).SerializeToString()


_FOUND: Final[dict[tuple[Head, bool], frozenset[str]]] = {}


def _found(head: Head, payload: bytes, delta: bool) -> frozenset[str]:
    """The names that a response makes an Envoy ask for."""
    found = _FOUND.get((head, delta))
    if found is None:
        found = _FOUND[head, delta] = frozenset(_names_in(head.type_url, payload, delta))
    return found


def _names_in(type_url: str, payload: bytes, delta: bool) -> Iterable[str]:
    for packed in _resources(payload, delta):
        if type_url == CLUSTER:
            cluster = cluster_pb2.Cluster.FromString(packed.value)
            if cluster.type == cluster_pb2.Cluster.EDS:
                yield cluster.eds_cluster_config.service_name or cluster.name
        elif type_url == LISTENER:
            yield from _routes_of(listener_pb2.Listener.FromString(packed.value))
        elif type_url == ROUTE:
            table = route_pb2.RouteConfiguration.FromString(packed.value)
            if table.HasField("vhds"):
                yield table.name


def _resources(payload: bytes, delta: bool) -> Iterable[AnyMessage]:
    if delta:
        return (
            each.resource
            for each in discovery_pb2.DeltaDiscoveryResponse.FromString(payload).resources
        )
    return discovery_pb2.DiscoveryResponse.FromString(payload).resources


def _routes_of(listener: listener_pb2.Listener) -> Iterable[str]:
    manager = manager_pb2.HttpConnectionManager()
    for chain in (*listener.filter_chains, listener.default_filter_chain):
        for each in chain.filters:
            if each.typed_config.Is(manager.DESCRIPTOR):
                each.typed_config.Unpack(manager)
                if manager.HasField("rds"):
                    yield manager.rds.route_config_name
