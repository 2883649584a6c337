"""Filter chains for a service's TCP and TLS: those that VirtualServices ask for, and the default.

Knows no listener: where the chains stand, and which of them win, is decided there.
"""

from collections.abc import Iterable, Iterator, Sequence

from envoy.config.listener.v3 import listener_components_pb2
from msgspec import Struct

from aggregator.generators.bind import is_range
from aggregator.generators.destination_rule import NO_RULE, resolve_destination_rule
from aggregator.generators.dynamic_dns import build_sni_filter
from aggregator.generators.filter_chain import Chain
from aggregator.generators.http_route import destination_port
from aggregator.generators.name import outbound_cluster
from aggregator.generators.sidecar_scope import EgressListener, imports_rule
from aggregator.generators.spec import View
from aggregator.generators.tcp_chain import build_tcp_proxy
from aggregator.generators.virtual_service import KIND, is_for_mesh
from aggregator.model.config import Config
from aggregator.model.service import Resolution, Service, labels_of
from config.destination import Destination, RouteDestination
from config.host import host_patterns, resolve_host
from config.kinds.virtual_service import (
    L4MatchAttributes,
    TLSMatchAttributes,
    VirtualService,
)


class Offer(Struct, frozen=True):
    """A service as one listener has it.

    `port` is the listener's, which rules compare; `service_port` is the one of the service that
    it leads to. `subnets` are the service's own ranges, where these tell it from others. `by_name`
    says that the listener holds several services, so that TLS needs the server's name to choose.
    """

    service: Service
    port: int
    service_port: int
    tls: bool
    subnets: tuple[str, ...] = ()
    by_name: bool = False


def build_chains(view: View, listener: EgressListener, offer: Offer) -> list[Chain]:
    """The service's chains in the order in which they are to be tried."""
    rules = _rules_of(view, listener, offer.service.host)
    if offer.tls:
        chains = [chain for rule in rules for chain in _tls_chains(view, rule, offer)]
        # Names that a rule does not list are not this service's any more.
        return chains or [_default_chain(view, offer)]
    chains = []
    for rule in rules:
        for chain in _tcp_chains(view, rule, offer):
            chains.append(chain)
            if chain.subnets == offer.subnets:
                return chains
    return [*chains, _default_chain(view, offer)]


class _Target(Struct, frozen=True):
    """Where a destination leads; the service is None where none is known."""

    host: str
    port: int
    subset: str
    service: Service | None

    @property
    def cluster(self) -> str:
        return outbound_cluster(self.host, self.port, self.subset)


def _resolve_target(
    view: View, config: Config, destination: Destination, port: int, path: str
) -> _Target:
    """The port is the destination's, else the service's only one, else the listener's."""
    host = resolve_host(destination.host, config.namespace, view.domain_suffix)
    service = view.service(host)
    number = destination_port(destination, service, port)
    wrong = ""
    if service is None:
        wrong = f"no service {host} is known here"
    elif service.port(number) is None:
        wrong = f"service {host} has no port {number}"
    elif destination.subset:
        found = resolve_destination_rule(view, service).subset(destination.subset)
        if found is None:
            wrong = f"no DestinationRule of {host} has subset {destination.subset!r}"
    if wrong:
        view.report(config.origin, str(config.key), wrong, path=path)
    return _Target(host, number, destination.subset, service)


def _rules_of(view: View, listener: EgressListener, host: str) -> list[Config]:
    """VirtualServices for the host, those that name it most exactly first, then the oldest."""
    rules: dict[str, Config] = {}
    for pattern in host_patterns(host):
        for config in view.configs(KIND, pattern):
            if imports_rule(view, listener, config.namespace, pattern) and is_for_mesh(
                config.spec.gateways
            ):
                rules.setdefault(str(config.key), config)
    return list(rules.values())


def _holds(view: View, match: L4MatchAttributes | TLSMatchAttributes, port: int) -> bool:
    """Whether what can be known in advance is as the match demands."""
    return (
        match.port in (0, port)
        and is_for_mesh(match.gateways)
        and (not match.source_namespace or view.in_namespace(match.source_namespace))
        and (not match.source_labels or view.matches(labels_of(match.source_labels)))
    )


