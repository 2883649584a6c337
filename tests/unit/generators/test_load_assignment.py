"""Bytes of assignments, and which endpoints are in them."""

import itertools

import pytest
from envoy.config.core.v3 import health_check_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from hypothesis import given
from hypothesis import strategies as st

from aggregator.generators.load_assignment import (
    build_load_assignment,
    endpoints_of,
    is_address,
    of_family,
    serving_endpoints,
)
from aggregator.generators.locality import Group, Preference, group_endpoints
from aggregator.model.service import Endpoint, Health, Locality, Service
from config.kinds.destination_rule import Subset
from config.traffic_policy import LocalityLoadBalancerSetting
from tests.support.builders import endpoint, port, service
from tests.support.view import FakeView

HTTP = port(80, target=8080)
REVIEWS = service("reviews.shop.svc.cluster.local", HTTP)


def read(body: bytes) -> endpoint_pb2.ClusterLoadAssignment:
    return endpoint_pb2.ClusterLoadAssignment.FromString(body)


def group(*endpoints: Endpoint) -> Group:
    return Group(endpoints[0].locality, list(endpoints), sum(each.weight for each in endpoints))


def serving(*endpoints: Endpoint, of: Service = REVIEWS) -> list[str]:
    view = FakeView([of], {of: endpoints})
    return [each.address for each in serving_endpoints(view, of)]


def test_an_assignment_says_place_address_weight_and_health() -> None:
    """The one message that decides where requests go."""
    where = "eu/eu-1/a"
    members = group(endpoint("10.0.0.1", locality=where, weight=3), endpoint("::1", locality=where))

    built = read(build_load_assignment("outbound|80||reviews", [members], HTTP))

    assert built.cluster_name == "outbound|80||reviews"
    [place] = built.endpoints
    locality = place.locality
    assert (locality.region, locality.zone, locality.sub_zone) == ("eu", "eu-1", "a")
    assert (place.load_balancing_weight.value, place.priority) == (4, 0)
    sockets = [each.endpoint.address.socket_address for each in place.lb_endpoints]
    assert [(each.address, each.port_value) for each in sockets] == [
        ("10.0.0.1", 8080),
        ("::1", 8080),
    ]
    assert [each.load_balancing_weight.value for each in place.lb_endpoints] == [3, 1]
    assert {each.health_status for each in place.lb_endpoints} == {health_check_pb2.HEALTHY}


@pytest.mark.parametrize("path", ["/run/app.sock", "@app"])
def test_a_unix_socket_is_a_pipe(path: str) -> None:
    """Workloads on the same machine need no port."""
    built = read(build_load_assignment("c", [group(endpoint(path))], HTTP))

    assert built.endpoints[0].lb_endpoints[0].endpoint.address.pipe.path == path


def test_an_endpoints_own_port_comes_before_the_services_target() -> None:
    """A VM may serve on another port than the pods do."""
    built = read(build_load_assignment("c", [group(endpoint(ports={"http": 19080}))], HTTP))

    assert built.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value == 19080


def test_metadata_names_the_workload_and_the_tls_mode_where_known() -> None:
    """Telemetry and transport socket matches read these keys; others pay no bytes for them."""
    labelled = endpoint(
        "10.0.0.1",
        labels={"app": "reviews", "version": "v1", "security.istio.io/tlsMode": "istio"},
        cluster_id="east",
    )

    built = read(build_load_assignment("c", [group(labelled, endpoint("10.0.0.2"))], HTTP))

    known, plain = built.endpoints[0].lb_endpoints
    fields = known.metadata.filter_metadata
    assert fields["istio"]["workload"] == ";;reviews;v1;east"
    assert fields["envoy.transport_socket_match"]["tlsMode"] == "istio"
    assert not plain.HasField("metadata")


LOCALITIES = st.sampled_from([Locality(), Locality("eu"), Locality("eu", "eu-1", "ü")])
ENDPOINTS = st.builds(
    Endpoint,
    address=st.one_of(st.ip_addresses().map(str), st.just("/run/app.sock")),
    labels=st.sampled_from([(), (("app", "x"),), (("security.istio.io/tlsMode", "istio"),)]),
    weight=st.integers(1, 2**32 - 1),
)
GROUPS = st.builds(
    Group,
    locality=LOCALITIES,
    endpoints=st.lists(ENDPOINTS, max_size=5),
    weight=st.integers(1, 2**32 - 1),
    priority=st.integers(0, 300),
)


@given(st.lists(GROUPS, max_size=4))
def test_joined_bytes_are_those_of_deterministic_serialisation(groups: list[Group]) -> None:
    """Versions are hashes of these bytes: two ways of writing one message would be two versions."""
    body = build_load_assignment("outbound|80||reviews", groups, HTTP)

    assert read(body).SerializeToString(deterministic=True) == body


