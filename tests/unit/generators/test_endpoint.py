"""EDS: which clusters have assignments, for whom, and what they cost to share."""

from collections.abc import Mapping
from typing import Any

from envoy.config.endpoint.v3 import endpoint_pb2

from aggregator.generators.endpoint import GENERATOR
from aggregator.generators.spec import Resource, Root
from aggregator.model.proxy import Proxy
from aggregator.model.service import Endpoint, Locality, Service
from config.kinds.destination_rule import DestinationRule
from tests.support.builders import endpoint, port, rule, service
from tests.support.view import FakeView, generate

REVIEWS = service("reviews.shop.svc.cluster.local", port(80), port(9000, "GRPC"), origin="east")
NAME = "outbound|80||reviews.shop.svc.cluster.local"
V1 = "outbound|80|v1|reviews.shop.svc.cluster.local"
SUBSETS = [{"name": "v1", "labels": {"version": "v1"}}, {"name": "v9", "labels": {"version": "v9"}}]


def view_of(
    *endpoints: Endpoint,
    of: Service = REVIEWS,
    spec: Mapping[str, Any] | None = None,
    generator: str = "",
    locality: str = "",
) -> FakeView:
    rules = [rule(DestinationRule, {"host": of.host, **spec}, source="rule.yaml")] if spec else []
    proxy = Proxy(
        id="test", namespace="shop", generator=generator, locality=Locality.parse(locality)
    )
    return FakeView([of], {of: endpoints}, rules, proxy=proxy)


def build(view: FakeView, of: Service = REVIEWS) -> dict[str, Resource]:
    return generate(GENERATOR, view, Root.HOST, of.host)


def read(resource: Resource) -> endpoint_pb2.ClusterLoadAssignment:
    return endpoint_pb2.ClusterLoadAssignment.FromString(resource.body)


def addresses(resource: Resource) -> list[str]:
    return [
        member.endpoint.address.socket_address.address
        for place in read(resource).endpoints
        for member in place.lb_endpoints
    ]


def test_each_cluster_of_a_host_has_an_assignment() -> None:
    """Envoy warms a cluster until its assignment is there."""
    built = build(view_of(endpoint("10.0.0.1"), spec={"subsets": SUBSETS}))

    assert sorted(built) == sorted(
        f"outbound|{number}|{subset}|{REVIEWS.host}"
        for number in (80, 9000)
        for subset in ("", "v1", "v9")
    )
    assert all(read(each).cluster_name == name for name, each in built.items())


def test_an_assignment_without_endpoints_is_empty_but_there() -> None:
    """A removed assignment would leave the last endpoints in use, a missing one blocks CDS."""
    built = build(
        view_of(endpoint("10.0.0.1", labels={"version": "v1"}), spec={"subsets": SUBSETS})
    )

    assert addresses(built[V1]) == ["10.0.0.1"]
    empty = built["outbound|80|v9|reviews.shop.svc.cluster.local"]
    assert (addresses(empty), read(empty).cluster_name) == ([], empty.name)


def test_a_service_that_only_redirected_requests_reach_is_told_to_others() -> None:
    """Its requests get 503, and nothing else would say why."""
    anywhere = service("*.example.org", port(80), resolution="NONE")
    view = FakeView([anywhere], {anywhere: []}, proxy=Proxy(id="vm", interception_mode="NONE"))

    assert generate(GENERATOR, view, Root.HOST, "*.example.org")
    [problem] = view.problems
    assert "resolution NONE" in problem.message


def test_a_host_that_is_not_seen_has_none() -> None:
    """The unit of a service that went away makes nothing."""
    assert generate(GENERATOR, view_of(), Root.HOST, "other.shop.svc.cluster.local") == {}


def test_clusters_that_find_endpoints_otherwise_have_no_assignment() -> None:
    """An assignment that no cluster asks for is a waste, and shows as an unknown resource."""
    named = service("db.example.com", resolution="DNS")
    passed = service("any.example.com", resolution="NONE")

    assert build(view_of(endpoint("a.example.com"), of=named), named) == {}
    assert build(view_of(of=passed), passed) == {}
    assert build(view_of(spec={"trafficPolicy": {"loadBalancer": {"simple": "PASSTHROUGH"}}})) == {}


