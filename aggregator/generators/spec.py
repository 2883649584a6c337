"""The contract between generators and the push engine: resource types, units of work, and the view
that records reads.

A generator is a pure function from a view to resources. All that it learns, it learns through its
`View`, which writes down what was asked, look-ups that found nothing included; so the engine knows
exactly which units a change touches, and views that would answer alike share what was built.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from hashlib import blake2b
from typing import Protocol as Interface

from google.protobuf.message import Message
from msgspec import Struct, structs

from aggregator.model.config import Config
from aggregator.model.errors import Origin, Severity
from aggregator.model.policy import MergePolicy
from aggregator.model.registry import NetworkGateway
from aggregator.model.service import Endpoint, Labels, Locality, Service, ServiceKey
from config.mesh import MeshConfig

TYPE_PREFIX = "type.googleapis.com/"
NODE_LABEL = "kubernetes.io/hostname"
"""A proxy's label that says on which machine it runs; known without being carried."""


class ResourceType(Struct, frozen=True):
    """One row of the table of xDS types.

    `order` is the order of sending (make before break); `full_state` says that a state-of-the-world
    response must hold every resource, because what it lacks is removed (CDS, LDS).
    """

    type_url: str
    short: str
    order: int
    full_state: bool = False

    @property
    def label(self) -> str:
        """What the metrics call it, as Istio's do: ``cds``."""
        return self.short.lower()


