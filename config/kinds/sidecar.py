"""Sidecar: what a group of proxies sees of the mesh, and the ports that they open."""

from enum import StrEnum

from config.destination import Destination
from config.message import Message, UInt32
from config.selector import WorkloadSelector
from config.server_tls import ServerTLSSettings
from config.traffic_policy import ConnectionPoolSettings


class CaptureMode(StrEnum):
    """Whether traffic reaches the listener by redirection."""

    DEFAULT = "DEFAULT"
    IPTABLES = "IPTABLES"
    NONE = "NONE"


class OutboundTrafficMode(StrEnum):
    """What happens to traffic to unknown hosts."""

    REGISTRY_ONLY = "REGISTRY_ONLY"
    ALLOW_ANY = "ALLOW_ANY"


class SidecarPort(Message, frozen=True):
    """A port of a proxy; number 0 with `bind` ``unix://…`` is a socket.

    `target_port` has no effect any more.
    """

    number: UInt32 = 0
    protocol: str = ""
    name: str = ""
    target_port: UInt32 = 0


class IstioIngressListener(Message, frozen=True):
    """A port on which the workload is reached."""

    port: SidecarPort | None = None
    bind: str = ""
    capture_mode: CaptureMode = CaptureMode.DEFAULT
    default_endpoint: str = ""
    tls: ServerTLSSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None


class IstioEgressListener(Message, frozen=True):
    """Hosts (``namespace/host``) that the workload may reach, on one port or on theirs."""

    port: SidecarPort | None = None
    bind: str = ""
    capture_mode: CaptureMode = CaptureMode.DEFAULT
    hosts: tuple[str, ...] = ()


class OutboundTrafficPolicy(Message, frozen=True):
    """What happens to traffic to unknown hosts, and through whom it goes."""

    mode: OutboundTrafficMode = OutboundTrafficMode.REGISTRY_ONLY
    egress_proxy: Destination | None = None


class Sidecar(Message, frozen=True):
    """Without a selector it holds for the namespace; in the root namespace, for the mesh."""

    workload_selector: WorkloadSelector | None = None
    ingress: tuple[IstioIngressListener, ...] = ()
    egress: tuple[IstioEgressListener, ...] = ()
    inbound_connection_pool: ConnectionPoolSettings | None = None
    outbound_traffic_policy: OutboundTrafficPolicy | None = None
