"""Mesh settings: the fields of Istio's MeshConfig and MeshNetworks that something here reads."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from msgspec import structs

from aggregator.model.errors import Origin, Problem, Severity
from config.check import (
    Report,
    check_duration,
    check_export_to,
    check_host,
    check_ip,
    check_locality,
    check_port,
    check_subnet,
    host_fault,
    is_dns_label,
)
from config.documents import Position, field_path
from config.duration import Duration
from config.http_route import HTTPRetry, check_retry
from config.message import Message, UInt32
from config.selector import LabelSelector, check_label_selector
from config.traffic_policy import (
    LocalityLoadBalancerSetting,
    TcpKeepalive,
    check_locality_setting,
)


class AccessLogEncoding(StrEnum):
    """How access log lines are written."""

    TEXT = "TEXT"
    JSON = "JSON"


class MeshOutboundTrafficMode(StrEnum):
    """What happens to traffic to unknown hosts."""

    REGISTRY_ONLY = "REGISTRY_ONLY"
    ALLOW_ANY = "ALLOW_ANY"


class MeshOutboundTrafficPolicy(Message, frozen=True):
    """The default for proxies whose Sidecar says nothing."""

    mode: MeshOutboundTrafficMode = MeshOutboundTrafficMode.ALLOW_ANY


class MeshH2UpgradePolicy(StrEnum):
    """Whether HTTP/1.1 is spoken as HTTP/2 to upstreams unless a DestinationRule says otherwise."""

    DO_NOT_UPGRADE = "DO_NOT_UPGRADE"
    UPGRADE = "UPGRADE"


class ProxyDefaults(Message, frozen=True):
    """The part of ProxyConfig that the control plane reads."""

    drain_duration: Duration = Duration(45)


class ServiceScope(Message, frozen=True):
    """`cluster_local`: only endpoints of the proxy's own cluster serve."""

    cluster_local: bool = False


class ServiceSetting(Message, frozen=True):
    """Settings of the services whose hosts match; the most specific pattern decides."""

    settings: ServiceScope | None = None
    hosts: tuple[str, ...] = ()


class MeshConfig(Message, frozen=True):
    """Mesh-wide settings; defaults are Istio's."""

    root_namespace: str = "istio-system"
    connect_timeout: Duration = Duration(10)
    dns_refresh_rate: Duration = Duration(60)
    locality_lb_setting: LocalityLoadBalancerSetting | None = LocalityLoadBalancerSetting(
        enabled=True
    )
    outbound_traffic_policy: MeshOutboundTrafficPolicy = MeshOutboundTrafficPolicy()
    proxy_listen_port: UInt32 = 15001
    proxy_inbound_listen_port: UInt32 = 15006
    proxy_http_port: UInt32 = 0
    default_service_export_to: tuple[str, ...] = ("*",)
    default_virtual_service_export_to: tuple[str, ...] = ("*",)
    default_destination_rule_export_to: tuple[str, ...] = ("*",)
    default_http_retry_policy: HTTPRetry | None = None
    default_config: ProxyDefaults = ProxyDefaults()
    tcp_keepalive: TcpKeepalive | None = None
    h2_upgrade_policy: MeshH2UpgradePolicy = MeshH2UpgradePolicy.DO_NOT_UPGRADE
    access_log_file: str = ""
    access_log_format: str = ""
    access_log_encoding: AccessLogEncoding = AccessLogEncoding.TEXT
    service_settings: tuple[ServiceSetting, ...] = ()
    discovery_selectors: tuple[LabelSelector, ...] = ()


class NetworkEndpoints(Message, frozen=True):
    """Which endpoints are in a network: those in a range of addresses, or those of one cluster."""

    from_cidr: str = ""
    from_registry: str = ""


class IstioNetworkGateway(Message, frozen=True):
    """A way into a network: a service by name, or an address."""

    registry_service_name: str = ""
    address: str = ""
    port: UInt32 = 0
    locality: str = ""


class Network(Message, frozen=True):
    """One network."""

    endpoints: tuple[NetworkEndpoints, ...] = ()
    gateways: tuple[IstioNetworkGateway, ...] = ()


class MeshNetworks(Message, frozen=True):
    """All networks by name."""

    networks: Mapping[str, Network] = {}


_UNUSED: Final[Mapping[str, frozenset[str]]] = {
    "": frozenset(
        [
            "ca",
            "caCertificates",
            "certificates",
            "configSources",
            "defaultProviders",
            "defaultTrafficPolicy",
            "disableEnvoyListenerLog",
            "enableAutoMtls",
            "enableEnvoyAccessLogService",
            "enablePrometheusMerge",
            "enableTracing",
            "extensionProviders",
            "hboneIdleTimeout",
            "inboundClusterStatName",
            "inboundTrafficPolicy",
            "ingressClass",
            "ingressControllerMode",
            "ingressSelector",
            "ingressService",
            "meshMTLS",
            "outboundClusterStatName",
            "pathNormalization",
            "protocolDetectionTimeout",
            "serviceEntryVisibility",
            "serviceScopeConfigs",
            "tlsDefaults",
            "trustDomain",
            "trustDomainAliases",
            "verifyCertificateAtClient",
            "zoneAwareLbSetting",
        ]
    ),
    "outboundTrafficPolicy": frozenset({"tls"}),
    "defaultConfig": frozenset(
        [
            "availabilityZone",
            "binaryPath",
            "caCertificatesPem",
            "concurrency",
            "configPath",
            "connectionSettings",
            "controlPlaneAuthPolicy",
            "customConfigFile",
            "discoveryAddress",
            "discoveryRefreshDelay",
            "envoyAccessLogService",
            "envoyMetricsService",
            "envoyMetricsServiceAddress",
            "extraStatTags",
            "fileFlushInterval",
            "fileFlushMinSizeKb",
            "gatewayTopology",
            "holdApplicationUntilProxyStarts",
            "image",
            "interceptionMode",
            "meshId",
            "privateKeyProvider",
            "proxyAdminPort",
            "proxyBootstrapTemplatePath",
            "proxyHeaders",
            "proxyMetadata",
            "proxyStatsMatcher",
            "readinessProbe",
            "runtimeValues",
            "sds",
            "serviceCluster",
            "statNameLength",
            "statsCompression",
            "statsdUdpAddress",
            "statusPort",
            "terminationDrainDuration",
            "tracing",
            "tracingServiceName",
            "zipkinAddress",
        ]
    ),
}
"""Istio's fields that nothing here reads, by the message that they are in; they are taken, with
a warning, so that a mesh's settings can be brought along.
"""


