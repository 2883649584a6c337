"""What a rule does with requests, as Envoy's actions: send on, redirect, answer.

Knows clusters by name only; who chose them is `aggregator.generators.http_route`.
"""

from collections.abc import Sequence
from typing import Final

from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2 as route_pb2
from msgspec import Struct

from aggregator.generators.duration import build_duration
from aggregator.generators.header_change import HeaderChange
from aggregator.generators.route_filter import build_percentage
from config.destination import Percent
from config.http_route import (
    HTTPDirectResponse,
    HTTPRedirect,
    HTTPRewrite,
    RedirectPortSelection,
)

_REDIRECT_CODES: Final = {
    0: route_pb2.RedirectAction.MOVED_PERMANENTLY,
    301: route_pb2.RedirectAction.MOVED_PERMANENTLY,
    302: route_pb2.RedirectAction.FOUND,
    303: route_pb2.RedirectAction.SEE_OTHER,
    307: route_pb2.RedirectAction.TEMPORARY_REDIRECT,
    308: route_pb2.RedirectAction.PERMANENT_REDIRECT,
}
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
ALL: Final = Percent(100.0)


class WeightedTarget(Struct, frozen=True):
    """A cluster, its share, and what it changes of the headers."""

    cluster: str
    weight: int
    change: HeaderChange


class Mirror(Struct, frozen=True):
    """A cluster that gets copies of a share of the requests."""

    cluster: str
    percentage: Percent


def build_action(timeout: float | None) -> route_pb2.RouteAction:
    """Sends requests on; none, the default, is no limit, where Envoy's own would be 15 seconds.

    Deadlines of gRPC are left to the clients, who keep them: Envoy would need a deprecated field
    for them, of which it logs a warning for every route, or one that switches this timeout off.
    """
    return route_pb2.RouteAction(timeout=build_duration(timeout or 0.0))


def set_single(
    route: route_pb2.Route, action: route_pb2.RouteAction, target: WeightedTarget
) -> None:
    """All requests to one cluster: the destination's header changes are the route's."""
    action.cluster = target.cluster
    add_header_change(route, target.change)


def set_weighted(action: route_pb2.RouteAction, targets: Sequence[WeightedTarget]) -> None:
    """Requests shared out by weight."""
    for target in targets:
        cluster = action.weighted_clusters.clusters.add(name=target.cluster)
        cluster.weight.value = target.weight
        cluster.request_headers_to_add.extend(target.change.request_add)
        cluster.request_headers_to_remove.extend(target.change.request_remove)
        cluster.response_headers_to_add.extend(target.change.response_add)
        cluster.response_headers_to_remove.extend(target.change.response_remove)
        if target.change.authority:
            cluster.host_rewrite_literal = target.change.authority


def add_header_change(route: route_pb2.Route, change: HeaderChange) -> None:
    """The later call wins where both set the same header."""
    route.request_headers_to_add.extend(change.request_add)
    route.request_headers_to_remove.extend(change.request_remove)
    route.response_headers_to_add.extend(change.response_add)
    route.response_headers_to_remove.extend(change.response_remove)


def set_rewrite(action: route_pb2.RouteAction, rewrite: HTTPRewrite) -> None:
    """Path and authority."""
    if rewrite.uri_regex_rewrite is not None:
        action.regex_rewrite.pattern.regex = rewrite.uri_regex_rewrite.match
        action.regex_rewrite.substitution = rewrite.uri_regex_rewrite.rewrite
    elif rewrite.uri:
        action.prefix_rewrite = rewrite.uri
    if rewrite.authority:
        action.host_rewrite_literal = rewrite.authority


def add_mirror(action: route_pb2.RouteAction, mirror: Mirror) -> None:
    """A share of zero sends nothing."""
    if mirror.percentage.value <= 0:
        return
    built = action.request_mirror_policies.add(
        cluster=mirror.cluster,
        # As in Istio, the copy is for the same host; Envoy would append "-shadow" to it.
        disable_shadow_host_suffix_append=True,
        runtime_fraction=base_pb2.RuntimeFractionalPercent(
            default_value=build_percentage(mirror.percentage)
        ),
    )
    built.trace_sampled.value = False


def build_redirect(redirect: HTTPRedirect, port: int) -> route_pb2.RedirectAction | None:
    """*port* is the one that the request came in for; None for a status that is no redirect."""
    code = _REDIRECT_CODES.get(redirect.redirect_code)
    if code is None:
        return None
    built = route_pb2.RedirectAction(
        host_redirect=redirect.authority,
        response_code=code,
        port_redirect=_redirect_port(redirect, port),
    )
    if redirect.scheme:
        built.scheme_redirect = redirect.scheme
    if redirect.prefix_rewrite:
        built.prefix_rewrite = redirect.prefix_rewrite
    elif redirect.uri:
        built.path_redirect = redirect.uri
    return built


def _redirect_port(redirect: HTTPRedirect, port: int) -> int:
    """0 leaves the port to Envoy, which then gives none for the scheme's own."""
    wanted = redirect.port or 0
    if redirect.derive_port == RedirectPortSelection.FROM_REQUEST_PORT:
        wanted = port
    return 0 if _DEFAULT_PORTS.get(redirect.scheme or "http") == wanted else wanted


def build_direct_response(response: HTTPDirectResponse) -> route_pb2.DirectResponseAction:
    """An answer without an upstream."""
    built = route_pb2.DirectResponseAction(status=response.status)
    if response.body is not None and response.body.string is not None:
        built.body.inline_string = response.body.string
    elif response.body is not None and response.body.bytes is not None:
        built.body.inline_bytes = response.body.bytes
    return built
