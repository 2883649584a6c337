"""How a client treats a service's endpoints: balancing, connections, outliers, TLS."""

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar, Final

from msgspec import field

from config.check import (
    Report,
    check_duration,
    check_non_negative,
    check_percent,
    check_port,
    host_fault,
    is_ip,
)
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

    minimum_ring_size: UInt64 = UInt64(0)


class MagLev(Message, frozen=True):
    """Consistent hashing by Maglev's table."""

    table_size: UInt64 = UInt64(0)


class CookieAttribute(Message, frozen=True):
    """A further attribute of a generated cookie."""

    NEEDS: ClassVar = ("name",)

    name: str = ""
    value: str = ""


class HTTPCookie(Message, frozen=True):
    """The cookie that is hashed; with `ttl` it is made where the client has none."""

    NEEDS: ClassVar = ("name",)

    name: str = ""
    path: str = ""
    ttl: Duration | None = None
    attributes: tuple[CookieAttribute, ...] = ()


class ConsistentHashLB(Message, frozen=True):
    """What is hashed (one of four), and how (one of two).

    `minimum_ring_size` is the older form of the ring's.
    """

    ONE_OF: ClassVar = (
        ("httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"),
        ("ringHash", "maglev"),
    )

    http_header_name: str = ""
    http_cookie: HTTPCookie | None = None
    use_source_ip: bool = False
    http_query_parameter_name: str = ""
    ring_hash: RingHash | None = None
    maglev: MagLev | None = None
    minimum_ring_size: UInt64 = UInt64(0)


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

    NEEDS: ClassVar = ("duration",)

    duration: Duration | None = None
    minimum_percent: float | None = None
    aggression: float | None = None


class LoadBalancerSettings(Message, frozen=True):
    """One of `simple` and `consistent_hash`, and preference by place.

    `warmup_duration_secs` is the older form of `warmup`.
    """

    ONE_OF: ClassVar = (
        ("simple", "consistentHash"),
        ("localityLbSetting", "zoneAwareLbSetting"),
    )

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

    NEEDS: ClassVar = ("interval", "timeout")

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

    NEEDS: ClassVar = ("port",)

    port: PortSelector | None = None
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None


class TunnelSettings(Message, frozen=True):
    """Send TCP through an HTTP proxy."""

    NEEDS: ClassVar = ("targetHost", "targetPort")

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

    ONE_OF: ClassVar = (("tunnel", "proxyProtocol"),)

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()
    tunnel: TunnelSettings | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None


REGION_LABEL: Final = "topology.kubernetes.io/region"
ZONE_LABEL: Final = "topology.kubernetes.io/zone"
SUBZONE_LABEL: Final = "topology.istio.io/subzone"
"""Labels by which failoverPriority can mean the parts of a locality."""

_PLACES: Final = frozenset({REGION_LABEL, ZONE_LABEL, SUBZONE_LABEL})
_LARGEST_MAGLEV: Final = 5_000_011


def failover_labels(policy: TrafficPolicy | None) -> frozenset[str]:
    """Names of proxy labels that decide which endpoints come first."""
    if policy is None:
        return frozenset()
    parts = (policy.load_balancer, *(each.load_balancer for each in policy.port_level_settings))
    return frozenset().union(*(_priority_labels(part) for part in parts if part is not None))


def _priority_labels(balancer: LoadBalancerSettings) -> frozenset[str]:
    listed = [
        setting.failover_priority
        for setting in (balancer.locality_lb_setting, balancer.zone_aware_lb_setting)
        if setting is not None
    ]
    return frozenset(entry.partition("=")[0] for entries in listed for entry in entries)


def check_traffic_policy(report: Report, path: str, policy: TrafficPolicy | None) -> None:
    """Demand something in it, and that each part is sound."""
    if policy is None:
        return
    if policy == TrafficPolicy():
        report.error(path, "expected at least one setting, found none")
    if policy.tunnel is not None and policy.proxy_protocol is not None:
        report.error(path, "expected only one of tunnel and proxyProtocol")
    _check_parts(report, path, policy)
    for index, port_policy in enumerate(policy.port_level_settings):
        where = f"{path}.portLevelSettings[{index}]"
        if port_policy.port is None:
            report.error(f"{where}.port", "required")
        if port_policy == PortTrafficPolicy(port=port_policy.port):
            report.error(where, "expected at least one setting beside the port")
        _check_parts(report, where, port_policy)
    _check_tunnel(report, f"{path}.tunnel", policy.tunnel)


