"""The mesh that is measured: services spread over namespaces, and the changes that are made to it.

The same number of services always gives the same content, so that what a client learns from one
server is true of the next.
"""

from enum import StrEnum
from typing import Final

from msgspec import Struct

from aggregator.model.config import Config
from aggregator.model.errors import Origin
from aggregator.model.registry import ServiceItem
from aggregator.model.service import Endpoint, Locality, Port, Protocol, Service
from config.kinds.virtual_service import VirtualService
from config.shape import decode_struct

PORTS: Final = (Port(8080, "http", Protocol.HTTP), Port(9090, "tcp", Protocol.TCP))


class Change(StrEnum):
    """What is done to the mesh in each round; on `CONNECT` all proxies come, and on `START` the
    daemon begins.
    """

    CONNECT = "connect"
    ENDPOINT = "endpoint"
    RULE = "rule"
    SERVICE = "service"
    RENAME = "file renamed"
    IN_PLACE = "file written in place"
    SLICE = "EndpointSlice written"
    START = "start with a cluster"


class Mesh(Struct, frozen=True):
    """How large it is."""

    services: int
    namespaces: int = 10
    endpoints: int = 10

    def namespace(self, number: int) -> str:
        """Services and proxies alike take turns in the namespaces."""
        return f"ns{number % self.namespaces}"

    def host(self, number: int) -> str:
        """The host of a service by its number."""
        return f"svc{number}.{self.namespace(number)}.svc.cluster.local"

    def item(self, number: int, first_address: str = "") -> ServiceItem:
        """A service with its endpoints, of which the first may be put somewhere else."""
        return self._item(self.host(number), number, first_address)

    def new_item(self, mark: str) -> ServiceItem:
        """One service more than there are, found by its *mark*."""
        number = self.services + int(mark.rpartition("-")[2])
        return self._item(f"{mark}.{self.namespace(0)}.svc.cluster.local", number, "")

    def _item(self, host: str, number: int, first_address: str) -> ServiceItem:
        namespace = host.split(".")[1]
        service = Service(
            host,
            namespace,
            ports=PORTS,
            addresses=(f"10.{192 + (number >> 16)}.{number >> 8 & 255}.{number & 255}",),
        )
        endpoints = (
            Endpoint(
                address=first_address if first_address and not index else address(number, index),
                ports=(("http", 8080), ("tcp", 9090)),
                locality=Locality("r1", f"z{index % 3}"),
            )
            for index in range(self.endpoints)
        )
        return ServiceItem(namespace, host, service, tuple(endpoints))

    def rule(self, number: int, mark: str) -> Config:
        """A VirtualService that routes a service to itself and sets a header to *mark*."""
        host = self.host(number)
        spec = {
            "hosts": [host],
            "http": [
                {
                    "route": [{"destination": {"host": host}}],
                    "headers": {"request": {"set": {"x-mark": mark}}},
                }
            ],
        }
        decoded = decode_struct(spec, VirtualService, "spec", lambda _: Origin())
        return Config("VirtualService", self.namespace(number), f"svc{number}", decoded)


def address(number: int, index: int) -> str:
    """The address of a service's endpoint."""
    value = number * 64 + index
    return f"10.{1 + (value >> 16)}.{value >> 8 & 255}.{value & 255}"


def mark_of(change: Change, round_number: int) -> str:
    """The text that the change of a round brings to each proxy."""
    if change is Change.RULE:
        return f"mark-{round_number:04}"
    if change is Change.SERVICE:
        return f"new-{round_number:04}"
    return f"172.16.{round_number >> 8}.{round_number & 255}"
