"""Listeners of sidecars (LDS): one unit for each service port, one for what exists once per proxy.

A proxy without redirection binds its ports on the loopback address; one with redirection has
Istio's outbound capture. Knows routes by their names only.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from msgspec import Struct

from aggregator.generators.bind import Bind, is_address, loopback, wildcard
from aggregator.generators.duration import build_duration
from aggregator.generators.dynamic_dns import ATTRIBUTES as DYNAMIC_DNS_ATTRIBUTES
from aggregator.generators.filter_chain import Chain, ChainSet, build_listener_filters
from aggregator.generators.filters.spec import filter_attributes, filter_kinds
from aggregator.generators.http_chain import build_outbound_http
from aggregator.generators.http_route import destination_port
from aggregator.generators.name import BLACK_HOLE, PASSTHROUGH, outbound_cluster
from aggregator.generators.sidecar_ingress import build_ingress_listeners, ingress_binds
from aggregator.generators.sidecar_scope import (
    EgressListener,
    OutboundScope,
    imported_service,
    imports_host,
    imports_http,
    is_captured,
    outbound_policy,
    outbound_scope,
)
from aggregator.generators.spec import (
    LISTENER,
    GeneratorSpec,
    Resource,
    Root,
    Unit,
    View,
    resource_of,
)
from aggregator.generators.tcp_chain import build_tcp_proxy
from aggregator.generators.tcp_route import Offer, build_chains, ranges_of
from aggregator.model.service import Port, Protocol, Resolution, Service
from config.host import resolve_host

VIRTUAL_OUTBOUND: Final = "virtualOutbound"
CATCH_ALL_CHAIN: Final = "virtualOutbound-catchall-tcp"
BLACK_HOLE_CHAIN: Final = "virtualOutbound-blackhole"
PASSTHROUGH_CHAIN: Final = "PassthroughFilterChain"
HTTP_OWNER: Final = "its HTTP services"
# How long a client may take to begin with TLS on a port where others begin with something else,
# or wait for the server to begin.
_INSPECTION_SECONDS: Final = 5.0


class _Candidate(Struct, frozen=True):
    """A service that one listener would lead to."""

    service: Service
    service_port: int
    tls: bool


_Places = Mapping[Bind, Sequence[_Candidate]]


def build(view: View, unit: Unit) -> Iterator[Resource]:
    """The listeners of a port, or those that no service's port brings about."""
    if view.kind != "sidecar":
        return
    if unit.root is Root.PORT:
        yield from _build_port(view, int(unit.key))
        return
    if unit.root is Root.ADDRESS:
        yield from _build_address(view, unit.key)
        return
    if view.interception_mode != "NONE":
        yield _build_virtual_outbound(view)
    scope = outbound_scope(view)
    taken = {bind.name for bind in ingress_binds(view)}
    for listener in _by_hand(scope):
        places = _explicit_places(view, listener)
        free = {bind: found for bind, found in places.items() if bind.name not in taken}
        taken |= {bind.name for bind in free}
        yield from _build_places(view, listener, free, listener.route)
    yield from build_ingress_listeners(view)


def _build_port(view: View, port: int) -> Iterator[Resource]:
    scope = outbound_scope(view)
    if scope.default is None:
        return
    listener = scope.default
    http = imports_http(view, listener, port)
    places: _Places
    if _is_by_address(view, listener):
        services = view.tcp_services_without_address(port)
        candidates = _candidates(view, listener, services, port)
        known = [each for each in candidates if _is_known_by_name(view, each)]
        places = {Bind(wildcard(view), port, bound=False): known} if known or http else {}
    else:
        candidates = _candidates(view, listener, view.tcp_services_on_port(port), port)
        places = _places(view, listener, port, candidates, http=http)
    free = _free_places(view, scope, listener, port, places)
    yield from _build_places(view, listener, free, str(port) if http else "")


def _is_by_address(view: View, listener: EgressListener) -> bool:
    """Whether connections tell where they were dialled to, so that each address stands alone."""
    return not listener.bind and is_captured(view, listener)