def without_unused(data: Any, path: str, position: Position) -> tuple[Any, tuple[Problem, ...]]:
    """Take out, with a warning each, the fields that Istio knows and nothing here reads."""
    if not isinstance(data, dict):
        return data, ()
    kept = dict(data)
    warnings: list[Problem] = []
    for message, names in _UNUSED.items():
        inner = kept.get(message) if message else kept
        if not isinstance(inner, dict):
            continue
        prefix = field_path(path, message) if message else path
        for name in sorted(names & inner.keys()):
            where = field_path(prefix, name)
            text = "accepted, but nothing uses it yet"
            warnings.append(Problem(position(where), where, text, Severity.WARNING))
        rest = {name: value for name, value in inner.items() if name not in names}
        kept = kept | {message: rest} if message else rest
    return kept, tuple(warnings)


def validate_mesh(mesh: MeshConfig, path: str, position: Position) -> list[Problem]:
    """Everything that is wrong with the values, errors and warnings."""
    report = Report(Origin())
    if not is_dns_label(mesh.root_namespace):
        where = field_path(path, "rootNamespace")
        report.error(where, f"expected a namespace, found {mesh.root_namespace!r}")
    for name, seconds in (
        ("connectTimeout", mesh.connect_timeout),
        ("dnsRefreshRate", mesh.dns_refresh_rate),
        ("defaultConfig.drainDuration", mesh.default_config.drain_duration),
    ):
        check_duration(report, f"{path}.{name}" if path else name, seconds)
    check_port(report, field_path(path, "proxyListenPort"), mesh.proxy_listen_port)
    check_port(report, field_path(path, "proxyInboundListenPort"), mesh.proxy_inbound_listen_port)
    if mesh.proxy_http_port:
        check_port(report, field_path(path, "proxyHttpPort"), mesh.proxy_http_port)
    for name, values in (
        ("defaultServiceExportTo", mesh.default_service_export_to),
        ("defaultVirtualServiceExportTo", mesh.default_virtual_service_export_to),
        ("defaultDestinationRuleExportTo", mesh.default_destination_rule_export_to),
    ):
        others = tuple(value for value in values if value != ".")
        check_export_to(report, field_path(path, name), others, "", none=True)
    check_retry(report, field_path(path, "defaultHttpRetryPolicy"), mesh.default_http_retry_policy)
    where = field_path(path, "localityLbSetting")
    check_locality_setting(report, where, mesh.locality_lb_setting, ejects=True)
    for index, setting in enumerate(mesh.service_settings):
        for number, host in enumerate(setting.hosts):
            if fault := host_fault(host, wildcard=True):
                report.error(
                    field_path(path, "serviceSettings") + f"[{index}].hosts[{number}]", fault
                )
    for index, selector in enumerate(mesh.discovery_selectors):
        where = field_path(path, "discoverySelectors") + f"[{index}]"
        check_label_selector(report, where, selector)
    if mesh.tcp_keepalive is not None:
        where = field_path(path, "tcpKeepalive")
        check_duration(report, f"{where}.time", mesh.tcp_keepalive.time)
        check_duration(report, f"{where}.interval", mesh.tcp_keepalive.interval)
    return [structs.replace(each, origin=position(each.path)) for each in report.problems]


def validate_networks(networks: Mapping[str, Network], position: Position) -> list[Problem]:
    """Everything that is wrong with the section `networks` of the settings."""
    report = Report(Origin())
    for name, network in networks.items():
        path = field_path("networks", name)
        for index, of in enumerate(network.endpoints):
            where = f"{path}.endpoints[{index}]"
            if bool(of.from_cidr) == bool(of.from_registry):
                report.error(where, "expected one of fromCidr and fromRegistry")
            elif of.from_cidr:
                check_subnet(report, f"{where}.fromCidr", of.from_cidr)
        for index, gateway in enumerate(network.gateways):
            _check_gateway(report, f"{path}.gateways[{index}]", gateway)
    return [structs.replace(each, origin=position(each.path)) for each in report.problems]


def _check_gateway(report: Report, path: str, gateway: IstioNetworkGateway) -> None:
    if bool(gateway.address) == bool(gateway.registry_service_name):
        report.error(path, "expected one of address and registryServiceName")
    elif gateway.registry_service_name:
        check_host(report, f"{path}.registryServiceName", gateway.registry_service_name)
    elif gateway.address[0].isdigit() or ":" in gateway.address:
        check_ip(report, f"{path}.address", gateway.address)
    else:
        check_host(report, f"{path}.address", gateway.address)
    check_port(report, f"{path}.port", gateway.port)
    check_locality(report, f"{path}.locality", gateway.locality)
