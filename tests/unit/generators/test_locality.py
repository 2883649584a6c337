"""Grouping by place: priorities, weights, and what of the proxy is asked."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from aggregator.generators.locality import (
    Group,
    Preference,
    group_endpoints,
    has_labels,
    locality_matches,
    resolve_preference,
)
from aggregator.model.errors import Origin
from aggregator.model.proxy import Proxy
from aggregator.model.service import Endpoint, Labels, Locality, TrafficDistribution, labels_of
from config.mesh import MeshConfig
from config.shape import decode_struct
from config.traffic_policy import (
    LoadBalancerSettings,
    LocalityLoadBalancerSetting,
    TrafficPolicy,
)
from tests.support.builders import endpoint, service
from tests.support.view import FakeView

HERE = "eu/eu-1/a"
PLACES = ("ap/ap-1/a", "eu/eu-1/a", "eu/eu-1/b", "eu/eu-2/a", "us/us-1/a")
ENDPOINTS = [endpoint(f"10.0.0.{index}", locality=where) for index, where in enumerate(PLACES)]


def setting(**fields: Any) -> LocalityLoadBalancerSetting:
    return decode_struct(fields, LocalityLoadBalancerSetting, "", lambda _: Origin())


def view_at(locality: str = HERE, labels: Labels = (), network: str = "") -> FakeView:
    proxy = Proxy(id="test", locality=Locality.parse(locality), labels=labels, network=network)
    return FakeView(proxy=proxy)


def grouped(
    view: FakeView,
    endpoints: Iterable[Endpoint],
    places: LocalityLoadBalancerSetting,
    *,
    failover: bool,
) -> list[Group]:
    return group_endpoints(view, endpoints, Preference(places, failover))


def chosen(view: FakeView, policy: TrafficPolicy, **about: Any) -> LocalityLoadBalancerSetting:
    return resolve_preference(view, replace(service(), **about), policy).setting


def priorities(groups: Iterable[Group]) -> dict[str, int]:
    return {str(group.locality): group.priority for group in groups}


def weights(groups: Iterable[Group]) -> dict[str, int]:
    return {str(group.locality): group.weight for group in groups}


def test_places_are_in_order_whatever_the_order_of_endpoints() -> None:
    """A registry that lists endpoints in another order changes nothing for any proxy."""
    groups = grouped(view_at(), reversed(ENDPOINTS), setting(), failover=False)

    assert [str(group.locality) for group in groups] == sorted(PLACES)


def test_a_place_weighs_what_its_endpoints_weigh() -> None:
    """Places share traffic by what they can bear."""
    endpoints = [endpoint("10.0.0.1", locality=HERE, weight=3), endpoint("10.0.0.2", locality=HERE)]

    [group] = grouped(view_at(), endpoints, setting(), failover=False)

    assert (group.weight, group.endpoints) == (4, endpoints)


def test_without_outlier_detection_all_places_are_equal_and_the_proxys_is_not_asked() -> None:
    """Envoy would never leave the first priority; and proxies everywhere share the bytes."""
    view = view_at()
    groups = grouped(view, ENDPOINTS, setting(), failover=False)

    assert set(priorities(groups).values()) == {0}
    assert view.reads == set()


def test_the_nearer_place_comes_first() -> None:
    """Failover goes subzone, zone, region, rest; gaps are closed, which Envoy insists on."""
    found = priorities(grouped(view_at(), ENDPOINTS, setting(), failover=True))

    assert found == {"eu/eu-1/a": 0, "eu/eu-1/b": 1, "eu/eu-2/a": 2, "ap/ap-1/a": 3, "us/us-1/a": 3}
    far = priorities(grouped(view_at("ap/ap-1/a"), ENDPOINTS[1:], setting(), failover=True))
    assert set(far.values()) == {0}


def test_a_failover_rule_puts_its_region_before_other_ones() -> None:
    """``from: eu, to: us`` is for proxies in eu only."""
    rules = setting(failover=[{"from": "eu", "to": "us"}])

    found = priorities(grouped(view_at(), ENDPOINTS, rules, failover=True))
    elsewhere = priorities(grouped(view_at("ap/x/y"), ENDPOINTS, rules, failover=True))

    assert (found["us/us-1/a"], found["ap/ap-1/a"]) == (3, 4)
    assert (elsewhere["ap/ap-1/a"], elsewhere["us/us-1/a"], elsewhere["eu/eu-1/a"]) == (0, 1, 1)


def test_priority_labels_are_compared_in_order_and_split_places() -> None:
    """Endpoints of one place that share more labels with the proxy serve first."""
    labelled = [
        endpoint("10.0.0.1", locality=HERE, labels={"rack": "1", "host": "x"}),
        endpoint("10.0.0.2", locality=HERE, labels={"rack": "1", "host": "y"}, weight=2),
        endpoint("10.0.0.3", locality=HERE, labels={"rack": "2", "host": "x"}),
    ]
    view = view_at(labels=labels_of({"rack": "1", "host": "x"}))

    groups = grouped(view, labelled, setting(failoverPriority=["rack", "host"]), failover=True)

    found = [(group.priority, group.weight, group.endpoints[0].address) for group in groups]
    assert found == [(0, 1, "10.0.0.1"), (1, 2, "10.0.0.2"), (2, 1, "10.0.0.3")]
    assert ("attribute", "locality") not in view.reads


def test_a_priority_label_may_name_its_value() -> None:
    """``label=value`` stands for the proxy's own value."""
    labelled = [
        endpoint("10.0.0.1", locality=HERE, labels={"rack": "1"}),
        endpoint("10.0.0.2", locality=HERE, labels={"rack": "2"}),
    ]
    view = view_at(labels=labels_of({"rack": "1"}))

    groups = grouped(view, labelled, setting(failoverPriority=["rack=2"]), failover=True)

    assert [group.endpoints[0].address for group in groups if group.priority == 0] == ["10.0.0.2"]
    assert ("label", "rack") not in view.reads


