"""The way from all endpoints of a service to the groups of one cluster."""

from typing import Final

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from aggregator.generators.destination_rule import resolve_destination_rule
from aggregator.generators.reachability import build_groups
from aggregator.generators.target import Target, targets
from aggregator.model.policy import UNION, MergeMode, MergePolicy
from aggregator.model.proxy import Proxy
from aggregator.model.registry import NetworkGateway
from aggregator.model.service import Endpoint, Locality
from config.kinds.destination_rule import DestinationRule
from tests.support.builders import endpoint, port, rule, service
from tests.support.view import FakeView

REVIEWS: Final = service("reviews.shop.svc.cluster.local", port(80))
FAILOVER: Final = MergePolicy(MergeMode.FAILOVER, ("east", "west"))
EJECTING: Final = {
    "host": REVIEWS.host,
    "trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": 1}},
}
HERE: Final = Proxy(
    id="p", namespace="shop", network="net1", cluster_id="east", locality=Locality("eu", "eu-1")
)


def of(registry: str, address: str, locality: str = "", **more: str) -> Endpoint:
    made = endpoint(address, locality=locality, network=more.get("network", ""))
    return replace(made, registry=registry, cluster_id=registry)


def order(
    *endpoints: Endpoint, policy: MergePolicy = UNION, gateways: tuple[NetworkGateway, ...] = ()
) -> list[list[str]]:
    """Addresses by priority."""
    view = FakeView(
        [REVIEWS],
        {REVIEWS: endpoints},
        [rule(DestinationRule, EJECTING)],
        proxy=HERE,
        policy=policy,
        gateways=gateways,
    )
    [target] = targets(REVIEWS, resolve_destination_rule(view, REVIEWS))
    assert isinstance(target, Target)
    groups = build_groups(view, target, endpoints)
    tiers: dict[int, list[str]] = {}
    for group in groups:
        assert group.weight == sum(each.weight for each in group.endpoints)
        tiers.setdefault(group.priority, []).extend(each.address for each in group.endpoints)
    assert sorted(tiers) == list(range(len(tiers))), "Envoy wants priorities without gaps"
    return [tiers[priority] for priority in sorted(tiers)]


def test_places_rank_within_each_registry_and_registries_before_places() -> None:
    """A near endpoint of the second registry waits behind a far one of the first."""
    endpoints = (
        of("west", "10.2.0.1", "eu/eu-1"),
        of("east", "10.1.0.1", "eu/eu-1"),
        of("east", "10.1.0.2", "us/us-1"),
    )

    assert order(*endpoints, policy=FAILOVER) == [["10.1.0.1"], ["10.1.0.2"], ["10.2.0.1"]]
    assert order(*endpoints) == [["10.2.0.1", "10.1.0.1"], ["10.1.0.2"]]


def test_two_registries_behind_one_gateway_have_it_once() -> None:
    """Envoy would keep the first of equal addresses; then its weight must be that one's too."""
    way = NetworkGateway("net2", "192.0.2.1", 15443)
    endpoints = (
        of("east", "10.1.0.1", network="net2"),
        of("west", "10.2.0.1", network="net2"),
        of("west", "10.2.0.2", network="net1"),
    )

    found = order(*endpoints, policy=FAILOVER, gateways=(way,))

    assert found == [["192.0.2.1"], ["10.2.0.2"]]


def test_gateways_take_part_in_failover_by_place() -> None:
    """One in the own region is tried before endpoints of another region."""
    way = NetworkGateway("net2", "192.0.2.1", 15443, locality=Locality("eu", "eu-2"))
    endpoints = (
        of("east", "10.1.0.1", "eu/eu-1", network="net1"),
        of("west", "10.2.0.1", "ap/ap-1", network="net2"),
        of("south", "10.3.0.1", "us/us-1", network="net1"),
    )

    assert order(*endpoints, gateways=(way,)) == [["10.1.0.1"], ["192.0.2.1"], ["10.3.0.1"]]


def test_local_hosts_are_local_before_registries_share() -> None:
    """A registry of another cluster has no say in what does not leave the cluster."""
    host = "dns.kube-system.svc.cluster.local"
    local = replace(REVIEWS, host=host, namespace="kube-system")
    endpoints = (of("east", "10.1.0.1"), of("west", "10.2.0.1"))
    view = FakeView([local], {local: endpoints}, proxy=HERE, policy=FAILOVER)
    [target] = targets(local, resolve_destination_rule(view, local))

    [group] = build_groups(view, target, endpoints)

    assert [each.address for each in group.endpoints] == ["10.1.0.1"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["east", "west", "south"]),
            st.sampled_from(["", "eu/eu-1", "eu/eu-2", "us/us-1"]),
            st.sampled_from(["", "net1", "net2"]),
        ),
        max_size=10,
    ),
    st.sampled_from([UNION, FAILOVER]),
)
def test_nobody_is_lost_and_nobody_is_there_twice(
    drawn: list[tuple[str, str, str]], policy: MergePolicy
) -> None:
    """Whatever the registries, places and networks: each endpoint is in one group."""
    endpoints = [
        of(registry, f"10.0.0.{n}", where, network=network)
        for n, (registry, where, network) in enumerate(drawn)
    ]

    found = order(*endpoints, policy=policy)

    assert sorted(address for tier in found for address in tier) == sorted(
        each.address for each in endpoints
    )
