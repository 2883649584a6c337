"""Routes for gRPC's own xDS clients (RDS): those of one host and port, in the form that they take.

What gRPC's clients cannot do is left out, because they refuse the whole table for it.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from envoy.config.route.v3 import route_components_pb2, route_pb2

from aggregator.generators.filters.spec import filter_specs
from aggregator.generators.grpc_listener import CLIENT
from aggregator.generators.http_route import READS, build_host_routes
from aggregator.generators.name import outbound_cluster
from aggregator.generators.sidecar_scope import outbound_scope
from aggregator.generators.spec import ROUTE, GeneratorSpec, Resource, Root, Unit, View, resource_of
from aggregator.model.service import Protocol

# The conditions on which gRPC's clients retry; they know no others.
_RETRY_ON: Final = frozenset(
    {"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"}
)


def build(view: View, unit: Unit) -> Iterator[Resource]:
    """One table for each port of the host."""
    service = view.service(unit.key)
    if service is None:
        return
    listener = outbound_scope(view).default
    for number in sorted({p.number for p in service.ports if p.protocol != Protocol.UDP}):
        found = build_host_routes(view, listener, service.host, number, service)
        if found is None:
            continue
        name = outbound_cluster(service.host, number)
        virtual_host = route_components_pb2.VirtualHost(
            name=f"{service.host}:{number}",
            # A client looks for the name that it dialled, which may be another than the host's.
            domains=[f"{service.host}:{number}", service.host, "*"],
            routes=restrict_routes(found.routes),
        )
        yield resource_of(
            ROUTE,
            name,
            route_pb2.RouteConfiguration(name=name, virtual_hosts=[virtual_host]),
            clusters=found.clusters,
            origins=found.origins,
        )


def restrict_routes(
    routes: Iterable[route_components_pb2.Route],
) -> list[route_components_pb2.Route]:
    """Copies without what gRPC's clients do not know."""
    known = {spec.name for spec in filter_specs(CLIENT)}
    restricted = []
    for route in routes:
        copy = route_components_pb2.Route()
        copy.CopyFrom(route)
        for name in set(copy.typed_per_filter_config) - known:
            del copy.typed_per_filter_config[name]
        if copy.HasField("route"):
            _restrict_action(copy.route)
        restricted.append(copy)
    return restricted


def _restrict_action(action: route_components_pb2.RouteAction) -> None:
    limit = action.timeout
    # Meant for the deadlines that callers send; these clients would take it for their own limit.
    action.ClearField("max_stream_duration")
    if action.HasField("timeout") and (limit.seconds or limit.nanos):
        # The only time limit that they read, beside the caller's own deadline.
        action.max_stream_duration.max_stream_duration.CopyFrom(limit)
    if not action.HasField("retry_policy"):
        return
    retries = action.retry_policy
    asked = [each.strip() for each in retries.retry_on.split(",")]
    retries.retry_on = ",".join(each for each in asked if each in _RETRY_ON)
    if not retries.retry_on or retries.num_retries.value < 1:
        action.ClearField("retry_policy")


GENERATOR = GeneratorSpec(
    kind=ROUTE,
    roots=(Root.HOST,),
    build=build,
    attributes=frozenset(),
    kinds=READS,
    clients=frozenset({CLIENT}),
)
