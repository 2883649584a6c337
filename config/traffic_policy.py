"""How a client treats a service's endpoints: balancing, connections, outliers, TLS."""

from collections.abc import Mapping
from enum import StrEnum

from msgspec import field

from config.destination import PortSelector
from config.duration import Duration
from config.message import Int32, Message, UInt32, UInt64


class SimpleLB(StrEnum):
    """Balancing that looks at no request."""

    UNSPECIFIED = "UNSPECIFIED"
    LEAST_CONN = "LEAST_CONN"
    RANDOM = "RANDOM"
    PASSTHROUGH = "PASSTHROUGH"
    ROUND_ROBIN = "ROUND_ROBIN"
    LEAST_REQUEST = "LEAST_REQUEST"


class RingHash(Message, frozen=True):
    """Consistent hashing by a ring."""

    minimum_ring_size: UInt64 = 0


class MagLev(Message, frozen=True):
    """Consistent hashing by Maglev's table."""

    table_size: UInt64 = 0


class CookieAttribute(Message, frozen=True):
    """A further attribute of a generated cookie."""

    name: str = ""
    value: str = ""


class HTTPCookie(Message, frozen=True):
    """The cookie that is hashed; with `ttl` it is made where the client has none."""

    name: str = ""
    path: str = ""
    ttl: Duration | None = None
    attributes: tuple[CookieAttribute, ...] = ()


class ConsistentHashLB(Message, frozen=True):
    """What is hashed (one of four), and how (one of two).

    `minimum_ring_size` is the older form of the ring's.
    """

    http_header_name: str = ""
    http_cookie: HTTPCookie | None = None
    use_source_ip: bool = False
    http_query_parameter_name: str = ""
    ring_hash: RingHash | None = None
    maglev: MagLev | None = None
    minimum_ring_size: UInt64 = 0


class LocalityDistribute(Message, frozen=True):
    """Shares of the traffic of one locality (pattern) by destination locality."""

    from_: str = field(default="", name="from")
    to: Mapping[str, UInt32] = {}


class LocalityFailover(Message, frozen=True):
    """The region that takes over."""

    from_: str = field(default="", name="from")
    to: str = ""


class LocalityLoadBalancerSetting(Message, frozen=True):
    """Preference by place."""

    distribute: tuple[LocalityDistribute, ...] = ()
    failover: tuple[LocalityFailover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    enabled: bool | None = None


class ZoneAwareLoadBalancerSetting(Message, frozen=True):
    """Envoy's zone-aware routing."""

    enabled: bool | None = None
    failover: tuple[LocalityFailover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    min_cluster_size: UInt64 | None = None


class WarmupConfiguration(Message, frozen=True):
    """Slow start of new endpoints."""

    duration: Duration | None = None
    minimum_percent: float | None = None
    aggression: float | None = None


class LoadBalancerSettings(Message, frozen=True):
    """One of `simple` and `consistent_hash`, and preference by place.

    `warmup_duration_secs` is the older form of `warmup`.
    """

    simple: SimpleLB | None = None
    consistent_hash: ConsistentHashLB | None = None
    locality_lb_setting: LocalityLoadBalancerSetting | None = None
    zone_aware_lb_setting: ZoneAwareLoadBalancerSetting | None = None
    warmup_duration_secs: Duration | None = None
    warmup: WarmupConfiguration | None = None


class TcpKeepalive(Message, frozen=True):
    """SO_KEEPALIVE."""

    probes: UInt32 = 0
    time: Duration | None = None
    interval: Duration | None = None


class TCPSettings(Message, frozen=True):
    """Connections of every protocol."""

    max_connections: Int32 = 0
    connect_timeout: Duration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: Duration | None = None
    idle_timeout: Duration | None = None


class H2UpgradePolicy(StrEnum):
    """Whether HTTP/1.1 is spoken as HTTP/2 to the upstream."""

    DEFAULT = "DEFAULT"
    DO_NOT_UPGRADE = "DO_NOT_UPGRADE"
    UPGRADE = "UPGRADE"


class ConnectionKeepalive(Message, frozen=True):
    """HTTP/2 pings."""

    interval: Duration | None = None
    timeout: Duration | None = None


class HTTPSettings(Message, frozen=True):
    """Requests and HTTP connections."""

    http1_max_pending_requests: Int32 = 0
    http2_max_requests: Int32 = 0
    max_requests_per_connection: Int32 = 0
    max_retries: Int32 = 0
    idle_timeout: Duration | None = None
    h2_upgrade_policy: H2UpgradePolicy = H2UpgradePolicy.DEFAULT
    use_client_protocol: bool = False
    max_concurrent_streams: Int32 = 0
    http2_keep_alive: ConnectionKeepalive | None = None


class ConnectionPoolSettings(Message, frozen=True):
    """Limits and timeouts of connections."""

    tcp: TCPSettings | None = None
    http: HTTPSettings | None = None


class OutlierDetection(Message, frozen=True):
    """When an endpoint is ejected.

    `consecutive_errors` is the older form of `consecutive_gateway_errors`.
    """

    consecutive_errors: Int32 = 0
    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failures: UInt32 | None = None
    consecutive_gateway_errors: UInt32 | None = None
    consecutive_5xx_errors: UInt32 | None = field(default=None, name="consecutive5xxErrors")
    interval: Duration | None = None
    base_ejection_time: Duration | None = None
    max_ejection_percent: Int32 = 0
    min_health_percent: Int32 = 0
    outlier_detection_http_error_codes: tuple[UInt32, ...] = ()


class ClientTLSMode(StrEnum):
    """How the upstream connection is secured."""

    DISABLE = "DISABLE"
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"


class ClientTLSSettings(Message, frozen=True):
    """TLS towards the upstream."""

    mode: ClientTLSMode = ClientTLSMode.DISABLE
    client_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    credential_name: str = ""
    subject_alt_names: tuple[str, ...] = ()
    sni: str = ""
    insecure_skip_verify: bool | None = None
    ca_crl: str = ""


class PortTrafficPolicy(Message, frozen=True):
    """What replaces the policy for one port; what it lacks is the default, not the policy's."""

    port: PortSelector | None = None
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None


class TunnelSettings(Message, frozen=True):
    """Send TCP through an HTTP proxy."""

    protocol: str = ""
    target_host: str = ""
    target_port: UInt32 = 0


class ProxyProtocolVersion(StrEnum):
    """Versions of the PROXY protocol."""

    V1 = "V1"
    V2 = "V2"


class ProxyProtocol(Message, frozen=True):
    """Begin upstream connections with a PROXY header."""

    version: ProxyProtocolVersion = ProxyProtocolVersion.V1


class RetryBudget(Message, frozen=True):
    """Bounds concurrent retries by the requests in flight."""

    percent: float | None = None
    min_retry_concurrency: UInt32 = 0
    budget_interval: Duration | None = None


class TrafficPolicy(Message, frozen=True):
    """Everything that a DestinationRule says of a host or subset."""

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()
    tunnel: TunnelSettings | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None