def _check_parts(report: Report, path: str, policy: TrafficPolicy | PortTrafficPolicy) -> None:
    _check_outliers(report, f"{path}.outlierDetection", policy.outlier_detection)
    check_connection_pool(report, f"{path}.connectionPool", policy.connection_pool)
    _check_balancer(
        report,
        f"{path}.loadBalancer",
        policy.load_balancer,
        ejects=policy.outlier_detection is not None,
    )
    check_client_tls(report, f"{path}.tls", policy.tls)


def _check_tunnel(report: Report, path: str, tunnel: TunnelSettings | None) -> None:
    if tunnel is None:
        return
    if tunnel.protocol not in ("", "CONNECT", "POST"):
        report.error(f"{path}.protocol", f"expected CONNECT or POST, found {tunnel.protocol!r}")
    if not is_ip(tunnel.target_host) and (fault := host_fault(tunnel.target_host)):
        report.error(f"{path}.targetHost", fault)
    check_port(report, f"{path}.targetPort", tunnel.target_port)


def _check_outliers(report: Report, path: str, outlier: OutlierDetection | None) -> None:
    if outlier is None:
        return
    check_duration(report, f"{path}.baseEjectionTime", outlier.base_ejection_time)
    check_duration(report, f"{path}.interval", outlier.interval)
    check_percent(report, f"{path}.maxEjectionPercent", outlier.max_ejection_percent)
    check_percent(report, f"{path}.minHealthPercent", outlier.min_health_percent)
    if outlier.consecutive_errors:
        report.warn(
            f"{path}.consecutiveErrors",
            "deprecated; use consecutiveGatewayErrors or consecutive5xxErrors",
        )
    if outlier.consecutive_local_origin_failures and not outlier.split_external_local_origin_errors:
        report.error(
            f"{path}.consecutiveLocalOriginFailures",
            "has no effect unless splitExternalLocalOriginErrors is true",
        )


def check_connection_pool(report: Report, path: str, pool: ConnectionPoolSettings | None) -> None:
    """Demand limits and timeouts that Envoy takes."""
    if pool is None:
        return
    if pool.http is None and pool.tcp is None:
        report.error(path, "expected tcp or http")
    if pool.http is not None:
        _check_http_pool(report, f"{path}.http", pool.http)
    if pool.tcp is not None:
        check_non_negative(report, f"{path}.tcp.maxConnections", pool.tcp.max_connections)
        check_duration(report, f"{path}.tcp.connectTimeout", pool.tcp.connect_timeout)
        check_duration(
            report, f"{path}.tcp.maxConnectionDuration", pool.tcp.max_connection_duration
        )
        if pool.tcp.idle_timeout:  # 0 switches it off.
            check_duration(report, f"{path}.tcp.idleTimeout", pool.tcp.idle_timeout)
        if pool.tcp.tcp_keepalive is not None:
            where = f"{path}.tcp.tcpKeepalive"
            check_duration(report, f"{where}.time", pool.tcp.tcp_keepalive.time)
            check_duration(report, f"{where}.interval", pool.tcp.tcp_keepalive.interval)


def _check_http_pool(report: Report, path: str, http: HTTPSettings) -> None:
    for field_name, number in (
        ("http1MaxPendingRequests", http.http1_max_pending_requests),
        ("http2MaxRequests", http.http2_max_requests),
        ("maxRequestsPerConnection", http.max_requests_per_connection),
        ("maxRetries", http.max_retries),
        ("maxConcurrentStreams", http.max_concurrent_streams),
    ):
        check_non_negative(report, f"{path}.{field_name}", number)
    check_duration(report, f"{path}.idleTimeout", http.idle_timeout)
    if http.h2_upgrade_policy is H2UpgradePolicy.UPGRADE and http.use_client_protocol:
        report.error(f"{path}.useClientProtocol", "cannot be true where h2UpgradePolicy is UPGRADE")
    if http.http2_keep_alive is not None:
        for name, value in (
            ("interval", http.http2_keep_alive.interval),
            ("timeout", http.http2_keep_alive.timeout),
        ):
            if value is None:
                report.error(f"{path}.http2KeepAlive.{name}", "required")
            check_duration(report, f"{path}.http2KeepAlive.{name}", value)


