"""Which VirtualService holds for a host as a proxy sees it, and its HTTP rules made plain.

Plain means: delegates put in, rules for other proxies left out, hosts of destinations complete.
Knows no Envoy message.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from aggregator.generators.delegate import MatchPair, merge_matches, merge_routes
from aggregator.generators.sidecar_scope import EgressListener, imports_rule
from aggregator.generators.spec import View
from aggregator.model.config import Config
from aggregator.model.service import labels_of
from config.destination import Destination
from config.host import host_patterns, resolve_host
from config.http_match import HTTPMatchRequest
from config.http_route import HTTPRoute
from config.kinds.virtual_service import VirtualService

KIND: Final = "VirtualService"
MESH_GATEWAY: Final = "mesh"


class HttpRule(Struct, frozen=True):
    """One rule: `matches` are alternatives, of which none means always.

    `config` and `path` say where it was written; `config` is the delegate where there is one.
    """

    route: HTTPRoute
    matches: tuple[HTTPMatchRequest, ...]
    config: Config
    path: str


def virtual_services(view: View, listener: EgressListener | None, host: str) -> tuple[Config, ...]:
    """The VirtualServices for *host* with HTTP rules, the one that counts first.

    Those that name the most specific host, the proxies' own namespace's private ones before those
    exported to it by name and these before public ones, then the oldest.
    """
    for pattern in host_patterns(host):
        found = mesh_rules(view, listener, pattern)
        if found:
            return found
    return ()


def mesh_rules(view: View, listener: EgressListener | None, host: str) -> tuple[Config, ...]:
    """The VirtualServices with HTTP rules for sidecars that name exactly this host or wildcard."""
    named = view.configs(KIND, host)
    if not named:
        return ()
    found = [
        config
        for config in named
        if config.spec.http
        and is_for_mesh(config.spec.gateways)
        and (listener is None or imports_rule(view, listener, config.namespace, host))
    ]
    return tuple(sorted(found, key=lambda config: _reach(view, config)))


def is_for_mesh(gateways: Iterable[str]) -> bool:
    """Whether a list of gateways, which may be empty, takes in sidecars."""
    return not gateways or MESH_GATEWAY in gateways


def _reach(view: View, config: Config) -> int:
    """How widely it is exported; the sort is stable, so that within one the oldest stays first."""
    export_to = _export_to(view, config)
    if "*" in export_to:
        return 2
    return 0 if set(export_to) <= {".", config.namespace} else 1


def _export_to(view: View, config: Config) -> tuple[str, ...]:
    spec: VirtualService = config.spec
    return spec.export_to or view.mesh.default_virtual_service_export_to or ("*",)


def resolve_rules(view: View, config: Config) -> tuple[HttpRule, ...]:
    """The HTTP rules of *config* that can hold for these proxies.

    Reports delegates that are missing, hidden or at odds with the rule that names them.
    """
    rules: list[HttpRule] = []
    for index, route in enumerate(config.spec.http):
        path = f"spec.http[{index}]"
        if route.delegate is None:
            pairs: tuple[MatchPair, ...] = tuple((each, (each,)) for each in route.match)
            rules.extend(_keep(view, route, pairs, config, path))
        else:
            rules.extend(_delegated(view, route, config, path))
    return tuple(rules)


def _delegated(view: View, root: HTTPRoute, config: Config, path: str) -> Iterator[HttpRule]:
    if root.delegate is None:
        return
    namespace = root.delegate.namespace or config.namespace
    delegate = view.config(KIND, namespace, root.delegate.name)
    problem = _delegate_problem(view, delegate, config)
    if delegate is None or problem:
        name = f"{namespace}/{root.delegate.name}"
        view.report(
            config.origin,
            str(config.key),
            f"the delegate {name} {problem}",
            path=f"{path}.delegate",
        )
        return
    whole = _complete(view, root, config)
    for index, inner in enumerate(delegate.spec.http):
        inner_path = f"spec.http[{index}]"
        pairs = merge_matches(root.match, inner.match)
        if inner.delegate is not None or pairs is None:
            reason = "a delegate cannot delegate further"
            if inner.delegate is None:
                reason = f"its conditions are not within those of {config} {path}"
            view.report(delegate.origin, str(delegate.key), reason, path=inner_path)
            continue
        merged = merge_routes(whole, _complete(view, inner, delegate))
        yield from _keep(view, merged, pairs, delegate, inner_path)


def _delegate_problem(view: View, delegate: Config | None, config: Config) -> str:
    if delegate is None:
        return "does not exist"
    if delegate.spec.hosts:
        return "has hosts of its own"
    export_to = _export_to(view, delegate)
    own = "." in export_to and delegate.namespace == config.namespace
    if not own and not {"*", config.namespace} & set(export_to):
        return f"is not exported to {config.namespace}"
    return ""


def _keep(
    view: View, route: HTTPRoute, pairs: tuple[MatchPair, ...], config: Config, path: str
) -> Iterator[HttpRule]:
    """The rule with the alternatives that these proxies can meet; none left, no rule."""
    matches = tuple(
        merged for merged, sources in pairs if all(_is_source(view, each) for each in sources)
    )
    if matches or not pairs:
        yield HttpRule(_complete(view, route, config), matches, config, path)


def _is_source(view: View, match: HTTPMatchRequest) -> bool:
    """Whether these proxies are among those that the conditions on the source allow.

    Conditions merged of two are asked one by one: the view knows only selectors that some object
    has.
    """
    return (
        is_for_mesh(match.gateways)
        and (not match.source_namespace or view.in_namespace(match.source_namespace))
        and (not match.source_labels or view.matches(labels_of(match.source_labels)))
    )


def _complete(view: View, route: HTTPRoute, config: Config) -> HTTPRoute:
    """Short hosts of destinations completed in the namespace of the object that has them."""

    def complete(destination: Destination) -> Destination:
        host = resolve_host(destination.host, config.namespace, view.domain_suffix)
        return destination if host == destination.host else replace(destination, host=host)

    return replace(
        route,
        route=tuple(replace(each, destination=complete(each.destination)) for each in route.route),
        mirror=complete(route.mirror) if route.mirror else None,
        mirrors=tuple(
            replace(each, destination=complete(each.destination)) for each in route.mirrors
        ),
    )