def _build_address(view: View, address: str) -> Iterator[Resource]:
    """The listeners of one virtual IP: those of its services that are no HTTP."""
    scope = outbound_scope(view)
    listener = scope.default
    if listener is None or not _is_by_address(view, listener) or not is_address(address):
        return
    holders = [view.service_in(key.namespace, key.host) for key in view.services_at(address)]
    services = [service for service in holders if service is not None]
    for port in sorted({port.number for service in services for port in service.ports}):
        candidates = _candidates(view, listener, services, port)
        known = [each for each in candidates if _is_known_by_name(view, each)]
        if known:
            place = {Bind(address, port, bound=False): known}
            free = _free_places(view, scope, listener, port, place)
            yield from _build_places(view, listener, free, "")


def _candidates(
    view: View, listener: EgressListener, services: Sequence[Service], port: int
) -> list[_Candidate]:
    return [
        _Candidate(service, port, spoken.protocol.is_tls)
        for service in _one_per_host(view, services)
        if imports_host(view, listener, service.namespace, service.host)
        and (spoken := _connection_port(service, port)) is not None
    ]


def _free_places(
    view: View, scope: OutboundScope, listener: EgressListener, port: int, places: _Places
) -> _Places:
    """The places that nothing else needs: what the user put there by hand stands alone."""
    by_hand = {
        bind.name
        for each in _by_hand(scope)
        if each.port == port
        for bind in _explicit_places(view, each)
    }
    return {
        bind: found
        for bind, found in places.items()
        if bind.name not in by_hand
        and not _is_inward(view, bind)
        and not _is_reserved(view, listener, bind, found)
    }


def _by_hand(scope: OutboundScope) -> tuple[EgressListener, ...]:
    """The listeners that settings ask for, not services."""
    return scope.explicit if scope.http_proxy is None else (*scope.explicit, scope.http_proxy)


def _is_inward(view: View, bind: Bind) -> bool:
    """Whether the Sidecar opened that very place towards the workload."""
    sidecar = view.sidecar()
    if sidecar is None or all(bind.name != each.name for each in ingress_binds(view)):
        return False
    view.report(
        sidecar.origin,
        str(sidecar.key),
        f"an ingress listener stands at {bind.address}:{bind.port}, so services on port "
        f"{bind.port} cannot be reached from there; give it another bind address",
        path="spec.ingress",
    )
    return True


def _connection_port(service: Service, number: int) -> Port | None:
    """The port of that number whose connections are passed on as they are."""
    for port in service.ports:
        if port.number == number and not port.protocol.is_http and port.protocol != Protocol.UDP:
            return port
    return None


def _one_per_host(view: View, services: Sequence[Service]) -> Iterator[Service]:
    """Of a host in several namespaces, the one that these proxies see: clusters know no other."""
    times = Counter(service.host for service in services)
    for service in services:
        if times[service.host] == 1 or view.service(service.host) == service:
            yield service


def _is_reserved(
    view: View, listener: EgressListener, bind: Bind, found: Sequence[_Candidate]
) -> bool:
    """Whether the redirection itself needs the place."""
    if not is_captured(view, listener) or bind.address != wildcard(view):
        return False
    if bind.port not in (view.mesh.proxy_listen_port, view.mesh.proxy_inbound_listen_port):
        return False
    for each in found:
        view.report(
            each.service.origin,
            f"Service {each.service.key}",
            f"port {bind.port} is the proxy's own; the service cannot be reached through it",
        )
    return True


def _explicit_places(view: View, listener: EgressListener) -> _Places:
    """Where a listener that the user described stands, and whom it leads to."""
    protocol = listener.protocol
    if protocol is None or protocol == Protocol.UDP:
        return {}
    if protocol.is_http:
        return _places(view, listener, listener.port, (), http=True)
    candidates = [
        _Candidate(service, _service_port(service, listener.port), protocol.is_tls)
        for service in _explicit_services(view, listener)
    ]
    return _places(view, listener, listener.port, candidates, http=False)