def _check_balancer(
    report: Report, path: str, balancer: LoadBalancerSettings | None, *, ejects: bool
) -> None:
    if balancer is None:
        return
    if balancer.simple is not None and balancer.consistent_hash is not None:
        report.error(path, "expected only one of simple and consistentHash")
    if balancer.consistent_hash is not None:
        _check_hash(report, f"{path}.consistentHash", balancer.consistent_hash)
    if balancer.locality_lb_setting is not None and balancer.zone_aware_lb_setting is not None:
        report.error(path, "expected only one of localityLbSetting and zoneAwareLbSetting")
    check_locality_setting(
        report, f"{path}.localityLbSetting", balancer.locality_lb_setting, ejects=ejects
    )
    _check_zone_aware(
        report, f"{path}.zoneAwareLbSetting", balancer.zone_aware_lb_setting, ejects=ejects
    )
    if balancer.warmup is not None:
        warmup = balancer.warmup
        if warmup.duration is None:
            report.error(f"{path}.warmup.duration", "required")
        check_duration(report, f"{path}.warmup.duration", warmup.duration)
        if warmup.minimum_percent is not None and not warmup.minimum_percent <= 100:
            report.error(f"{path}.warmup.minimumPercent", "expected at most 100")
        if warmup.aggression is not None and not warmup.aggression > 0:
            report.error(f"{path}.warmup.aggression", "expected more than 0")


def _check_hash(report: Report, path: str, hashing: ConsistentHashLB) -> None:
    keys = (
        hashing.http_header_name,
        hashing.http_cookie,
        hashing.use_source_ip,
        hashing.http_query_parameter_name,
    )
    if sum(bool(key) for key in keys) > 1:
        report.error(
            path,
            "expected only one of httpHeaderName, httpCookie, useSourceIp, httpQueryParameterName",
        )
    if hashing.http_cookie is not None:
        _check_cookie(report, f"{path}.httpCookie", hashing.http_cookie)
    if hashing.minimum_ring_size:
        report.warn(f"{path}.minimumRingSize", "deprecated; use ringHash.minimumRingSize")
    sizes = (hashing.ring_hash, hashing.maglev, hashing.minimum_ring_size or None)
    if sum(size is not None for size in sizes) > 1:
        report.error(path, "expected only one of ringHash, maglev and minimumRingSize")
    if hashing.maglev is not None:
        size = hashing.maglev.table_size
        if size >= _LARGEST_MAGLEV or not _is_prime(size):
            report.error(
                f"{path}.maglev.tableSize",
                f"expected a prime below {_LARGEST_MAGLEV}, found {size}",
            )


def _is_prime(number: int) -> bool:
    if number < 2 or (number % 2 == 0 and number != 2):
        return False
    return all(number % factor for factor in range(3, int(number**0.5) + 1, 2))


def _check_cookie(report: Report, path: str, cookie: HTTPCookie) -> None:
    if not cookie.name:
        report.error(f"{path}.name", "required")
    seen: set[str] = set()
    for index, attribute in enumerate(cookie.attributes):
        if not attribute.name:
            report.error(f"{path}.attributes[{index}].name", "required")
        elif attribute.name in seen:
            report.error(f"{path}.attributes[{index}].name", f"{attribute.name!r} is there already")
        seen.add(attribute.name)


