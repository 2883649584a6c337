"""Gateways in the place of endpoints of other networks."""

from collections import defaultdict
from fractions import Fraction
from itertools import permutations
from typing import Final

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from aggregator.generators.network import reach
from aggregator.model.proxy import Proxy
from aggregator.model.registry import NetworkGateway
from aggregator.model.service import Endpoint, Locality
from tests.support.builders import endpoint, port, service
from tests.support.view import FakeView

HTTP: Final = port(80, target=8080)
REVIEWS: Final = service("reviews.shop.svc.cluster.local", HTTP)
NEAR: Final = endpoint("10.0.0.1", network="net1", locality="eu/eu-1")
FAR: Final = endpoint("10.9.0.1", network="net2", locality="us/us-1")
WAY: Final = NetworkGateway("net2", "192.0.2.1", 15443)


def view_in(
    network: str, *gateways: NetworkGateway, ipv4: bool = True, ipv6: bool = False
) -> FakeView:
    proxy = Proxy(id="test", network=network)
    return FakeView([REVIEWS], gateways=gateways, proxy=proxy, ipv4=ipv4, ipv6=ipv6)


def reached(view: FakeView, *endpoints: Endpoint) -> dict[str, int]:
    """Weights by address and port."""
    found = reach(view, REVIEWS, endpoints, HTTP)
    assert len({(each.address, each.port_number(HTTP)) for each in found}) == len(found)
    return {f"{each.address}:{each.port_number(HTTP)}": each.weight for each in found}


def test_an_endpoint_of_another_network_is_replaced_by_the_gateway_of_that() -> None:
    """Its own address leads nowhere from here, or to somebody else."""
    view = view_in("net1", WAY)

    assert reached(view, NEAR, FAR) == {"10.0.0.1:8080": 1, "192.0.2.1:15443": 1}


def test_without_a_gateway_the_address_stays() -> None:
    """Networks may be named for other reasons than that they are apart."""
    assert reached(view_in("net1"), NEAR, FAR) == {"10.0.0.1:8080": 1, "10.9.0.1:8080": 1}


def test_what_is_in_no_network_is_reached_directly() -> None:
    """Registries that tell no network are as near as ever."""
    assert reached(view_in("net1", WAY), endpoint("10.3.0.1")) == {"10.3.0.1:8080": 1}


def test_a_proxy_that_tells_no_network_takes_the_gateway() -> None:
    """An address of a network that needs a gateway may be anybody's for it."""
    view = view_in("", WAY)

    assert reached(view, NEAR, FAR) == {"10.0.0.1:8080": 1, "192.0.2.1:15443": 1}


def test_the_weights_behind_a_gateway_add_up_over_localities() -> None:
    """Envoy keeps only the first of equal addresses, so each may be there once."""
    far = [
        endpoint(f"10.9.0.{n}", network="net2", locality=f"us/us-{n}", weight=n) for n in (1, 2, 3)
    ]

    assert reached(view_in("net1", WAY), NEAR, *far) == {"10.0.0.1:8080": 1, "192.0.2.1:15443": 6}


def test_gateways_share_evenly_and_proportions_stay() -> None:
    """Two gateways for three endpoints bear 1.5 each, which takes doubled weights to say."""
    other = replace(WAY, address="192.0.2.2")
    far = [replace(FAR, address=f"10.9.0.{n}") for n in (1, 2, 3)]

    assert reached(view_in("net1", WAY, other), NEAR, *far) == {
        "10.0.0.1:8080": 2,
        "192.0.2.1:15443": 3,
        "192.0.2.2:15443": 3,
    }


def test_gateways_of_the_endpoints_own_cluster_come_before_others_of_its_network() -> None:
    """A way round through another cluster would be longer, and may not know the endpoint."""
    east, west = replace(WAY, cluster_id="east"), replace(WAY, address="192.0.2.2", cluster_id="w")
    mine, somewhere = replace(FAR, cluster_id="east"), replace(FAR, address="10.9.0.2")

    found = reached(view_in("net1", east, west), mine, somewhere)

    assert found == {"192.0.2.1:15443": 3, "192.0.2.2:15443": 1}


def test_one_address_that_is_the_gateway_of_two_clusters_is_there_once() -> None:
    """Else Envoy would drop what is behind the second."""
    east, west = replace(WAY, cluster_id="east"), replace(WAY, cluster_id="west")
    far = [replace(FAR, cluster_id="east"), replace(FAR, address="10.9.0.2", cluster_id="west")]

    assert reached(view_in("net1", east, west), *far) == {"192.0.2.1:15443": 2}


def test_a_gateway_stands_where_it_is_said_to_stand() -> None:
    """Failover by locality needs to know how far away it is."""
    placed = replace(WAY, locality=Locality("eu", "eu-9"))

    [found] = reach(view_in("net1", placed), REVIEWS, [FAR], HTTP)

    assert found.locality == Locality("eu", "eu-9")


def test_a_gateway_of_unknown_place_stands_where_most_of_its_endpoints_do() -> None:
    """It must be somewhere, or it would be in no region at all, and the last to be tried."""
    far = [
        replace(FAR, address="10.9.0.2", locality=Locality("ap", "ap-1")),
        replace(FAR, weight=2),
        replace(FAR, address="10.9.0.3", locality=Locality("ap", "ap-2")),
    ]

    for order in permutations(far):
        [found] = reach(view_in("net1", WAY), REVIEWS, order, HTTP)
        assert str(found.locality) == "us/us-1"


