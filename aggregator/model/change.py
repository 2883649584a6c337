"""The typed changes that the registry layer raises and the push engine takes in."""

from msgspec import Struct

from aggregator.model.config import ConfigKey
from aggregator.model.service import ServiceKey


class ServiceChanged(Struct, frozen=True, gc=False):
    """A service appeared, went away, or changed in anything but its endpoints."""

    key: ServiceKey


class EndpointsChanged(Struct, frozen=True, gc=False):
    """Only the endpoints of a service changed."""

    key: ServiceKey


class ConfigChanged(Struct, frozen=True, gc=False):
    """A traffic rule appeared, went away or changed in content."""

    key: ConfigKey


class PlaceChanged(Struct, frozen=True, gc=False):
    """A namespace's labels or a network's gateways changed."""

    name: str


class WorkloadMoved(Struct, frozen=True, gc=False):
    """A workload with this address is in another place now, or the first or the last one is."""

    address: str


class MeshChanged(Struct, frozen=True, gc=False):
    """Mesh settings changed: everything may differ."""


Change = (
    ServiceChanged | EndpointsChanged | ConfigChanged | PlaceChanged | WorkloadMoved | MeshChanged
)
