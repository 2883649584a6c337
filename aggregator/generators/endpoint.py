"""EDS: an assignment for each EDS cluster of a host, empty where nothing serves it."""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from aggregator.generators.destination_rule import KIND, resolve_destination_rule
from aggregator.generators.load_assignment import build_load_assignment, serving_endpoints
from aggregator.generators.locality import Group
from aggregator.generators.reachability import build_groups
from aggregator.generators.spec import (
    ENDPOINT,
    GeneratorSpec,
    Resource,
    Root,
    Unit,
    View,
    resource_of_bytes,
)
from aggregator.generators.target import (
    ATTRIBUTES,
    ClusterType,
    Target,
    is_grpc,
    resolve_cluster_type,
    targets,
)
from aggregator.model.service import Endpoint, Resolution, Service


def build(view: View, unit: Unit) -> Iterator[Resource]:
    """The assignments of one host."""
    service = view.service(unit.key)
    if service is None:
        return
    rule = resolve_destination_rule(view, service)
    origins = (*rule.origins, *([str(service.origin)] if service.origin.source else ()))
    serving: list[Endpoint] | None = None
    for target in targets(service, rule):
        match resolve_cluster_type(view, service, target.policy):
            case ClusterType.EDS:
                if serving is None:
                    serving = serving_endpoints(view, service)
                    if not serving:
                        _tell_unreachable(view, service)
                body = _build_assignment(view, target, serving)
            case ClusterType.CLOSED if is_grpc(view):
                body = build_load_assignment(target.name, (), target.port)
            case _:
                continue
        yield resource_of_bytes(ENDPOINT, target.name, body, origins=origins)


GENERATOR: Final = GeneratorSpec(
    kind=ENDPOINT,
    roots=(Root.HOST,),
    build=build,
    attributes=ATTRIBUTES,
    kinds=frozenset({KIND}),
    clients=frozenset({"envoy", "grpc"}),
)


def _tell_unreachable(view: View, service: Service) -> None:
    """Where connections cannot tell their destination, requests for such a service only fail."""
    if service.resolution is Resolution.NONE and any(
        each.protocol.is_http for each in service.ports
    ):
        view.report(
            service.origin,
            f"Service {service.key}",
            "it has resolution NONE, so requests that are not redirected cannot tell where they "
            "are to go; give it endpoints or another resolution",
        )


def _build_assignment(view: View, target: Target, serving: Sequence[Endpoint]) -> bytes:
    groups = build_groups(view, target, serving)
    if is_grpc(view):
        balancer = target.policy.load_balancer
        hashed = balancer is not None and balancer.consistent_hash is not None
        groups = _level(groups) if hashed else _split_by_weight(groups)
    return build_load_assignment(target.name, groups, target.port)


def _split_by_weight(groups: Sequence[Group]) -> list[Group]:
    """gRPC's round robin heeds the weights of places only, so each weight becomes a place."""
    split: list[Group] = []
    for group in groups:
        weights = sorted({endpoint.weight for endpoint in group.endpoints})
        if len(weights) == 1:
            split.append(group)
            continue
        total = sum(endpoint.weight for endpoint in group.endpoints)
        for weight in weights:
            members = [each for each in group.endpoints if each.weight == weight]
            where = msgspec.structs.replace(
                group.locality, subzone=f"{group.locality.subzone}~{weight}"
            )
            share = max(1, round(group.weight * weight * len(members) / total))
            split.append(Group(where, members, share, group.priority))
    return split


def _level(groups: Sequence[Group]) -> list[Group]:
    """gRPC's ring multiplies the weights of place and endpoint; the endpoint's own is meant."""
    return [Group(each.locality, each.endpoints, 1, each.priority) for each in groups]