def test_place_labels_are_known_without_being_labels() -> None:
    """Every endpoint and proxy has network, region and zone as labels, as in Istio."""
    near = endpoint("10.0.0.1", locality="eu/eu-2/a", network="net1")
    far = endpoint("10.0.0.2", locality="eu/eu-1/a", network="net2")
    names = ["topology.istio.io/network", "topology.kubernetes.io/region"]

    groups = grouped(
        view_at(network="net1"), [far, near], setting(failoverPriority=names), failover=True
    )

    assert priorities(groups) == {"eu/eu-2/a": 0, "eu/eu-1/a": 1}


def test_labels_rank_the_endpoints_of_other_networks_too_behind_those_of_the_own() -> None:
    """A proxy whose network is gone goes on to the nearest region, not to any."""
    places = [
        endpoint("10.0.0.1", locality="us/us-1/a", network="net1"),
        endpoint("10.0.0.2", locality="eu/eu-1/a", network="net2"),
        endpoint("10.0.0.3", locality="ap/ap-1/a", network="net2"),
    ]
    names = ["topology.istio.io/network", "topology.kubernetes.io/region"]

    groups = grouped(
        view_at(network="net1"), places, setting(failoverPriority=names), failover=True
    )

    assert priorities(groups) == {"us/us-1/a": 0, "eu/eu-1/a": 1, "ap/ap-1/a": 2}


def test_priority_labels_and_failover_rules_combine() -> None:
    """Labels decide first; among equals the nearer place does."""
    labelled = [
        endpoint("10.0.0.1", locality="us/us-1/a", labels={"v": "1"}),
        endpoint("10.0.0.2", locality="eu/eu-1/a", labels={"v": "2"}),
        endpoint("10.0.0.3", locality="eu/eu-1/b", labels={"v": "1"}),
    ]
    rules = setting(failoverPriority=["v"], failover=[{"from": "eu", "to": "us"}])

    groups = grouped(view_at(labels=(("v", "1"),)), labelled, rules, failover=True)

    assert priorities(groups) == {"eu/eu-1/b": 0, "us/us-1/a": 1, "eu/eu-1/a": 2}


def test_distribute_shares_out_by_destination() -> None:
    """80 % stay in the zone's region, and places that are not named get nothing."""
    endpoints = [
        endpoint("10.0.0.1", locality="eu/eu-1/a", weight=3),
        endpoint("10.0.0.2", locality="eu/eu-2/a"),
        endpoint("10.0.0.3", locality="us/us-1/a"),
        endpoint("10.0.0.4", locality="ap/ap-1/a"),
    ]
    rules = setting(distribute=[{"from": "eu/eu-1/*", "to": {"eu/*": 80, "us/us-1/*": 20}}])

    groups = grouped(view_at(), endpoints, rules, failover=False)

    assert weights(groups) == {"eu/eu-1/a": 60, "eu/eu-2/a": 20, "us/us-1/a": 20}
    assert set(priorities(groups).values()) == {0}


def test_distribute_takes_the_narrower_pattern_first() -> None:
    """The order in which an author wrote a mapping's keys must not matter."""
    rules = setting(distribute=[{"from": "*", "to": {"eu/*": 10, "eu/eu-1/a": 90}}])

    found = weights(grouped(view_at(), ENDPOINTS[1:3], rules, failover=False))

    assert found == {"eu/eu-1/a": 90, "eu/eu-1/b": 10}


def test_distribute_for_other_places_changes_nothing() -> None:
    """A rule about us is none for proxies in eu."""
    rules = setting(distribute=[{"from": "us/*", "to": {"us/*": 100}}])

    found = weights(grouped(view_at(), ENDPOINTS, rules, failover=True))

    assert found == dict.fromkeys(sorted(PLACES), 1)


def test_a_rule_can_switch_locality_off() -> None:
    """``enabled: false`` in a rule beats the mesh's setting, and the other way round."""
    off = TrafficPolicy(
        load_balancer=LoadBalancerSettings(locality_lb_setting=setting(enabled=False))
    )
    on = TrafficPolicy(load_balancer=LoadBalancerSettings(locality_lb_setting=setting()))
    closed = FakeView(mesh=MeshConfig(locality_lb_setting=setting(enabled=False)))

    assert chosen(view_at(), off).enabled is False
    assert chosen(view_at(), TrafficPolicy()).enabled is True
    assert chosen(closed, TrafficPolicy()).enabled is False
    assert chosen(closed, on).enabled is None
    groups = grouped(view_at(), ENDPOINTS, setting(enabled=False), failover=True)
    assert set(priorities(groups).values()) == {0}


