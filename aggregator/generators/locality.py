"""Where endpoints are, seen from the proxy: groups by place, with priorities and weights.

Semantics are Istio's. Knows no Envoy message.
"""

from collections.abc import Callable, Iterable, Mapping
from math import ceil
from typing import Final

from msgspec import Struct

from aggregator.generators.spec import NODE_LABEL, View
from aggregator.model.service import (
    Endpoint,
    Labels,
    Locality,
    Service,
    TrafficDistribution,
)
from config.traffic_policy import (
    LocalityDistribute,
    LocalityFailover,
    LocalityLoadBalancerSetting,
    TrafficPolicy,
)

NO_SETTING: Final = LocalityLoadBalancerSetting(enabled=False)

_NETWORK: Final = "topology.istio.io/network"
_REGION: Final = "topology.kubernetes.io/region"
_ZONE: Final = "topology.kubernetes.io/zone"
_SUBZONE: Final = "topology.istio.io/subzone"
_CLUSTER: Final = "topology.istio.io/cluster"

# Labels that every endpoint and proxy has without carrying them, because they say where it is.
_PLACE_OF_ENDPOINT: Final[Mapping[str, Callable[[Endpoint], str]]] = {
    _NETWORK: lambda endpoint: endpoint.network,
    _CLUSTER: lambda endpoint: endpoint.cluster_id,
    _REGION: lambda endpoint: endpoint.locality.region,
    _ZONE: lambda endpoint: endpoint.locality.zone,
    _SUBZONE: lambda endpoint: endpoint.locality.subzone,
    NODE_LABEL: lambda endpoint: endpoint.node,
}
_PLACE_OF_PROXY: Final[Mapping[str, Callable[[View], str]]] = {
    _NETWORK: lambda view: view.network,
    _CLUSTER: lambda view: view.cluster_id,
    _REGION: lambda view: view.locality.region,
    _ZONE: lambda view: view.locality.zone,
    _SUBZONE: lambda view: view.locality.subzone,
}

# What services that ask for it prefer, the first being the widest.
_DISTRIBUTIONS: Final[Mapping[TrafficDistribution, LocalityLoadBalancerSetting]] = {
    TrafficDistribution.PREFER_SAME_ZONE: LocalityLoadBalancerSetting(
        enabled=True, failover_priority=(_NETWORK, _REGION, _ZONE)
    ),
    TrafficDistribution.PREFER_SAME_NODE: LocalityLoadBalancerSetting(
        enabled=True, failover_priority=(_NETWORK, _REGION, _ZONE, _SUBZONE, NODE_LABEL)
    ),
}


class Preference(Struct, frozen=True):
    """How places are preferred, and whether farther ones wait until nearer ones fail.

    They wait where something ejects endpoints, without which Envoy leaves a priority only when it
    is empty; or where the service itself asks for it.
    """

    setting: LocalityLoadBalancerSetting
    failover: bool

    @property
    def weighs_places(self) -> bool:
        """Whether Envoy must heed the weights of places, which disturbs the balancing policy."""
        setting = self.setting
        explicit = bool(setting.failover or setting.failover_priority)
        return bool(setting.distribute) or (self.failover and explicit)


class Group(Struct):
    """Endpoints of one place and priority; `weight` is the place's share within the priority."""

    locality: Locality
    endpoints: list[Endpoint]
    weight: int
    priority: int = 0


def endpoint_label(endpoint: Endpoint, name: str) -> str:
    """A label of the endpoint, or the one that its place amounts to."""
    for key, value in endpoint.labels:
        if key == name:
            return value
    place = _PLACE_OF_ENDPOINT.get(name)
    return place(endpoint) if place else ""


def has_labels(endpoint: Endpoint, wanted: Labels) -> bool:
    """Whether the endpoint has all of *wanted*, of its own or by its place."""
    own = endpoint.labels
    return all(
        pair in own
        or (pair[0] in _PLACE_OF_ENDPOINT and endpoint_label(endpoint, pair[0]) == pair[1])
        for pair in wanted
    )


def resolve_preference(view: View, service: Service, policy: TrafficPolicy) -> Preference:
    """The rule's setting, else what the service itself asks for, else the mesh's.

    `NO_SETTING` where locality load balancing is off.
    """
    balancer = policy.load_balancer
    ejects = policy.outlier_detection is not None
    setting = balancer.locality_lb_setting if balancer else None
    if setting is None:
        own = _DISTRIBUTIONS.get(service.traffic_distribution)
        if own is not None:
            return Preference(own, failover=True)
        setting = view.mesh.locality_lb_setting
    if setting is None or setting.enabled is False:
        setting = NO_SETTING
    return Preference(setting, ejects)


