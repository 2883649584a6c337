"""Virtual hosts: what happens to requests for one host, in each route that the host is in.

Named ``<route>/<host>:<port>``. Knows neither listeners nor the rest of the route table.
"""

from collections.abc import Iterator
from typing import Final

from envoy.config.route.v3 import route_components_pb2 as route_pb2

from aggregator.generators.http_route import READS, build_host_routes
from aggregator.generators.sidecar_scope import outbound_scope
from aggregator.generators.spec import (
    ROUTE,
    VIRTUAL_HOST,
    GeneratorSpec,
    Resource,
    Root,
    Unit,
    View,
    resource_of,
)
from aggregator.generators.virtual_host_place import (
    Place,
    PlaceResolver,
    is_host,
)

VIRTUAL_HOSTS_FIELD: Final = 2
"""Of RouteConfiguration."""


def virtual_host_name(place: Place, host: str) -> str:
    """The name of the resource and of the message, which Envoy wants to be equal."""
    return f"{place.route}/{host}:{place.port}"


def build_virtual_hosts(view: View, unit: Unit) -> Iterator[Resource]:
    """One for each route and port at which these proxies reach the unit's host."""
    host = unit.key
    if not is_host(host):
        _report_host(view, host)
        return
    resolver = PlaceResolver(view, outbound_scope(view))
    for place in resolver.places(host):
        found = build_host_routes(view, place.listener, host, place.port, place.service)
        domains = resolver.domains(place, host) if found else ()
        if found is None or not domains:
            continue
        built = route_pb2.VirtualHost(
            name=virtual_host_name(place, host),
            domains=domains,
            routes=found.routes,
            include_request_attempt_count=True,
        )
        yield resource_of(
            VIRTUAL_HOST, built.name, built, clusters=found.clusters, origins=found.origins
        )


def _report_host(view: View, host: str) -> None:
    message = f"{host!r} cannot be the domain of a virtual host: it gets no HTTP routes"
    service = view.service(host)
    if service is not None:
        view.report(service.origin, str(service.key), message)
    for config in view.configs("VirtualService", host):
        view.report(config.origin, str(config.key), message, path="spec.hosts")


GENERATOR: Final = GeneratorSpec(
    kind=VIRTUAL_HOST,
    roots=(Root.ROUTE_HOST,),
    build=build_virtual_hosts,
    attributes=frozenset(),
    kinds=READS,
    part_of=ROUTE,
    part_field=VIRTUAL_HOSTS_FIELD,
)
