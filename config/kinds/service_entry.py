"""ServiceEntry: services that no platform lists."""

from enum import StrEnum

from aggregator.model.service import Resolution
from config.kinds.workload_entry import WorkloadEntry
from config.message import Message, UInt32
from config.selector import WorkloadSelector


class Location(StrEnum):
    """Whether the service is thought of as part of the mesh."""

    MESH_EXTERNAL = "MESH_EXTERNAL"
    MESH_INTERNAL = "MESH_INTERNAL"


class ServicePort(Message, frozen=True):
    """A port; `target_port` is where its endpoints listen unless they say otherwise."""

    number: UInt32 = 0
    protocol: str = ""
    name: str = ""
    target_port: UInt32 = 0


class ServiceEntry(Message, frozen=True):
    """One or more hosts with the same ports and endpoints."""

    hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    location: Location = Location.MESH_EXTERNAL
    resolution: Resolution = Resolution.NONE
    endpoints: tuple[WorkloadEntry, ...] = ()
    workload_selector: WorkloadSelector | None = None
    export_to: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