def _tls_chains(view: View, config: Config, offer: Offer) -> Iterator[Chain]:
    rule: VirtualService = config.spec
    for index, tls in enumerate(rule.tls):
        for match in tls.match:
            if not _holds(view, match, offer.port):
                continue
            subnets = match.destination_subnets if offer.port else ()
            yield from _rule_chain(
                view,
                config,
                f"spec.tls[{index}].route",
                tls.route,
                offer,
                sni=match.sni_hosts,
                subnets=subnets or offer.subnets,
            )


def _tcp_chains(view: View, config: Config, offer: Offer) -> Iterator[Chain]:
    """A rule without conditions on the address ends the search: nothing comes behind it."""
    rule: VirtualService = config.spec
    for index, tcp in enumerate(rule.tcp):
        path = f"spec.tcp[{index}].route"
        matches = [match for match in tcp.match if _holds(view, match, offer.port)]
        if tcp.match and not matches:
            continue
        subnets: tuple[str, ...] = ()
        if offer.port and all(match.destination_subnets for match in matches):
            subnets = tuple(subnet for match in matches for subnet in match.destination_subnets)
        yield from _rule_chain(
            view, config, path, tcp.route, offer, subnets=subnets or offer.subnets
        )


def _rule_chain(
    view: View,
    config: Config,
    path: str,
    routes: Sequence[RouteDestination],
    offer: Offer,
    *,
    sni: Iterable[str] = (),
    subnets: Iterable[str] = (),
) -> Iterator[Chain]:
    # A destination alone takes everything, whatever its weight.
    weighted = [
        (index, each) for index, each in enumerate(routes) if each.weight > 0 or len(routes) == 1
    ]
    if not weighted:
        view.report(config.origin, str(config.key), "no destination has a weight", path=path)
        return
    targets = [
        _resolve_target(view, config, each.destination, offer.port, f"{path}[{index}].destination")
        for index, each in weighted
    ]
    clusters = [
        (target.cluster, each.weight) for target, (_, each) in zip(targets, weighted, strict=True)
    ]
    first = targets[0]
    alone = len(routes) == 1
    applied = resolve_destination_rule(view, first.service) if first.service else NO_RULE
    # As in Istio, several destinations are counted under the rule's own name, and what holds for
    # the connection as a whole is what holds for the first service, whatever its subset.
    proxy = build_tcp_proxy(
        view,
        first.cluster if alone else f"{config.name}.{config.namespace}",
        clusters,
        applied.policy(first.port, first.subset if alone else ""),
    )
    yield Chain(
        filters=(*_resolving(view, first.service, first.port), proxy),
        clusters=frozenset(name for name, _ in clusters),
        origins=(str(config), *applied.origins),
        sni=tuple(sni),
        subnets=tuple(subnets),
    )


def _default_chain(view: View, offer: Offer) -> Chain:
    service = offer.service
    if service.port(offer.service_port) is None:
        view.report(
            service.origin,
            f"Service {service.key}",
            f"a listener on port {offer.port} leads to it, but it has no such port, and no rule "
            "says which of its ports is meant",
        )
    cluster = outbound_cluster(service.host, offer.service_port)
    applied = resolve_destination_rule(view, service)
    origins = (str(service.origin),) if service.origin.source else ()
    proxy = build_tcp_proxy(view, cluster, [(cluster, 1)], applied.policy(offer.service_port))
    return Chain(
        filters=(*_resolving(view, service, offer.service_port), proxy),
        clusters=frozenset({cluster}),
        origins=(*origins, *applied.origins),
        sni=(service.host,) if offer.tls and offer.by_name else (),
        subnets=offer.subnets,
    )


def _resolving(
    view: View, service: Service | None, port: int
) -> tuple[listener_components_pb2.Filter, ...]:
    """What has to resolve the connection's server name first, if the service demands that."""
    if service is None or service.resolution is not Resolution.DYNAMIC_DNS:
        return ()
    return (build_sni_filter(view, port),)


def ranges_of(service: Service) -> tuple[str, ...]:
    """The CIDR ranges among a service's addresses."""
    return tuple(address for address in service.addresses if is_range(address))