@given(st.lists(GROUPS, max_size=4))
def test_weights_never_add_up_to_more_than_envoy_accepts(groups: list[Group]) -> None:
    """One absurd weight in a registry must not have the whole assignment refused."""
    built = read(build_load_assignment("c", groups, HTTP))

    assert sum(each.load_balancing_weight.value for each in built.endpoints) <= 2**32 - 1
    for each in built.endpoints:
        members = [member.load_balancing_weight.value for member in each.lb_endpoints]
        assert sum(members) <= 2**32 - 1
        assert all(members)


def test_order_of_arrival_does_not_change_the_bytes_sent() -> None:
    """A proxy is not sent the same endpoints again because localities came in another order."""
    near, far = endpoint("10.0.0.1", locality="a/b/c"), endpoint("10.0.0.2", locality="d/e/f")
    none = LocalityLoadBalancerSetting()

    built = {
        build_load_assignment(
            "c", group_endpoints(FakeView(), order, Preference(none, False)), HTTP
        )
        for order in itertools.permutations((near, far))
    }

    assert len(built) == 1


def test_only_ready_endpoints_with_a_weight_get_traffic() -> None:
    """Draining one is what weight 0 is for; a pod that terminates gets nothing new."""
    endpoints = [
        endpoint("10.0.0.1"),
        endpoint("10.0.0.2", weight=0),
        endpoint("10.0.0.3", health=Health.NOT_READY),
        endpoint("10.0.0.4", health=Health.DRAINING),
        endpoint("10.0.0.5", health=Health.TERMINATING),
    ]
    publishing = service(REVIEWS.host, publish_not_ready=True)

    assert serving(*endpoints) == ["10.0.0.1"]
    assert serving(*endpoints, of=publishing) == ["10.0.0.1", "10.0.0.3"]


def test_names_are_left_out_and_reported() -> None:
    """Envoy refuses an assignment with a host name, and with it all other endpoints."""
    view = FakeView([REVIEWS], {REVIEWS: [endpoint("10.0.0.1"), endpoint("db.example.com")]})

    assert [each.address for each in serving_endpoints(view, REVIEWS)] == ["10.0.0.1"]
    [problem] = view.problems
    assert "db.example.com" in problem.message
    assert len(serving_endpoints(view, REVIEWS, names=True)) == 2


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "expected"),
    [
        (True, False, ["10.0.0.1", "/run/a.sock", "@a"]),
        (False, True, ["2001:db8::1", "/run/a.sock", "@a"]),
        (True, True, ["10.0.0.1", "2001:db8::1", "/run/a.sock", "@a"]),
    ],
)
def test_of_both_families_a_proxy_gets_its_own(ipv4: bool, ipv6: bool, expected: list[str]) -> None:
    """Half of the requests would fail if an IPv4 proxy were sent a dual-stack service's IPv6."""
    addresses = ["10.0.0.1", "2001:db8::1", "/run/a.sock", "@a"]
    endpoints = [endpoint(address) for address in addresses]

    found = of_family(FakeView(ipv4=ipv4, ipv6=ipv6), endpoints)

    assert [each.address for each in found] == expected


def test_of_one_family_every_proxy_gets_all_and_is_asked_nothing() -> None:
    """Proxies of all families share the bytes of a service that has only one."""
    view = FakeView()

    assert len(of_family(view, [endpoint("2001:db8::1")])) == 1
    assert not view.reads


def test_an_endpoint_that_does_not_serve_a_port_is_not_in_its_cluster() -> None:
    """Services united from several registries need not have the same ports everywhere."""
    one, other = endpoint("10.0.0.1", ports={"http": 0}), endpoint("10.0.0.2")

    assert endpoints_of([one, other], HTTP) == [other]
    assert endpoints_of([one, other], port(9000, "GRPC")) == [one, other]


def test_a_subset_is_the_endpoints_with_its_labels() -> None:
    """That is what a canary is made of."""
    v1, v2 = endpoint("10.0.0.1", labels={"version": "v1"}), endpoint(labels={"version": "v2"})

    assert endpoints_of([v1, v2], HTTP, Subset("v1", {"version": "v1"})) == [v1]
    assert endpoints_of([v1, v2], HTTP, Subset("all")) == [v1, v2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", True),
        ("2001:db8::1", True),
        ("/run/a.sock", True),
        ("localhost", False),
        ("a.example.com", False),
        ("10.0.0.256", False),
        ("0.0.0.0", True),
    ],
)
def test_what_is_an_address(text: str, expected: bool) -> None:
    """Decides between what Envoy dials and what it would have to resolve."""
    assert is_address(text) is expected
