"""Services, endpoints and workloads: what every registry's knowledge is normalised into."""

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from sys import intern

from msgspec import Struct

from aggregator.model.errors import Origin

Labels = tuple[tuple[str, str], ...]
"""Sorted pairs: hashable, cheap to share, equal when the content is."""


def labels_of(pairs: Mapping[str, str]) -> Labels:
    """Sort and intern, because the same few keys and values recur on every endpoint."""
    return tuple(sorted((intern(key), intern(value)) for key, value in pairs.items()))


def labels_match(selector: Labels, labels: Labels) -> bool:
    """Whether every pair of *selector* is in *labels*; an empty selector matches everything."""
    return not selector or set(selector) <= set(labels)


class Locality(Struct, frozen=True, order=True, gc=False):
    """Region, zone and subzone, as Envoy's `core.v3.Locality`."""

    region: str = ""
    zone: str = ""
    subzone: str = ""

    @classmethod
    def parse(cls, text: str) -> "Locality":
        """Read ``region/zone/subzone``; missing parts are empty, and a missing region voids the
        rest.
        """
        region, _, rest = text.partition("/")
        zone, _, subzone = rest.partition("/")
        return cls(intern(region), intern(zone), intern(subzone)) if region else NOWHERE

    def __str__(self) -> str:
        """The form that `parse` reads."""
        return "/".join((self.region, self.zone, self.subzone)).rstrip("/")


NOWHERE = Locality()


class Protocol(StrEnum):
    """What is spoken on a service port; the names are Istio's."""

    HTTP = "HTTP"
    HTTP2 = "HTTP2"
    GRPC = "GRPC"
    GRPC_WEB = "GRPC-WEB"
    HTTP_PROXY = "HTTP_PROXY"
    HTTPS = "HTTPS"
    TLS = "TLS"
    TCP = "TCP"
    MONGO = "MONGO"
    MYSQL = "MYSQL"
    REDIS = "REDIS"
    UDP = "UDP"

    @property
    def is_http(self) -> bool:
        """Whether Envoy sees requests, so that HTTP routes apply."""
        return self in _HTTP

    @property
    def is_http2(self) -> bool:
        """Whether the upstream is spoken to in HTTP/2."""
        return self in _HTTP2

    @property
    def is_tls(self) -> bool:
        """Whether the client's bytes are TLS that the proxy passes through, routed by SNI."""
        return self in _TLS

    @classmethod
    def parse(cls, text: str) -> "Protocol | None":
        """Read any spelling that Istio and Kubernetes know (case-insensitive), or None."""
        return _SPELLINGS.get(text.lower())

    @classmethod
    def of_port_name(cls, name: str) -> "Protocol | None":
        """Istio's rule for port names: ``<protocol>`` or ``<protocol>-<anything>``; ``grpc-web`` is
        a protocol.
        """
        lowered = name.lower()
        if lowered == "grpc-web" or lowered.startswith("grpc-web-"):
            return cls.GRPC_WEB
        return _SPELLINGS.get(lowered.partition("-")[0])


_HTTP = frozenset(
    {Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB, Protocol.HTTP_PROXY}
)
_HTTP2 = frozenset({Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB})
_TLS = frozenset({Protocol.HTTPS, Protocol.TLS})
_SPELLINGS = {each.value.lower(): each for each in Protocol} | {
    "kubernetes.io/h2c": Protocol.HTTP2,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.HTTPS,
    "http/1.1": Protocol.HTTP,
    "h2c": Protocol.HTTP2,
}


class Port(Struct, frozen=True, order=True):
    """A service's port. `target` is where endpoints that name no port of their own listen; 0 means
    `number`. With a `target_name` it is the port that they have under that name, and those that
    have none do not serve it.
    """

    number: int
    name: str = ""
    protocol: Protocol = Protocol.TCP
    target: int = 0
    target_name: str = ""


class Health(IntEnum):
    """An endpoint's condition as its registry tells it; only `READY` ones are sent unless the
    service asks for more.
    """

    READY = 0
    NOT_READY = 1
    DRAINING = 2
    TERMINATING = 3


