"""Where traffic is sent to: a host, one of its subsets, a port."""

from collections.abc import Sequence
from typing import ClassVar

from config.check import Report, check_host, check_port, is_dns_label
from config.message import Int32, Message, UInt32


class PortSelector(Message, frozen=True):
    """A port of a service by number."""

    number: UInt32 = 0


class Percent(Message, frozen=True):
    """0 to 100, fractions included."""

    value: float = 0.0


class Destination(Message, frozen=True):
    """A service's host as the rule's author wrote it.

    `config.host.resolve_host` completes it.
    """

    NEEDS: ClassVar = ("host",)

    host: str = ""
    subset: str = ""
    port: PortSelector | None = None


class RouteDestination(Message, frozen=True):
    """A weighted destination of TCP or TLS."""

    NEEDS: ClassVar = ("destination",)

    destination: Destination = Destination()
    weight: Int32 = 0


def check_destination(report: Report, path: str, destination: Destination | None) -> None:
    """Demand a host that can be resolved and a usable subset and port."""
    if destination is None:
        return
    if destination.host == "*":
        report.error(f"{path}.host", "expected one host, found '*'")
    else:
        check_host(report, f"{path}.host", destination.host, wildcard=True)
    if destination.subset and not is_dns_label(destination.subset):
        report.error(f"{path}.subset", f"expected a subset's name, found {destination.subset!r}")
    if destination.port is not None:
        check_port(report, f"{path}.port.number", destination.port.number)


def check_weights(report: Report, path: str, weights: Sequence[int]) -> None:
    """Demand weights of which some destination gets traffic."""
    for index, weight in enumerate(weights):
        if weight < 0:
            report.error(f"{path}[{index}].weight", f"expected 0 or more, found {weight}")
    if len(weights) > 1 and sum(weights) == 0:
        report.error(path, "expected weights whose sum is above 0")


def check_route_destinations(
    report: Report, path: str, routes: tuple[RouteDestination, ...]
) -> None:
    """Demand at least one destination."""
    if not routes:
        report.error(path, "expected at least one destination")
    for index, route in enumerate(routes):
        check_destination(report, f"{path}[{index}].destination", route.destination)
    check_weights(report, path, [route.weight for route in routes])


def check_share(report: Report, path: str, percentage: Percent | None) -> None:
    """Demand 0, or 0.0001 to 100, the finest that Envoy tells apart."""
    if percentage is not None and not (percentage.value == 0 or 0.0001 <= percentage.value <= 100):
        report.error(f"{path}.value", f"expected 0, or 0.0001 to 100, found {percentage.value}")
