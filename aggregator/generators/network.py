"""Endpoints of other networks, which are reached through the gateways of these.

Envoy keeps only the first of equal addresses in an assignment, so each gateway stands there once,
with the weight of all that is behind it. Knows no Envoy message.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import gcd, lcm

from msgspec.structs import replace

from aggregator.generators.load_assignment import is_address, of_family
from aggregator.generators.spec import View
from aggregator.model.registry import NetworkGateway
from aggregator.model.service import Endpoint, Labels, Locality, Port, Service

Gateways = tuple[NetworkGateway, ...]
_Place = tuple[str, int]
_Alike = tuple[str, str, Labels]


def reach(
    view: View, service: Service, endpoints: Sequence[Endpoint], port: Port
) -> list[Endpoint]:
    """The endpoints as the proxy reaches them: itself, or through gateways.

    A network without gateways is reached directly; an endpoint without an address is then not
    reached at all. Where addresses of both families are reached directly, a proxy gets those of its
    own. Proportions of weights are kept exactly.
    """
    away = {each.network for each in endpoints}
    away.discard("")
    ways = {network: found for network in sorted(away) if (found := view.gateways(network))}
    if ways:
        # Whoever does not know its own network is better off with a gateway than with an address
        # that may be anybody's.
        ways.pop(view.network, None)
    if not ways:
        return of_family(view, [each for each in endpoints if each.address])
    usable = {network: _usable(view, service, network, ways[network]) for network in ways}
    direct: list[Endpoint] = []
    behind: dict[Gateways, list[Endpoint]] = {}
    for endpoint in endpoints:
        if endpoint.network not in usable:
            if endpoint.address:
                direct.append(endpoint)
        elif gateways := _nearest(usable[endpoint.network], endpoint.cluster_id):
            behind.setdefault(gateways, []).append(endpoint)
    counted = {gateways: _counted(view, members) for gateways, members in behind.items()}
    return _unite(of_family(view, direct), counted, port)


def _usable(view: View, service: Service, network: str, gateways: Gateways) -> Gateways:
    """Those that the proxy can connect to."""
    found = tuple(each for each in gateways if _is_reachable(view, each.address))
    if not found:
        addresses = ", ".join(sorted({each.address for each in gateways}))
        view.report(
            service.origin,
            f"Service {service.key}",
            f"endpoints of network {network} left out for proxies that reach none of its "
            f"gateways: {addresses}",
        )
    return found


def _is_reachable(view: View, address: str) -> bool:
    return is_address(address) and (view.ipv6 if ":" in address else view.ipv4)


def _nearest(gateways: Gateways, cluster_id: str) -> Gateways:
    """Those of the endpoint's own cluster, else all of its network."""
    own = tuple(each for each in gateways if cluster_id and each.cluster_id == cluster_id)
    return own or gateways


def _counted(view: View, endpoints: list[Endpoint]) -> list[Endpoint]:
    """What weighs behind gateways: a pod with an address of each family once, as where a proxy of
    one family reaches it directly.

    Nothing names the pod, but both addresses have its cluster, node and labels, so that of such
    alike the family with more weight stands for both.
    """
    sixes = [":" in each.address for each in endpoints]
    if all(sixes) or not any(sixes) or (view.ipv4 and view.ipv6):
        return endpoints
    weights: Counter[tuple[_Alike, bool]] = Counter()
    for each, six in zip(endpoints, sixes, strict=True):
        weights[_alike(each), six] += each.weight
    counted = []
    for each, six in zip(endpoints, sixes, strict=True):
        own, other = weights[_alike(each), six], weights[_alike(each), not six]
        if not each.cluster_id or own > other or (own == other and not six):
            counted.append(each)
    return counted


def _alike(endpoint: Endpoint) -> _Alike:
    return endpoint.cluster_id, endpoint.node, endpoint.labels


def _unite(
    direct: list[Endpoint], behind: Mapping[Gateways, Sequence[Endpoint]], port: Port
) -> list[Endpoint]:
    """Each gateway once, at its even share of what it leads to."""
    factor = lcm(*(len(gateways) for gateways in behind))
    weights: Counter[_Place] = Counter()
    members: dict[_Place, list[Endpoint]] = {}
    found: dict[_Place, NetworkGateway] = {}
    for gateways, endpoints in behind.items():
        share = sum(each.weight for each in endpoints) * factor // len(gateways)
        for gateway in gateways:
            place = (gateway.address, gateway.port)
            weights[place] += share
            members.setdefault(place, []).extend(endpoints)
            found.setdefault(place, gateway)
    # Small numbers where they do: most of the time there is one gateway, or as many everywhere.
    common = gcd(factor, *weights.values())
    scale = factor // common
    if scale > 1:
        direct = [replace(each, weight=each.weight * scale) for each in direct]
    return direct + [
        _endpoint(found[place], members[place], weights[place] // common, port)
        for place in sorted(found)
    ]


def _endpoint(
    gateway: NetworkGateway, members: Sequence[Endpoint], weight: int, port: Port
) -> Endpoint:
    return Endpoint(
        address=gateway.address,
        ports=((port.name, gateway.port),),
        labels=_common_labels(members),
        locality=gateway.locality if gateway.locality.region else _heaviest(members),
        network=gateway.network,
        cluster_id=gateway.cluster_id or _only({each.cluster_id for each in members}),
        weight=weight,
        registry=_only({each.registry for each in members}),
    )


def _heaviest(members: Iterable[Endpoint]) -> Locality:
    """The place of most of the weight; of equal ones the first in the order of places."""
    weights: Counter[Locality] = Counter()
    for each in members:
        weights[each.locality] += each.weight
    return min(weights, key=lambda where: (-weights[where], where))


def _common_labels(members: Sequence[Endpoint]) -> Labels:
    """What is true of everything behind a gateway is true of the gateway."""
    first, *others = {each.labels for each in members}
    return tuple(pair for pair in first if all(pair in labels for labels in others))


def _only(values: set[str]) -> str:
    return next(iter(values)) if len(values) == 1 else ""
