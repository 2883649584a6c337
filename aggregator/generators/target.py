"""Which clusters a service has, and how each finds its endpoints, if it may use them at all.

CDS and EDS must agree on this, so both ask here.
"""

from collections.abc import Iterator
from enum import Enum, auto
from typing import Final

from msgspec import Struct

from aggregator.generators.destination_rule import ServiceRule
from aggregator.generators.load_assignment import is_address
from aggregator.generators.name import outbound_cluster
from aggregator.generators.spec import View
from aggregator.generators.tls import why_closed
from aggregator.model.config import Config
from aggregator.model.service import Port, Protocol, Resolution, Service
from config.kinds.destination_rule import Subset
from config.traffic_policy import SimpleLB, TrafficPolicy

ATTRIBUTES: Final = frozenset(
    {
        "cluster_id",
        "generator",
        "interception_mode",
        "ipv4",
        "ipv6",
        "kind",
        "locality",
        "network",
    }
)
"""What clusters and their endpoints depend on of a proxy."""

_NO_POLICY: Final = TrafficPolicy()


class ClusterType(Enum):
    """Envoy's discovery types, and two of our own.

    A closed cluster exists, so that routes to it are valid, but never has an endpoint: what it was
    asked to do to a connection cannot be done, and doing less would be worse.
    """

    EDS = auto()
    STRICT_DNS = auto()
    LOGICAL_DNS = auto()
    ORIGINAL_DST = auto()
    DYNAMIC_DNS = auto()
    CLOSED = auto()
    UNSUPPORTED = auto()


class Target(Struct, frozen=True):
    """What one cluster stands for: a port of a service, all of it or a subset, under one policy."""

    name: str
    service: Service
    port: Port
    subset: Subset | None
    policy: TrafficPolicy
    config: Config | None


def targets(service: Service, rule: ServiceRule) -> Iterator[Target]:
    """Every cluster that a service has, by port and then by subset, the whole service first."""
    for port in _ports(service):
        for subset in (None, *rule.subsets):
            name = subset.name if subset else ""
            policy = rule.policy(port.number, name) or _NO_POLICY
            cluster = outbound_cluster(service.host, port.number, name)
            yield Target(cluster, service, port, subset, policy, rule.source(name))


def is_grpc(view: View) -> bool:
    """Whether the client is gRPC's own, which knows fewer kinds of clusters and no certificates."""
    return view.generator == "grpc"


def _ports(service: Service) -> tuple[Port, ...]:
    """One of each number, none for UDP."""
    ports: dict[int, Port] = {}
    for port in service.ports:
        if port.protocol is not Protocol.UDP:
            ports.setdefault(port.number, port)
    return tuple(ports.values())


def resolve_cluster_type(view: View, service: Service, policy: TrafficPolicy | None) -> ClusterType:
    """The type of the service's clusters under *policy*."""
    if service.resolution is Resolution.DYNAMIC_DNS and is_grpc(view):
        return ClusterType.UNSUPPORTED
    if policy is not None and why_closed(policy.tls, grpc=is_grpc(view)):
        return ClusterType.CLOSED
    if is_grpc(view):
        return _of_grpc(view, service)
    if service.resolution is Resolution.DYNAMIC_DNS:
        return ClusterType.DYNAMIC_DNS
    if policy and policy.load_balancer and policy.load_balancer.simple is SimpleLB.PASSTHROUGH:
        return ClusterType.ORIGINAL_DST
    match service.resolution:
        case Resolution.DNS:
            return ClusterType.STRICT_DNS
        case Resolution.DNS_ROUND_ROBIN:
            return ClusterType.LOGICAL_DNS
        case Resolution.NONE if view.kind != "router" and view.interception_mode != "NONE":
            return ClusterType.ORIGINAL_DST
        case _:
            # Without redirection nobody knows where a connection wanted to go, so that known
            # endpoints are the better answer.
            return ClusterType.EDS


def _of_grpc(view: View, service: Service) -> ClusterType:
    """gRPC's core knows EDS, and DNS for one name only."""
    if service.resolution in (Resolution.DNS, Resolution.DNS_ROUND_ROBIN) and not all(
        not endpoint.address or is_address(endpoint.address)
        for endpoint in view.endpoints(service.key)
    ):
        return ClusterType.LOGICAL_DNS
    return ClusterType.EDS