def test_a_rules_own_setting_leaves_the_meshs_unasked() -> None:
    """A change of the mesh's setting rebuilds only what uses it."""
    view = view_at()
    chosen(view, TrafficPolicy(load_balancer=LoadBalancerSettings(locality_lb_setting=setting())))

    assert view.reads == set()


def test_a_service_may_ask_for_its_own_zone() -> None:
    """Kubernetes' trafficDistribution works without any rule, and without outlier detection."""
    wanted = replace(service(), traffic_distribution=TrafficDistribution.PREFER_SAME_ZONE)
    places = ["eu/eu-1/a", "eu/eu-2/a", "us/us-1/a"]
    endpoints = [endpoint(f"10.0.0.{n}", locality=where) for n, where in enumerate(places)]
    preference = resolve_preference(view_at(), wanted, TrafficPolicy())

    found = priorities(group_endpoints(view_at("eu/eu-1/b"), endpoints, preference))

    assert found == {"eu/eu-1/a": 0, "eu/eu-2/a": 1, "us/us-1/a": 2}
    assert preference.weighs_places


def test_a_service_may_ask_for_its_own_machine() -> None:
    """PreferSameNode: the machine, then subzone, zone, region, network."""
    wanted = replace(service(), traffic_distribution=TrafficDistribution.PREFER_SAME_NODE)
    endpoints = [
        replace(endpoint("10.0.0.1", locality=HERE), node="n1"),
        replace(endpoint("10.0.0.2", locality=HERE), node="n2"),
        replace(endpoint("10.0.0.3", locality="eu/eu-1/b"), node="n3"),
    ]
    view = FakeView(proxy=Proxy(id="test", locality=Locality.parse(HERE), node_name="n2"))

    groups = group_endpoints(view, endpoints, resolve_preference(view, wanted, TrafficPolicy()))

    found = {group.endpoints[0].address: group.priority for group in groups}
    assert found == {"10.0.0.2": 0, "10.0.0.1": 1, "10.0.0.3": 2}


def test_a_rule_stands_above_what_a_service_asks_for_and_that_above_the_mesh() -> None:
    """As in Istio: DestinationRule, then trafficDistribution, then mesh."""
    zone = TrafficDistribution.PREFER_SAME_ZONE
    rule = TrafficPolicy(
        load_balancer=LoadBalancerSettings(locality_lb_setting=setting(failoverPriority=["rack"]))
    )
    view = FakeView(mesh=MeshConfig(locality_lb_setting=setting(enabled=False)))

    assert chosen(view, rule, traffic_distribution=zone).failover_priority == ("rack",)
    assert len(chosen(view, TrafficPolicy(), traffic_distribution=zone).failover_priority) == 3
    assert ("mesh", "locality_lb_setting") not in view.reads


@pytest.mark.parametrize(
    ("fields", "failover", "expected"),
    [
        ({}, True, False),
        ({"failover": [{"from": "eu", "to": "us"}]}, True, True),
        ({"failover": [{"from": "eu", "to": "us"}]}, False, False),
        ({"failoverPriority": ["rack"]}, True, True),
        ({"distribute": [{"from": "*", "to": {"eu/*": 100}}]}, False, True),
    ],
)
def test_weights_of_places_are_heeded_only_where_a_rule_needs_them(
    fields: Mapping[str, Any], failover: bool, expected: bool
) -> None:
    """Else they would take the choice from the least request balancer."""
    assert Preference(setting(**fields), failover).weighs_places is expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", True),
        ("eu", True),
        ("eu/*", True),
        ("eu/eu-1", True),
        ("eu/eu-1/*", True),
        ("eu/eu-1/a", True),
        ("eu/*/b", False),
        ("us/*", False),
        ("eu/eu-2/*", False),
    ],
)
def test_patterns_of_places(pattern: str, expected: bool) -> None:
    """Parts left out match any, as authors of Istio's rules expect."""
    assert locality_matches(Locality.parse(HERE), pattern) is expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, True),
        ({"version": "v1"}, True),
        ({"version": "v2"}, False),
        ({"version": "v1", "app": "x"}, False),
        ({"topology.istio.io/cluster": "east"}, True),
        ({"topology.istio.io/cluster": "west"}, False),
        ({"topology.kubernetes.io/zone": "eu-1"}, True),
        ({"kubernetes.io/hostname": ""}, True),
    ],
)
def test_subsets_select_by_labels_and_by_place(wanted: dict[str, str], expected: bool) -> None:
    """A subset may be "those in the eastern cluster" without anyone having labelled them."""
    one: Endpoint = endpoint(labels={"version": "v1"}, locality=HERE, cluster_id="east")

    assert has_labels(one, labels_of(wanted)) is expected