CLUSTER = ResourceType(TYPE_PREFIX + "envoy.config.cluster.v3.Cluster", "CDS", 0, full_state=True)
ENDPOINT = ResourceType(TYPE_PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment", "EDS", 1)
LISTENER = ResourceType(
    TYPE_PREFIX + "envoy.config.listener.v3.Listener", "LDS", 2, full_state=True
)
ROUTE = ResourceType(TYPE_PREFIX + "envoy.config.route.v3.RouteConfiguration", "RDS", 3)
VIRTUAL_HOST = ResourceType(TYPE_PREFIX + "envoy.config.route.v3.VirtualHost", "VHDS", 4)


class Resource(Struct, frozen=True, eq=False, weakref=True):
    """One built Envoy resource, shared by every stream that gets it; compared by identity.

    `any_field` is the resource packed as `google.protobuf.Any` and framed as field 2, which is its
    place both in a DiscoveryResponse and in a delta Resource; `body_start` is where the message
    itself begins in it. `clusters` are the upstream clusters that it sends requests to. `origins`
    are the user's objects that shaped it, for messages.
    """

    name: str
    version: str
    any_field: bytes
    body_start: int
    clusters: frozenset[str] = frozenset()
    origins: tuple[str, ...] = ()
    whole: "Whole | None" = None

    @property
    def body(self) -> bytes:
        """The serialised message."""
        return self.any_field[self.body_start :]


class Whole(Struct, frozen=True, eq=False):
    """What a joined resource was made of: a head with parts in its repeated *field*."""

    head: Resource
    parts: tuple[Resource, ...]
    field: int


_ONE_BYTE = tuple(bytes([value]) for value in range(0x80))


def varint(value: int) -> bytes:
    """Protobuf's base-128 integer."""
    if value < 0x80:
        return _ONE_BYTE[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def frame(field: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field with its tag."""
    return varint(field << 3 | 2) + varint(len(payload)) + payload


def content_hash(*parts: bytes) -> str:
    """16 hexadecimal digits over *parts*: the version of resources, equal on every replica."""
    digest = blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def resource_of_bytes(
    kind: ResourceType,
    name: str,
    body: bytes,
    *,
    version: str = "",
    clusters: Iterable[str] = (),
    origins: Iterable[str] = (),
) -> Resource:
    """Frame an already serialised message; the version is the hash of its bytes unless a content
    hash is given.
    """
    head = frame(1, kind.type_url.encode()) + b"\x12" + varint(len(body))
    start = b"\x12" + varint(len(head) + len(body)) + head
    return Resource(
        name,
        version or content_hash(body),
        start + body,
        len(start),
        frozenset(clusters),
        tuple(dict.fromkeys(origins)),
    )


def resource_of(
    kind: ResourceType,
    name: str,
    message: Message,
    *,
    clusters: Iterable[str] = (),
    origins: Iterable[str] = (),
) -> Resource:
    """Serialise once, deterministically."""
    body = message.SerializeToString(deterministic=True)
    return resource_of_bytes(kind, name, body, clusters=clusters, origins=origins)


def join(kind: ResourceType, name: str, whole: Whole) -> Resource:
    """The head's bytes with every part appended: protobuf joins repeated fields by
    concatenation.
    """
    head, parts = whole.head, whole.parts
    if not parts:
        return head
    body = b"".join([head.body, *(frame(whole.field, part.body) for part in parts)])
    version = content_hash(head.version.encode(), *(part.version.encode() for part in parts))
    joined = resource_of_bytes(
        kind,
        name,
        body,
        version=version,
        clusters=head.clusters.union(*(part.clusters for part in parts)),
        origins=(origin for each in (head, *parts) for origin in each.origins),
    )
    return structs.replace(joined, whole=whole)


class Root(StrEnum):
    """The indexes of the world whose keys are units of work."""

    VIEW = "view"  # the one key "": what exists once per view
    HOST = "host"  # each host name that a service has
    PORT = "port"  # each port number that a service has, in decimal
    ADDRESS = "address"  # each virtual IP that a service has, ranges left out
    ROUTE_HOST = "route_host"  # each host name of a service or of a VirtualService


class Unit(Struct, frozen=True, gc=False):
    """One piece of work: what one generator makes for one key of one index."""

    root: Root
    key: str


class View(Interface):
    """The world as one class of proxies sees it. Every access is recorded.

    The attributes are the proxy's (see `aggregator.model.proxy`), and are the key of the view:
    proxies that differ in one of them are in different views, but share each unit in which it was
    not asked for.
    """

    # What a proxy is.
    @property
    def kind(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def domain(self) -> str: ...
    @property
    def cluster_id(self) -> str: ...
    @property
    def network(self) -> str: ...
    @property
    def locality(self) -> Locality: ...
    @property
    def generator(self) -> str: ...
    @property
    def interception_mode(self) -> str: ...
    @property
    def ipv4(self) -> bool: ...
    @property
    def ipv6(self) -> bool: ...
    @property
    def vhds(self) -> bool:
        """Whether virtual hosts are sent one by one (Envoy on delta)."""
        ...

    @property
    def extensions(self) -> frozenset[str]: ...

    # Questions whose answer, and not the attribute itself, is part of what is recorded.
    def in_namespace(self, *namespaces: str) -> bool:
        """Whether the proxy's namespace is one of these; shares units better than comparing
        `namespace`.
        """
        ...

    def matches(self, selector: Labels) -> bool:
        """Whether the proxy's labels have all pairs of *selector* (which some object of a known
        kind must use).
        """
        ...

    def label(self, name: str) -> str:
        """The proxy's label of that name, or ""; only for names that some failoverPriority
        lists, or a service that prefers its own node.
        """
        ...

    # What is in the world.
    @property
    def mesh(self) -> MeshConfig:
        """Mesh settings; each field that is read is recorded on its own."""
        ...

    @property
    def domain_suffix(self) -> str:
        """The mesh's Kubernetes domain, "cluster.local" unless set."""
        ...

    def sidecar(self) -> Config | None:
        """The Sidecar that selects these proxies."""
        ...

    def service(self, host: str) -> Service | None:
        """The one service of that host that these proxies see: exported to them and imported by
        their Sidecar; of several, their own namespace's first, then the oldest. Its addresses are
        those in the proxies' own cluster.
        """
        ...

    def service_in(self, namespace: str, host: str) -> Service | None:
        """That very service, if these proxies see it."""
        ...

    def endpoints(self, key: ServiceKey) -> tuple[Endpoint, ...]:
        """All endpoints of a service, in a stable order, whatever their health."""
        ...

    def merge_policy(self, key: ServiceKey) -> MergePolicy:
        """How the registries that serve a service share its traffic."""
        ...

    def gateways(self, network: str) -> tuple[NetworkGateway, ...]:
        """All ways into a network, sorted."""
        ...

    def http_on_port(self, port: int, wanted: Callable[[Service], bool]) -> bool:
        """Whether a visible service that is *wanted* speaks HTTP on that port.

        *wanted* may look at its namespace and host only.
        """
        ...

    def tcp_services_on_port(self, port: int) -> tuple[Service, ...]:
        """The visible services that speak something else than HTTP (or UDP) there, oldest first."""
        ...

    def tcp_services_without_address(self, port: int) -> tuple[Service, ...]:
        """Those of `tcp_services_on_port` that no virtual IP of their own tells apart: they have
        none, or a range.
        """
        ...

    def service_ports(self) -> tuple[int, ...]:
        """All port numbers of visible HTTP services. Changes with every new port: only for units
        that list ports.
        """
        ...

    def resolves_dynamically(self) -> bool:
        """Whether any service, visible or not, has resolution DYNAMIC_DNS."""
        ...

    def hosts_under(self, suffix: str) -> tuple[str, ...]:
        """Hosts of visible services that end in ``.<suffix>``, sorted; for wildcard rules only."""
        ...

    def services_at(self, address: str) -> tuple[ServiceKey, ...]:
        """Services that have this virtual IP, oldest first; those that have it in the proxies' own
        cluster before those that lend it from another one.
        """
        ...

    def configs(self, kind: str, host: str) -> tuple[Config, ...]:
        """Objects of *kind* whose (fully qualified) hosts name exactly this host or wildcard,
        oldest first, exported to these proxies.
        """
        ...

    def config(self, kind: str, namespace: str, name: str) -> Config | None:
        """That very object, whoever it is exported to."""
        ...

    # What is wrong with it.
    def report(
        self,
        origin: Origin,
        subject: str,
        message: str,
        *,
        path: str = "",
        severity: Severity = Severity.WARNING,
    ) -> None:
        """Tell the user something about an object; shown as long as the unit is built this way,
        logged once.
        """
        ...


class GeneratorSpec(Struct, frozen=True, eq=False):
    """Declares a generator: what it makes, for which units, for which clients, and what it may
    read. Compared by identity.

    `attributes` are names of the view's properties and `kinds` the config kinds that it may ask
    for: its view raises on any other. `clients` are ``envoy`` and ``grpc``. `part_of` names the
    type whose resource ``<group>`` contains this one's ``<group>/...`` for clients that cannot take
    them apart; `part_field` is the field that repeats.
    """

    kind: ResourceType
    roots: tuple[Root, ...]
    build: Callable[[View, Unit], Iterable[Resource]]
    attributes: frozenset[str]
    kinds: frozenset[str] = frozenset()
    clients: frozenset[str] = frozenset({"envoy"})
    part_of: ResourceType | None = None
    part_field: int = 0


GeneratorTable = Mapping[str, tuple[GeneratorSpec, ...]]
"""Generators by type URL."""
