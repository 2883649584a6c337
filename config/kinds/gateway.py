"""Gateway: what routers listen on."""

from collections.abc import Mapping

from config.message import Message, UInt32
from config.server_tls import ServerTLSSettings


class Port(Message, frozen=True):
    """A port of a router; `target_port` has no effect any more."""

    number: UInt32 = 0
    protocol: str = ""
    name: str = ""
    target_port: UInt32 = 0


class Server(Message, frozen=True):
    """One port with its hosts, each ``[namespace/]host``."""

    port: Port | None = None
    bind: str = ""
    hosts: tuple[str, ...] = ()
    tls: ServerTLSSettings | None = None
    default_endpoint: str = ""
    name: str = ""


class Gateway(Message, frozen=True):
    """Servers on the routers that have all labels of `selector`."""

    servers: tuple[Server, ...] = ()
    selector: Mapping[str, str] = {}