def group_endpoints(
    view: View, endpoints: Iterable[Endpoint], preference: Preference
) -> list[Group]:
    """Group by place, in the order of places, and apply *preference*.

    The proxy's place is asked for only where it matters.
    """
    setting = preference.setting
    groups = _by_locality(endpoints)
    if setting.enabled is False or not groups:
        return groups
    if setting.distribute:
        return _distribute(view, groups, setting.distribute)
    if not preference.failover:
        return groups
    if setting.failover_priority:
        groups = _split_by_labels(view, groups, setting.failover_priority)
        if not setting.failover:
            return _compact(groups)
    return _fail_over(view, groups, setting.failover)


def locality_matches(locality: Locality, pattern: str) -> bool:
    """Whether a place is in *pattern*: ``region/zone/subzone``, ``*`` for any, the end left out."""
    region, _, rest = pattern.partition("/")
    zone, _, subzone = rest.partition("/")
    return (
        region in ("*", locality.region)
        and zone in ("*", "", locality.zone)
        and subzone in ("*", "", locality.subzone)
    )


def _by_locality(endpoints: Iterable[Endpoint]) -> list[Group]:
    found: dict[Locality, Group] = {}
    for endpoint in endpoints:
        group = found.get(endpoint.locality)
        if group is None:
            group = found[endpoint.locality] = Group(endpoint.locality, [], 0)
        group.endpoints.append(endpoint)
        group.weight += endpoint.weight
    return [found[where] for where in sorted(found)] if len(found) > 1 else list(found.values())


def _distribute(
    view: View, groups: list[Group], rules: Iterable[LocalityDistribute]
) -> list[Group]:
    """Share out by the first rule for the proxy's place; places it does not name get nothing."""
    here = view.locality
    rule = next((each for each in rules if locality_matches(here, each.from_)), None)
    if rule is None:
        return groups
    rest = list(groups)
    kept: list[Group] = []
    for pattern, share in sorted(rule.to.items(), key=lambda item: _specificity(item[0])):
        chosen = [group for group in rest if locality_matches(group.locality, pattern)]
        total = sum(group.weight for group in chosen)
        for group in chosen:
            rest.remove(group)
            if share and total:
                group.weight = ceil(group.weight * share / total)
                kept.append(group)
    return sorted(kept, key=lambda group: group.locality)


def _specificity(pattern: str) -> tuple[int, str]:
    """Sorts narrower patterns first, so that they take their places before wider ones do."""
    named = sum(part not in ("", "*") for part in pattern.split("/"))
    return (-named, pattern)


def _fail_over(view: View, groups: list[Group], rules: Iterable[LocalityFailover]) -> list[Group]:
    """The nearer the earlier: same subzone, zone, region, the region a rule names, any other."""
    here = view.locality
    successor = next((each.to for each in rules if each.from_ == here.region), None)
    for group in groups:
        distance = _distance(here, group.locality)
        if distance == 3 and successor is not None and group.locality.region != successor:
            distance = 4
        group.priority = group.priority * 5 + distance
    return _compact(groups)


def _distance(here: Locality, there: Locality) -> int:
    if here.region != there.region:
        return 3
    if here.zone != there.zone:
        return 2
    return 0 if here.subzone == there.subzone else 1


def _split_by_labels(view: View, groups: list[Group], names: tuple[str, ...]) -> list[Group]:
    """The more of the labels, from the first on, an endpoint shares with the proxy, the earlier.

    The network in the first place only keeps other networks behind the proxy's own: the further
    labels rank the endpoints of these too, as in Istio.
    """
    apart = names[0] == _NETWORK
    wanted = []
    for name in names:
        label, given, value = name.partition("=")
        wanted.append((label, value if given else _proxy_label(view, label)))
    split: list[Group] = []
    for group in groups:
        by_priority: dict[int, Group] = {}
        for endpoint in group.endpoints:
            differs = [endpoint_label(endpoint, label) != value for label, value in wanted]
            behind = len(wanted) if apart and differs[0] else 0
            if apart:
                differs[0] = False
            equal = differs.index(True) if True in differs else len(wanted)
            priority = behind + len(wanted) - equal
            part = by_priority.setdefault(priority, Group(group.locality, [], 0, priority))
            part.endpoints.append(endpoint)
            part.weight += endpoint.weight
        split.extend(by_priority[priority] for priority in sorted(by_priority))
    return split


def _proxy_label(view: View, name: str) -> str:
    own = view.label(name)
    place = _PLACE_OF_PROXY.get(name)
    return own or (place(view) if place else "")


def _compact(groups: list[Group]) -> list[Group]:
    """Envoy wants priorities without gaps."""
    rank = {
        priority: index for index, priority in enumerate(sorted({each.priority for each in groups}))
    }
    for group in groups:
        group.priority = rank[group.priority]
    return groups