def test_a_closed_cluster_has_no_assignment_unless_for_grpc() -> None:
    """Endpoints for a cluster that must not be used could only leak traffic."""
    spec = {"trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}

    assert build(view_of(endpoint("10.0.0.1"), spec=spec)) == {}
    for_grpc = build(view_of(endpoint("10.0.0.1"), spec=spec, generator="grpc"))
    assert [addresses(each) for each in for_grpc.values()] == [[], []]


def test_failover_needs_outlier_detection_and_then_the_proxys_place() -> None:
    """Proxies of all zones share the bytes of services without it."""
    endpoints = [endpoint("10.0.0.1", locality="eu/a/1"), endpoint("10.0.0.2", locality="us/a/1")]
    plain = view_of(*endpoints, locality="us/a/1")
    guarded = view_of(
        *endpoints, locality="us/a/1", spec={"trafficPolicy": {"outlierDetection": {}}}
    )

    without, with_it = build(plain)[NAME], build(guarded)[NAME]

    assert [place.priority for place in read(without).endpoints] == [0, 0]
    assert [place.priority for place in read(with_it).endpoints] == [1, 0]
    assert ("attribute", "locality") not in plain.reads
    assert ("attribute", "locality") in guarded.reads


def test_a_subset_may_fail_over_where_the_rest_does_not() -> None:
    """The subset's own policy decides about its priorities."""
    subset = {**SUBSETS[0], "trafficPolicy": {"outlierDetection": {}}}
    view = view_of(
        endpoint("10.0.0.1", locality="eu/a/1", labels={"version": "v1"}),
        endpoint("10.0.0.2", locality="us/a/1", labels={"version": "v1"}),
        spec={"subsets": [subset]},
        locality="us/a/1",
    )

    built = build(view)

    assert {place.priority for place in read(built[NAME]).endpoints} == {0}
    assert {place.priority for place in read(built[V1]).endpoints} == {0, 1}


def test_a_plain_service_asks_for_nothing_of_the_proxy() -> None:
    """All proxies of one kind share its assignment; a change of anything else builds nothing."""
    view = view_of(endpoint("10.0.0.1"))
    build(view)

    assert view.reads - {read for read in view.reads if read[0] == "configs"} == {
        ("service", REVIEWS.host),
        ("endpoints", str(REVIEWS.key)),
        ("merge_policy", str(REVIEWS.key)),
        ("attribute", "generator"),
        ("mesh", "locality_lb_setting"),
    }


def test_the_rule_and_the_service_are_named_as_origins() -> None:
    """What a proxy refuses is told at the file that caused it."""
    built = build(view_of(endpoint("10.0.0.1"), spec={"subsets": SUBSETS}))

    assert built[NAME].origins == ("DestinationRule shop/rule (rule.yaml)", "east")


def test_equal_input_gives_equal_versions() -> None:
    """Two replicas send the same version; another weight is another version."""
    one, same = build(view_of(endpoint("10.0.0.1"))), build(view_of(endpoint("10.0.0.1")))
    other = build(view_of(endpoint("10.0.0.1", weight=2)))

    assert one[NAME].version == same[NAME].version != other[NAME].version


def test_grpc_gets_a_place_for_each_weight() -> None:
    """gRPC's round robin ignores the weights of endpoints, but not those of places."""
    view = view_of(
        endpoint("10.0.0.1", locality="eu/a/1", weight=9),
        endpoint("10.0.0.2", locality="eu/a/1"),
        endpoint("10.0.0.3", locality="eu/a/1"),
        endpoint("10.0.0.4", locality="us/a/1", weight=2),
        generator="grpc",
    )

    places = read(build(view)[NAME]).endpoints

    assert [
        (each.locality.sub_zone, len(each.lb_endpoints), each.load_balancing_weight.value)
        for each in places
    ] == [("1~1", 2, 2), ("1~9", 1, 9), ("1", 1, 2)]


def test_grpc_keeps_the_shares_of_distribute() -> None:
    """Splitting by weight divides a place's share, and does not replace it."""
    shares = {"localityLbSetting": {"distribute": [{"from": "*", "to": {"eu/*": 50, "us/*": 50}}]}}
    view = view_of(
        endpoint("10.0.0.1", locality="eu/a/1", weight=4),
        endpoint("10.0.0.2", locality="eu/a/1"),
        endpoint("10.0.0.3", locality="us/a/1", weight=7),
        spec={"trafficPolicy": {"loadBalancer": shares}},
        generator="grpc",
    )

    places = read(build(view)[NAME]).endpoints

    assert [each.load_balancing_weight.value for each in places] == [10, 40, 50]


def test_grpcs_ring_gets_each_endpoints_own_weight() -> None:
    """It multiplies the weights of place and endpoint, so places must weigh the same."""
    hashed = {"consistentHash": {"httpHeaderName": "user"}}
    view = view_of(
        endpoint("10.0.0.1", locality="eu/a/1", weight=4),
        endpoint("10.0.0.2", locality="us/a/1"),
        spec={"trafficPolicy": {"loadBalancer": hashed}},
        generator="grpc",
    )

    places = read(build(view)[NAME]).endpoints

    assert [each.load_balancing_weight.value for each in places] == [1, 1]
    assert places[0].lb_endpoints[0].load_balancing_weight.value == 4