def check_locality_setting(
    report: Report, path: str, setting: LocalityLoadBalancerSetting | None, *, ejects: bool
) -> None:
    """Demand shares of 100, places that do not overlap, and outliers to be ejected for failover."""
    if setting is None:
        return
    if setting.distribute and setting.failover:
        report.error(path, "expected only one of distribute and failover")
    if setting.failover and _PLACES & set(setting.failover_priority):
        report.error(
            f"{path}.failoverPriority", "cannot name region, zone or subzone beside failover"
        )
    for index, share in enumerate(setting.distribute):
        where = f"{path}.distribute[{index}].to"
        if any(not 1 <= weight <= 100 for weight in share.to.values()):
            report.error(where, "expected weights from 1 to 100")
        elif sum(share.to.values()) != 100:
            report.error(where, f"expected weights that sum to 100, found {sum(share.to.values())}")
        _check_places(report, where, tuple(share.to))
    _check_places(report, f"{path}.distribute", tuple(each.from_ for each in setting.distribute))
    if (setting.failover or setting.failover_priority) and not ejects:
        report.warn(path, "failover has no effect without outlierDetection")
    _check_failover(report, f"{path}.failover", setting.failover)


def _check_zone_aware(
    report: Report, path: str, setting: ZoneAwareLoadBalancerSetting | None, *, ejects: bool
) -> None:
    if setting is None:
        return
    for index, label in enumerate(setting.failover_priority):
        if label in _PLACES:
            report.error(
                f"{path}.failoverPriority[{index}]", "region, zone and subzone are heeded anyway"
            )
    if (setting.failover or setting.failover_priority) and not ejects:
        report.warn(path, "failover has no effect without outlierDetection")
    _check_failover(report, f"{path}.failover", setting.failover)


def _check_failover(report: Report, path: str, failover: tuple[LocalityFailover, ...]) -> None:
    for index, each in enumerate(failover):
        if each.from_ == each.to:
            report.error(f"{path}[{index}]", "expected two different regions")
        if any("/" in region or "*" in region for region in (each.from_, each.to)):
            report.error(f"{path}[{index}]", "expected regions alone, without zones or wildcards")


def _check_places(report: Report, path: str, places: tuple[str, ...]) -> None:
    """Each is ``region[/zone[/subzone]]``, perhaps with ``*`` at its end.

    None may be covered by one before it; a wildcard may come after what it covers, as the rest.
    """
    seen: list[tuple[str, ...]] = []
    for place in places:
        parts = tuple(place.split("/", 2))
        if "" in parts or "*" in place[:-1]:
            report.error(path, f"expected region[/zone[/subzone]] or region/*, found {place!r}")
            continue
        rest = parts[-1] == "*"
        prefix = parts[:-1] if rest else parts
        covered = any(prefix[: len(other)] == other for other in seen)
        if covered or (not rest and any(other[: len(prefix)] == prefix for other in seen)):
            report.error(path, f"{place!r} overlaps with another place")
        seen.append(prefix)


def check_client_tls(report: Report, path: str, tls: ClientTLSSettings | None) -> None:
    """Demand the files or the credential that the mode needs, and not both."""
    if tls is None:
        return
    uses_files = tls.client_certificate or tls.ca_certificates or tls.private_key or tls.ca_crl
    if tls.insecure_skip_verify:
        verifies = tls.ca_certificates or tls.subject_alt_names
        if tls.mode is ClientTLSMode.SIMPLE and (verifies or tls.credential_name):
            report.error(
                f"{path}.insecureSkipVerify",
                "cannot be true beside caCertificates, credentialName or subjectAltNames",
            )
        if tls.mode is ClientTLSMode.MUTUAL and verifies:
            report.error(
                f"{path}.insecureSkipVerify",
                "cannot be true beside caCertificates or subjectAltNames",
            )
    if tls.mode not in (ClientTLSMode.SIMPLE, ClientTLSMode.MUTUAL):
        return
    if tls.credential_name:
        if uses_files:
            report.error(path, "expected either credentialName or files")
    elif tls.mode is ClientTLSMode.MUTUAL:
        if not tls.client_certificate:
            report.error(f"{path}.clientCertificate", "required for MUTUAL")
        if not tls.private_key:
            report.error(f"{path}.privateKey", "required for MUTUAL")