class Endpoint(Struct, frozen=True, order=True, gc=False):
    """One address that serves, with its place and provenance.

    `address` is an IP address, a host name (services resolved by DNS) or a Unix socket (see
    `is_socket`). `ports` maps names of service ports to numbers; a port that it lacks is at the
    service port's target, and number 0 says that it does not serve that port. `weight` 0 means
    drained.
    """

    address: str
    ports: tuple[tuple[str, int], ...] = ()
    labels: Labels = ()
    locality: Locality = NOWHERE
    network: str = ""
    cluster_id: str = ""
    weight: int = 1
    health: Health = Health.READY
    service_account: str = ""
    hostname: str = ""
    node: str = ""
    registry: str = ""

    def port_number(self, port: Port) -> int:
        """Where this endpoint serves *port*; 0 if it does not."""
        for name, number in self.ports:
            if name == port.name:
                return number
        if port.target_name:
            return dict(self.ports).get(port.target_name, 0)
        return port.target or port.number


def is_socket(address: str) -> bool:
    """Whether it is a Unix socket: an absolute path, or ``@`` and a name without a file."""
    return address.startswith(("/", "@"))


class Resolution(StrEnum):
    """How a service's endpoints are found; the names are ServiceEntry's, and decide the Envoy
    cluster's type.
    """

    STATIC = "STATIC"
    DNS = "DNS"
    DNS_ROUND_ROBIN = "DNS_ROUND_ROBIN"
    DYNAMIC_DNS = "DYNAMIC_DNS"
    NONE = "NONE"


class TrafficDistribution(StrEnum):
    """Which endpoints a service prefers by itself, where no DestinationRule says otherwise; the
    names are those of Kubernetes, in which PreferClose is an older word for PreferSameZone.
    """

    ANY = ""
    PREFER_SAME_ZONE = "PreferSameZone"
    PREFER_SAME_NODE = "PreferSameNode"

    @classmethod
    def parse(cls, text: str) -> "TrafficDistribution | None":
        """Read any spelling of a Service's field or of Istio's annotation, or None."""
        return _DISTRIBUTIONS.get(text.lower())


_DISTRIBUTIONS = {each.value.lower(): each for each in TrafficDistribution} | {
    "preferclose": TrafficDistribution.PREFER_SAME_ZONE
}


class Service(Struct, frozen=True):
    """One host in one namespace, without its endpoints, which change far more often.

    `addresses` are virtual IPs or CIDR ranges; of a merged service they are everyone's, and
    `cluster_addresses` says which of them belong to a cluster, the first definition's first.
    `external_addresses` lead to it from outside its cluster (IP addresses and host names of load
    balancers). `export_to` holds namespaces, ``.``, ``*`` or ``~``. `created` is seconds since the
    epoch, 0 where the registry does not tell; ties of age go by name. `registries` lists who
    defines it, precedence first.
    """

    host: str
    namespace: str
    ports: tuple[Port, ...] = ()
    addresses: tuple[str, ...] = ()
    resolution: Resolution = Resolution.STATIC
    mesh_external: bool = False
    export_to: tuple[str, ...] = ("*",)
    labels: Labels = ()
    selector: Labels = ()
    subject_alt_names: tuple[str, ...] = ()
    headless: bool = False
    publish_not_ready: bool = False
    traffic_distribution: TrafficDistribution = TrafficDistribution.ANY
    external_addresses: tuple[str, ...] = ()
    cluster_addresses: tuple[tuple[str, tuple[str, ...]], ...] = ()
    created: float = 0.0
    registries: tuple[str, ...] = ()
    origin: Origin = Origin()

    @property
    def key(self) -> "ServiceKey":
        """What identifies it in the mesh."""
        return ServiceKey(self.namespace, self.host)

    def port(self, number: int) -> Port | None:
        """The port of that number, if there is one."""
        return next((port for port in self.ports if port.number == number), None)

    def visible_in(self, namespace: str) -> bool:
        """Whether `export_to` lets proxies of *namespace* see it."""
        return any(
            to == "*" or to == namespace or (to == "." and self.namespace == namespace)
            for to in self.export_to
        )


class ServiceKey(Struct, frozen=True, order=True, gc=False):
    """Namespace and host: the same host in two namespaces is two services."""

    namespace: str
    host: str

    def __str__(self) -> str:
        """``namespace/host``, as in Sidecar's egress hosts."""
        return f"{self.namespace}/{self.host}"


class Workload(Struct, frozen=True):
    """A pod or VM that services of any registry may select: an endpoint's facts before any
    service's ports are known.
    """

    name: str
    namespace: str
    endpoint: Endpoint
    origin: Origin = Origin()
