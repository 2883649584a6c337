"""The routes of one host and port: its VirtualService's rules, or the one that every service has.

Shared by sidecars' virtual hosts and by the routes of gRPC's own clients.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from envoy.config.route.v3 import route_components_pb2 as route_pb2
from msgspec import Struct

from aggregator.generators.destination_rule import resolve_destination_rule
from aggregator.generators.hash_policy import build_hash_policy
from aggregator.generators.header_change import build_header_change
from aggregator.generators.name import outbound_cluster, parse_outbound
from aggregator.generators.retry import build_retry_policy
from aggregator.generators.route_action import (
    ALL,
    Mirror,
    WeightedTarget,
    add_header_change,
    add_mirror,
    build_action,
    build_direct_response,
    build_redirect,
    set_rewrite,
    set_single,
    set_weighted,
)
from aggregator.generators.route_filter import build_filter_settings
from aggregator.generators.route_match import asks_for_claims, build_match, matches_everything
from aggregator.generators.sidecar_scope import EgressListener
from aggregator.generators.spec import View
from aggregator.generators.virtual_service import HttpRule, resolve_rules, virtual_services
from aggregator.model.config import Config
from aggregator.model.service import Service
from config.destination import Destination, Percent
from config.http_match import HTTPMatchRequest
from config.http_route import HTTPRoute, HTTPRouteDestination

DEFAULT_ROUTE: Final = "default"
READS: Final = frozenset({"VirtualService", "DestinationRule"})
"""The kinds that routes depend on."""


class HostRoutes(Struct, frozen=True):
    """Routes in order, the clusters that they send to and the objects that shaped them."""

    routes: tuple[route_pb2.Route, ...]
    clusters: frozenset[str]
    origins: tuple[str, ...]


def build_host_routes(
    view: View, listener: EgressListener | None, host: str, port: int, service: Service | None
) -> HostRoutes | None:
    """What happens to requests for *host* on *port*; None if nobody says.

    The first VirtualService whose rules leave anything for these proxies holds; those after it are
    reported. Without *listener* every VirtualService that the proxies see counts.
    """
    candidates = virtual_services(view, listener, host)
    for index, config in enumerate(candidates):
        builder = _Builder(view, config, port)
        routes = builder.build(resolve_rules(view, config))
        if routes:
            for other in candidates[index + 1 :]:
                view.report(
                    other.origin,
                    str(other.key),
                    f"host {host} already has its routes from {config}",
                )
            return HostRoutes(routes, frozenset(builder.clusters), tuple(builder.origins))
    return _default_routes(view, service, port) if service else None


def _default_routes(view: View, service: Service, port: int) -> HostRoutes:
    """All requests to the service itself, with the mesh's retries."""
    cluster = outbound_cluster(service.host, port)
    rule = resolve_destination_rule(view, service)
    hashing = build_hash_policy(rule.policy(port))
    action = build_action(None)
    action.cluster = cluster
    if hashing is not None:
        action.hash_policy.append(hashing)
    retries = build_retry_policy(
        view.mesh.default_http_retry_policy, consistent_hash=hashing is not None
    )
    if retries is not None:
        action.retry_policy.CopyFrom(retries)
    route = route_pb2.Route(
        name=DEFAULT_ROUTE,
        match=build_match(None),
        route=action,
        decorator=route_pb2.Decorator(operation=f"{service.host}:{port}/*"),
    )
    origins = (str(service.origin),) if service.origin.source else ()
    return HostRoutes(
        (route,), frozenset((cluster,)), (*origins, *(rule.origins if hashing else ()))
    )