def _explicit_services(view: View, listener: EgressListener) -> Iterable[Service]:
    """Those named one by one, and those with the listener's port that a pattern covers.

    The oldest come first.
    """
    found: dict[str, Service] = {}
    anywhere = {host for _, host in listener.imports.patterns if not host.startswith("*")}
    for host in sorted(anywhere.union(host for _, host in listener.imports.exact)):
        service = imported_service(view, listener, host)
        if service is not None and imports_host(view, listener, service.namespace, host):
            found[host] = service
    if listener.imports.patterns and listener.port:
        for service in _one_per_host(view, view.tcp_services_on_port(listener.port)):
            if imports_host(view, listener, service.namespace, service.host):
                found.setdefault(service.host, service)
    return sorted(
        found.values(), key=lambda each: (each.created or float("inf"), each.namespace, each.host)
    )


def _service_port(service: Service, number: int) -> int:
    """The service's port of that number, or its only one; else a rule has to tell."""
    if _connection_port(service, number) is None and len(service.ports) == 1:
        return service.ports[0].number
    return number


def _places(
    view: View,
    listener: EgressListener,
    port: int,
    candidates: Sequence[_Candidate],
    *,
    http: bool,
) -> _Places:
    """Where listeners on *port* have to stand, and whom each of them leads to.

    All is at one place, unless the user's listener is reached at the addresses of its services.
    """
    captured = is_captured(view, listener)
    if listener.bind or not captured:
        place = Bind(listener.bind or loopback(view), port, bound=not captured)
        usable = [each for each in candidates if captured or _is_reachable(view, each, place)]
        return {place: usable} if usable or http else {}
    anywhere = Bind(wildcard(view), port, bound=False)
    places: dict[Bind, list[_Candidate]] = {anywhere: []} if http else {}
    for each in candidates:
        if not _is_known_by_name(view, each):
            continue
        addresses = sorted({address for address in each.service.addresses if is_address(address)})
        for address in addresses:
            places.setdefault(Bind(address, port, bound=False), []).append(each)
        if not addresses or ranges_of(each.service):
            places.setdefault(anywhere, []).append(each)
    return places


def _is_reachable(view: View, candidate: _Candidate, place: Bind) -> bool:
    """Whether a connection that was dialled to the proxy itself can be passed on."""
    service = candidate.service
    if service.resolution == Resolution.NONE:
        view.report(
            service.origin,
            f"Service {service.key}",
            f"it has resolution NONE, so connections to {place.address}:{place.port} cannot tell "
            "where they are to go; give it endpoints or another resolution",
        )
    return service.resolution != Resolution.NONE and _is_known_by_name(view, candidate)


def _is_known_by_name(view: View, candidate: _Candidate) -> bool:
    """Whether a connection says which host it is for, where that must be resolved."""
    service = candidate.service
    if service.resolution != Resolution.DYNAMIC_DNS or candidate.tls:
        return True
    view.report(
        service.origin,
        f"Service {service.key}",
        f"it has resolution DYNAMIC_DNS, but connections to port {candidate.service_port} name no "
        "host that could be resolved; use HTTP, TLS or another resolution",
    )
    return False


def _build_places(
    view: View, listener: EgressListener, places: _Places, route: str
) -> Iterator[Resource]:
    for bind, candidates in places.items():
        own = _is_own_address(view, listener, bind)
        chains = _fill(view, listener, bind, candidates, "" if own else route)
        if chains:
            yield _build_listener(view, bind, chains)


def _is_own_address(view: View, listener: EgressListener, bind: Bind) -> bool:
    """Whether only services that have this very address are reached there."""
    return not bind.bound and not listener.bind and bind.address != wildcard(view)


def _fill(
    view: View,
    listener: EgressListener,
    bind: Bind,
    candidates: Sequence[_Candidate],
    route: str,
) -> list[Chain]:
    """All chains of one place: HTTP before other plain connections, the oldest before others."""
    found = ChainSet()
    if route:
        proxy = listener.protocol == Protocol.HTTP_PROXY
        http = build_outbound_http(view, bind.name, route, absolute_urls=proxy)
        found.add(Chain(filters=(http,)), HTTP_OWNER)
    # A place that is for one service, by its address or by the user's word, needs no name.
    meant = _is_own_address(view, listener, bind) or (bind.bound and not listener.catch_all)
    alone = len(candidates) == 1 and meant
    anywhere = not bind.bound and bind.address == wildcard(view)
    for each in candidates:
        owner = f"Service {each.service.key}"
        # Here nobody's address was dialled, so plain connections are the first one's altogether.
        winner = found.owner_of_rest if bind.bound and not each.tls else ""
        if not winner:
            offer = Offer(
                each.service,
                bind.port,
                each.service_port,
                each.tls,
                subnets=ranges_of(each.service) if anywhere else (),
                by_name=not alone,
            )
            winners = [found.add(chain, owner) for chain in build_chains(view, listener, offer)]
            winner = next(filter(None, winners), "")
        if winner:
            view.report(
                each.service.origin,
                owner,
                f"port {bind.port} at {bind.address} belongs to {winner}; connections that do "
                "not name a host cannot be told apart there",
            )
    return found.chains


