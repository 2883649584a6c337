"""Mesh settings: the fields of Istio's MeshConfig and MeshNetworks that something here reads."""

from collections.abc import Mapping
from enum import StrEnum

from config.duration import Duration
from config.http_route import HTTPRetry
from config.message import Message, UInt32
from config.traffic_policy import LocalityLoadBalancerSetting, TcpKeepalive


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
