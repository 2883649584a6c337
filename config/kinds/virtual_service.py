"""VirtualService: which requests and connections go where."""

from collections.abc import Mapping

from config.destination import RouteDestination
from config.http_route import HTTPRoute
from config.message import Message, UInt32


class L4MatchAttributes(Message, frozen=True):
    """Conditions on TCP connections."""

    destination_subnets: tuple[str, ...] = ()
    port: UInt32 = 0
    source_subnet: str = ""
    source_labels: Mapping[str, str] = {}
    gateways: tuple[str, ...] = ()
    source_namespace: str = ""


class TCPRoute(Message, frozen=True):
    """One TCP rule."""

    match: tuple[L4MatchAttributes, ...] = ()
    route: tuple[RouteDestination, ...] = ()


class TLSMatchAttributes(Message, frozen=True):
    """Conditions on TLS connections that pass through."""

    sni_hosts: tuple[str, ...] = ()
    destination_subnets: tuple[str, ...] = ()
    port: UInt32 = 0
    source_labels: Mapping[str, str] = {}
    gateways: tuple[str, ...] = ()
    source_namespace: str = ""


class TLSRoute(Message, frozen=True):
    """One TLS rule."""

    match: tuple[TLSMatchAttributes, ...] = ()
    route: tuple[RouteDestination, ...] = ()


class VirtualService(Message, frozen=True):
    """Rules of some hosts; without hosts it is the delegate of others."""

    hosts: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    http: tuple[HTTPRoute, ...] = ()
    tls: tuple[TLSRoute, ...] = ()
    tcp: tuple[TCPRoute, ...] = ()
    export_to: tuple[str, ...] = ()