def test_a_gateway_has_what_all_behind_it_have() -> None:
    """Priorities by network, cluster or label know it as they know endpoints."""
    far = [
        endpoint("10.9.0.1", network="net2", cluster_id="w", labels={"v": "1", "a": "x"}),
        endpoint("10.9.0.2", network="net2", cluster_id="w", labels={"v": "2", "a": "x"}),
    ]

    [found] = reach(view_in("net1", WAY), REVIEWS, far, HTTP)

    assert (found.network, found.cluster_id, found.labels) == ("net2", "w", (("a", "x"),))


def test_gateways_are_for_proxies_of_their_family() -> None:
    """An IPv4 proxy cannot dial an IPv6 gateway; what only that leads to is left out, and told."""
    six = replace(WAY, address="2001:db8::1")

    assert reached(view_in("net1", WAY, six), FAR) == {"192.0.2.1:15443": 1}
    assert reached(view_in("net1", WAY, six, ipv4=False, ipv6=True), FAR) == {
        "2001:db8::1:15443": 1
    }
    view = view_in("net1", six)
    assert reached(view, NEAR, FAR) == {"10.0.0.1:8080": 1}
    assert "net2" in view.problems[0].message


def test_only_direct_addresses_are_chosen_by_family() -> None:
    """What is behind a gateway may speak whatever it likes."""
    far = [replace(FAR, address="2001:db8::9"), FAR]

    assert reached(view_in("net1", WAY), NEAR, *far)["192.0.2.1:15443"] == 2


def test_a_pod_of_both_families_weighs_once_behind_a_gateway() -> None:
    """As it does where it is reached directly, so that its network gets no double share."""
    pods = [
        replace(FAR, address=address, cluster_id="west", node=node, weight=weight)
        for node, weight in (("a", 1), ("b", 3))
        for address in (f"10.9.0.{weight}", f"fd09::{weight}")
    ]
    vm = replace(FAR, address="fd09::9", cluster_id="west", labels=(("app", "vm"),))

    assert reached(view_in("net1", WAY), NEAR, *pods, vm)["192.0.2.1:15443"] == 5
    both = view_in("net1", WAY, ipv6=True)
    assert reached(both, NEAR, *pods, vm)["192.0.2.1:15443"] == 9


def test_an_endpoint_without_an_address_is_reached_only_through_a_gateway() -> None:
    """Istio's way of saying that a network has something that only its gateway knows."""
    hidden = replace(FAR, address="")

    assert reached(view_in("net1", WAY), hidden) == {"192.0.2.1:15443": 1}
    assert reached(view_in("net1"), hidden) == {}
    assert reached(view_in("net2", WAY), hidden) == {}


def test_proxies_are_asked_for_their_network_only_where_there_are_gateways() -> None:
    """Else all of them share the bytes."""
    view = view_in("net1")
    reached(view, NEAR, FAR)

    assert view.reads == {("gateways", "net1"), ("gateways", "net2")}


@st.composite
def networks(draw: st.DrawFn) -> tuple[list[Endpoint], list[NetworkGateway]]:
    """Endpoints in three networks and two clusters, with gateways for some of them."""
    network = st.sampled_from(["", "net1", "net2", "net3"])
    cluster = st.sampled_from(["", "east", "west"])
    places = st.sampled_from(["eu/a", "eu/b", "us/a"])
    drawn = draw(st.lists(st.tuples(network, cluster, places, st.integers(1, 9)), max_size=12))
    endpoints = [
        endpoint(f"10.0.0.{n}", network=net, cluster_id=own, locality=place, weight=weight)
        for n, (net, own, place, weight) in enumerate(drawn)
    ]
    ways = draw(st.lists(st.tuples(network.filter(bool), cluster, st.integers(1, 4)), max_size=6))
    gateways = {NetworkGateway(net, f"192.0.2.{n}", 15443, own) for net, own, n in ways}
    return endpoints, sorted(gateways, key=str)


@given(networks(), st.sampled_from(["", "net1", "net2"]))
def test_nobody_is_lost_and_everybody_keeps_its_share(
    drawn: tuple[list[Endpoint], list[NetworkGateway]], here: str
) -> None:
    """Whatever the networks: each endpoint's share of traffic is what its weight says, be it
    reached directly or through its gateways, evenly.
    """
    endpoints, gateways = drawn
    expected: defaultdict[str, Fraction] = defaultdict(Fraction)
    total = sum(each.weight for each in endpoints)
    for each in endpoints:
        known = [way for way in gateways if each.network != here and way.network == each.network]
        own = [way for way in known if each.cluster_id and way.cluster_id == each.cluster_id]
        ways = [f"{way.address}:{way.port}" for way in own or known] or [f"{each.address}:8080"]
        for way in ways:
            expected[way] += Fraction(each.weight, total * len(ways))

    found = reached(view_in(here, *gateways), *endpoints)

    whole = sum(found.values())
    assert {place: Fraction(weight, whole) for place, weight in found.items()} == expected