class _Builder:
    """Builds the rules of one VirtualService for one port, and gathers what they use."""

    def __init__(self, view: View, config: Config, port: int) -> None:
        self._view = view
        self._config = config
        self._port = port
        self.clusters: set[str] = set()
        self.origins: dict[str, None] = {str(config): None}

    def build(self, rules: Iterable[HttpRule]) -> tuple[route_pb2.Route, ...]:
        """Routes in the rules' order, up to the first that lets no request past it."""
        routes: list[route_pb2.Route] = []
        for rule in rules:
            alternatives: Sequence[HTTPMatchRequest | None] = rule.matches or (None,)
            for match in alternatives:
                if match is not None and match.port not in (0, self._port):
                    continue
                if asks_for_claims(match):
                    self._report(rule, "conditions on token claims never hold here", "match")
                    continue
                routes.append(self._build_rule(rule, match))
                if matches_everything(routes[-1].match):
                    return tuple(routes)
        return tuple(routes)

    def _build_rule(self, rule: HttpRule, match: HTTPMatchRequest | None) -> route_pb2.Route:
        self.origins[str(rule.config)] = None
        spec = rule.route
        route = route_pb2.Route(
            name=".".join(filter(None, (spec.name, match.name if match else ""))),
            match=build_match(match),
            stat_prefix=match.stat_prefix if match else "",
        )
        metadata = route.metadata.filter_metadata["istio"]
        metadata["config"] = _object_path(self._config)
        change = build_header_change(spec.headers)
        add_header_change(route, change)
        if spec.redirect is not None:
            redirect = build_redirect(spec.redirect, self._port)
            if redirect is None:
                self._fail(route, rule, "redirectCode is no redirect", "redirect")
            else:
                route.redirect.CopyFrom(redirect)
        elif spec.direct_response is not None:
            route.direct_response.CopyFrom(build_direct_response(spec.direct_response))
        else:
            self._send_on(route, rule, change.authority)
        route.decorator.operation = self._operation(route)
        for name, settings in build_filter_settings(spec).items():
            route.typed_per_filter_config[name].CopyFrom(settings)
        return route

    def _send_on(self, route: route_pb2.Route, rule: HttpRule, authority: str) -> None:
        spec = rule.route
        # A destination alone takes everything, whatever its weight.
        destinations = [
            (index, each)
            for index, each in enumerate(spec.route)
            if each.weight > 0 or len(spec.route) == 1
        ]
        if not destinations:
            self._fail(route, rule, "no destination has any weight", "route")
            return
        action = build_action(spec.timeout)
        if authority:
            action.host_rewrite_literal = authority
        if spec.rewrite is not None:
            set_rewrite(action, spec.rewrite)
        targets = [self._target(action, rule, each, index) for index, each in destinations]
        if len(targets) == 1:
            set_single(route, action, targets[0])
            if targets[0].change.authority and not action.host_rewrite_literal:
                action.host_rewrite_literal = targets[0].change.authority
        else:
            set_weighted(action, targets)
        for mirror in self._mirrors(rule):
            add_mirror(action, mirror)
        retries = build_retry_policy(
            spec.retries or self._view.mesh.default_http_retry_policy,
            consistent_hash=bool(action.hash_policy),
        )
        if retries is not None:
            action.retry_policy.CopyFrom(retries)
        route.route.CopyFrom(action)

    def _target(
        self,
        action: route_pb2.RouteAction,
        rule: HttpRule,
        weighted: HTTPRouteDestination,
        index: int,
    ) -> WeightedTarget:
        cluster, hashing = self._cluster(rule, weighted.destination, f"route[{index}].destination")
        if hashing is not None and hashing not in action.hash_policy:
            action.hash_policy.append(hashing)
        return WeightedTarget(cluster, weighted.weight, build_header_change(weighted.headers))

    def _mirrors(self, rule: HttpRule) -> list[Mirror]:
        spec = rule.route
        mirrors = []
        if spec.mirror is not None:
            cluster, _ = self._cluster(rule, spec.mirror, "mirror")
            mirrors.append(Mirror(cluster, _mirror_share(spec)))
        for index, each in enumerate(spec.mirrors):
            cluster, _ = self._cluster(rule, each.destination, f"mirrors[{index}].destination")
            mirrors.append(Mirror(cluster, each.percentage or ALL))
        return mirrors

    def _cluster(
        self, rule: HttpRule, destination: Destination, field: str
    ) -> tuple[str, route_pb2.RouteAction.HashPolicy | None]:
        """The name, also of what does not exist: Envoy then answers 503 until it does."""
        service = self._view.service(destination.host)
        port = destination_port(destination, service, self._port)
        cluster = outbound_cluster(destination.host, port, destination.subset)
        self.clusters.add(cluster)
        if service is None:
            self._report(rule, f"no service {destination.host} is known here", field)
            return cluster, None
        if service.port(port) is None:
            self._report(rule, f"service {destination.host} has no port {port}", field)
        found = resolve_destination_rule(self._view, service)
        if destination.subset and found.subset(destination.subset) is None:
            subset = f"no DestinationRule of {destination.host} has subset {destination.subset!r}"
            self._report(rule, subset, field)
        hashing = build_hash_policy(found.policy(port, destination.subset))
        if hashing is not None:
            self.origins.update(dict.fromkeys(found.origins))
        return cluster, hashing

    def _operation(self, route: route_pb2.Route) -> str:
        """What traces show: the destination if there is one, else the rule, and the path."""
        match = route.match
        path = match.path or match.safe_regex.regex or match.prefix + "*"
        name = parse_outbound(route.route.cluster)
        if name is not None:
            return f"{name.host}:{name.port}{path}"
        return f"{self._config.name}:{self._port}{path}"

    def _fail(self, route: route_pb2.Route, rule: HttpRule, message: str, field: str) -> None:
        """Requests that match must not go where a later rule sends others."""
        self._report(rule, message, field)
        route.direct_response.status = 500

    def _report(self, rule: HttpRule, message: str, field: str) -> None:
        config = rule.config
        self._view.report(config.origin, str(config.key), message, path=f"{rule.path}.{field}")


def destination_port(destination: Destination, service: Service | None, port: int) -> int:
    """The destination's own port, else the only one that the service has, else *port*."""
    if destination.port is not None:
        return destination.port.number
    if service is not None and len(service.ports) == 1:
        return service.ports[0].number
    return port


def _mirror_share(spec: HTTPRoute) -> Percent:
    if spec.mirror_percentage is not None:
        return spec.mirror_percentage
    return ALL if spec.mirror_percent is None else Percent(float(spec.mirror_percent))


def _object_path(config: Config) -> str:
    """How Istio's tools find the rule of a route."""
    return (
        f"/apis/networking.istio.io/v1/namespaces/{config.namespace}/virtual-service/{config.name}"
    )