def _build_listener(view: View, bind: Bind, chains: Sequence[Chain]) -> Resource:
    others = [chain for chain in chains if not chain.matches_all]
    fallback = next((chain for chain in chains if chain.matches_all), None)
    if fallback is None and not bind.bound:
        fallback = _build_unknown(view, PASSTHROUGH_CHAIN)
    message = listener_pb2.Listener(
        name=bind.name,
        address=bind.build_address(),
        traffic_direction=base_pb2.OUTBOUND,
        listener_filters=build_listener_filters(chains),
        filter_chains=[chain.build() for chain in others],
    )
    if not bind.bound:
        message.bind_to_port.value = False
    if fallback is not None and others:
        message.default_filter_chain.CopyFrom(fallback.build())
    elif fallback is not None:
        message.filter_chains.append(fallback.build())
    if message.listener_filters and fallback is not None:
        message.listener_filters_timeout.CopyFrom(build_duration(_INSPECTION_SECONDS))
        message.continue_on_listener_filters_timeout = True
    used = (*others, *((fallback,) if fallback else ()))
    return resource_of(
        LISTENER,
        bind.name,
        message,
        clusters=frozenset().union(*(chain.clusters for chain in used)),
        origins=(origin for chain in used for origin in chain.origins),
    )


def _build_unknown(view: View, name: str) -> Chain:
    """Connections to nobody known: to where they want, through the egress proxy, or nowhere."""
    policy = outbound_policy(view)
    cluster = PASSTHROUGH if policy.allow_any else BLACK_HOLE
    sidecar = view.sidecar()
    if policy.allow_any and policy.egress_proxy is not None and sidecar is not None:
        proxy = policy.egress_proxy
        host = resolve_host(proxy.host, sidecar.namespace, view.domain_suffix)
        number = destination_port(proxy, view.service(host), 0)
        cluster = outbound_cluster(host, number, proxy.subset)
    return Chain(
        filters=(build_tcp_proxy(view, cluster, [(cluster, 1)]),),
        clusters=frozenset({cluster}),
        name=name,
    )


def _build_virtual_outbound(view: View) -> Resource:
    """What redirected connections come in by; those that no other listener claims stay here."""
    port = view.mesh.proxy_listen_port
    bind = Bind(wildcard(view), port)
    unknown = _build_unknown(view, CATCH_ALL_CHAIN)
    # A connection to this very port would be passed to itself for ever.
    black_hole = listener_components_pb2.FilterChain(
        name=BLACK_HOLE_CHAIN, filters=[build_tcp_proxy(view, BLACK_HOLE, [(BLACK_HOLE, 1)])]
    )
    black_hole.filter_chain_match.destination_port.value = port
    message = listener_pb2.Listener(
        name=VIRTUAL_OUTBOUND,
        address=bind.build_address(),
        traffic_direction=base_pb2.OUTBOUND,
        filter_chains=[black_hole, unknown.build()],
    )
    message.use_original_dst.value = True
    if view.interception_mode == "TPROXY":
        message.transparent.value = True
    return resource_of(
        LISTENER, VIRTUAL_OUTBOUND, message, clusters=unknown.clusters | {BLACK_HOLE}
    )


GENERATOR = GeneratorSpec(
    kind=LISTENER,
    roots=(Root.PORT, Root.ADDRESS, Root.VIEW),
    build=build,
    attributes=frozenset({"kind", "interception_mode", "ipv4"})
    | DYNAMIC_DNS_ATTRIBUTES
    | filter_attributes(),
    kinds=frozenset({"VirtualService", "DestinationRule"}) | filter_kinds(),
)
