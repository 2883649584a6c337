"""Route configurations without their virtual hosts: the head that these are joined to.

One for each port of HTTP services, for each HTTP listener of a Sidecar, and for the mesh's HTTP
proxy port. It says what happens to requests for hosts that nobody knows.
"""

from collections.abc import Iterator
from typing import Final

from envoy.config.core.v3 import config_source_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2

from aggregator.generators.http_route import destination_port
from aggregator.generators.name import PASSTHROUGH, outbound_cluster
from aggregator.generators.route_action import build_action
from aggregator.generators.route_match import build_match
from aggregator.generators.sidecar_scope import (
    EgressListener,
    OutboundPolicy,
    imports_http,
    is_captured,
    outbound_policy,
    outbound_scope,
)
from aggregator.generators.spec import (
    ROUTE,
    GeneratorSpec,
    Resource,
    Root,
    Unit,
    View,
    resource_of,
)

ALLOW_ANY: Final = "allow_any"
BLOCK_ALL: Final = "block_all"
BLOCKED_STATUS: Final = 502
LONGEST_BODY: Final = 1024 * 1024
VHDS_WAIT_SECONDS: Final = 1


def build_routes(view: View, unit: Unit) -> Iterator[Resource]:
    """The heads of a port, or those that do not depend on the services' ports."""
    scope = outbound_scope(view)
    if unit.root == Root.PORT:
        default = scope.default if scope.owner(unit.key) is None else None
        if default is not None and imports_http(view, default, int(unit.key)):
            yield _build_head(view, default, unit.key)
        return
    for listener in scope.explicit:
        if listener.route and scope.owner(listener.route) is listener:
            yield _build_head(view, listener, listener.route)
    if scope.http_proxy is not None:
        yield _build_head(view, scope.http_proxy, scope.http_proxy.route)


def _build_head(view: View, listener: EgressListener, name: str) -> Resource:
    cluster = _unknown_hosts_cluster(view, listener, outbound_policy(view))
    head = route_pb2.RouteConfiguration(
        name=name,
        virtual_hosts=[_build_catch_all(cluster)],
        # Where all ports come in, it is the port in the authority that tells services apart.
        ignore_port_in_host_matching=not listener.every_port,
    )
    # Routes may be ahead of clusters, or name some that do not exist; that must not harm others.
    head.validate_clusters.value = False
    head.max_direct_response_body_size_bytes.value = LONGEST_BODY
    if view.vhds:
        source = head.vhds.config_source
        source.resource_api_version = config_source_pb2.V3
        source.ads.SetInParent()
        # A route configuration without virtual hosts waits this long, and its listener with it.
        source.initial_fetch_timeout.seconds = VHDS_WAIT_SECONDS
    sidecar = view.sidecar()
    return resource_of(
        ROUTE,
        name,
        head,
        clusters=(cluster,) if cluster else (),
        origins=(str(sidecar),) if sidecar else (),
    )


def _unknown_hosts_cluster(view: View, listener: EgressListener, policy: OutboundPolicy) -> str:
    """Where requests for unknown hosts go; "" blocks them.

    What was not redirected has no other destination than this very listener, so that there is
    nowhere to pass it on to.
    """
    if not policy.allow_any:
        return ""
    proxy = policy.egress_proxy
    if proxy is not None:
        port = destination_port(proxy, view.service(proxy.host), 0)
        return outbound_cluster(proxy.host, port, proxy.subset)
    return PASSTHROUGH if is_captured(view, listener) else ""


def _build_catch_all(cluster: str) -> route_components_pb2.VirtualHost:
    name = ALLOW_ANY if cluster else BLOCK_ALL
    route = route_components_pb2.Route(name=name, match=build_match(None))
    if cluster:
        route.route.CopyFrom(build_action(None))
        route.route.cluster = cluster
    else:
        route.direct_response.status = BLOCKED_STATUS
    return route_components_pb2.VirtualHost(
        name=name, domains=["*"], routes=[route], include_request_attempt_count=True
    )


GENERATOR: Final = GeneratorSpec(
    kind=ROUTE,
    roots=(Root.PORT, Root.VIEW),
    build=build_routes,
    attributes=frozenset({"interception_mode", "vhds"}),
)
