"""The names of clusters on the wire, which are Istio's, so that its users and tools know them."""

from typing import Final

from msgspec import Struct

BLACK_HOLE: Final = "BlackHoleCluster"
PASSTHROUGH: Final = "PassthroughCluster"
OUTBOUND: Final = "outbound"
INBOUND: Final = "inbound"


class OutboundName(Struct, frozen=True, order=True):
    """What the name of an outbound cluster says; `subset` is empty for the whole service."""

    port: int
    subset: str
    host: str

    def __str__(self) -> str:
        """The form that `parse_outbound` reads."""
        return outbound_cluster(self.host, self.port, self.subset)


def outbound_cluster(host: str, port: int, subset: str = "") -> str:
    """The cluster of a service's port, or of a subset of its endpoints."""
    return f"{OUTBOUND}|{port}|{subset}|{host}"


def inbound_cluster(port: int) -> str:
    """The cluster of the workload's own port."""
    return f"{INBOUND}|{port}||"


def parse_outbound(name: str) -> OutboundName | None:
    """Read the name of an outbound cluster; None if it is something else."""
    parts = name.split("|")
    if len(parts) != 4 or parts[0] != OUTBOUND or not parts[1].isdecimal():
        return None
    return OutboundName(int(parts[1]), parts[2], parts[3])


def stat_name(cluster: str) -> str:
    """The name in statistics: the delimiter tells where a host name, which has dots, ends."""
    return f"{cluster};"
