"""Where traffic is sent to: a host, one of its subsets, a port."""

from config.message import Int32, Message, UInt32


class PortSelector(Message, frozen=True):
    """A port of a service by number."""

    number: UInt32 = 0


class Percent(Message, frozen=True):
    """0 to 100, fractions included."""

    value: float = 0.0


class Destination(Message, frozen=True):
    """A service's host as the rule's author wrote it (see `config.host.resolve_host`)."""

    host: str = ""
    subset: str = ""
    port: PortSelector | None = None


class RouteDestination(Message, frozen=True):
    """A weighted destination of TCP or TLS."""

    destination: Destination = Destination()
    weight: Int32 = 0
