"""WorkloadEntry: one workload outside Kubernetes, as ServiceEntry's endpoints are too."""

from collections.abc import Mapping

from config.message import Message, UInt32


class WorkloadEntry(Message, frozen=True):
    """An address (IP, host name or ``unix:///path``) with its labels and place.

    `ports` maps port names to numbers. `weight` 0 means that none was given.
    """

    address: str = ""
    ports: Mapping[str, UInt32] = {}
    labels: Mapping[str, str] = {}
    network: str = ""
    locality: str = ""
    weight: UInt32 = 0
    service_account: str = ""
