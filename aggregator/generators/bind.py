"""Where a listener stands: addresses of Envoy's listeners and the names that follow from them."""

from ipaddress import ip_address, ip_network

from envoy.config.core.v3 import address_pb2
from msgspec import Struct

from aggregator.generators.spec import View

UNIX = "unix://"


class Bind(Struct, frozen=True):
    """`address` is an IP address, or ``unix://<path>`` with port 0.

    An unbound one is reached by redirection only.
    """

    address: str
    port: int
    bound: bool = True

    @property
    def name(self) -> str:
        """The listener's name, as Istio forms it."""
        return f"{self.address}_{self.port}"

    @property
    def is_unix(self) -> bool:
        """Whether it is a Unix socket, for which ports and subnets mean nothing."""
        return self.address.startswith(UNIX)

    def build_address(self) -> address_pb2.Address:
        """Envoy's form of it."""
        if self.is_unix:
            return address_pb2.Address(pipe=address_pb2.Pipe(path=self.address.removeprefix(UNIX)))
        return address_pb2.Address(
            socket_address=address_pb2.SocketAddress(address=self.address, port_value=self.port)
        )


def loopback(view: View) -> str:
    """The address for listeners that applications on the same machine dial."""
    return "127.0.0.1" if view.ipv4 else "::1"


def wildcard(view: View) -> str:
    """The address that stands for any."""
    return "0.0.0.0" if view.ipv4 else "::"  # noqa: S104


def build_cidr(subnet: str) -> address_pb2.CidrRange:
    """Envoy's form of an address or a CIDR range; host bits are cut off.

    Raises ValueError if it is neither.
    """
    network = ip_network(subnet, strict=False)
    cidr = address_pb2.CidrRange(address_prefix=str(network.network_address))
    cidr.prefix_len.value = network.prefixlen
    return cidr


def is_address(text: str) -> bool:
    """Whether *text* is an IP address of one machine, so neither a range nor "any"."""
    try:
        return not ip_address(text).is_unspecified
    except ValueError:
        return False


def is_range(text: str) -> bool:
    """Whether *text* is a CIDR range."""
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" in text
