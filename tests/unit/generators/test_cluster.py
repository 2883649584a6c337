"""CDS: clusters of services, as a whole."""

from collections.abc import Mapping
from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.transport_sockets.proxy_protocol.v3 import upstream_proxy_protocol_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2

from aggregator.generators.cluster import GENERATOR
from aggregator.generators.connection_pool import HTTP_OPTIONS_NAME, HttpOptions
from aggregator.generators.endpoint import GENERATOR as ENDPOINT_GENERATOR
from aggregator.generators.spec import Resource, Root
from aggregator.generators.tls import SOCKET_NAME
from aggregator.model.errors import Severity
from aggregator.model.proxy import Proxy
from aggregator.model.service import Endpoint, Locality, Service
from config.kinds.destination_rule import DestinationRule
from config.mesh import MeshConfig
from tests.support.builders import endpoint, port, rule, service
from tests.support.view import FakeView, generate

Cluster = cluster_pb2.Cluster
REVIEWS = service("reviews.shop.svc.cluster.local", port(80), origin="east")
NAME = "outbound|80||reviews.shop.svc.cluster.local"
V1 = "outbound|80|v1|reviews.shop.svc.cluster.local"


def view_of(
    of: Service = REVIEWS,
    *endpoints: Endpoint,
    policy: Mapping[str, Any] | None = None,
    subsets: tuple[Mapping[str, Any], ...] = (),
    generator: str = "",
    locality: str = "",
    mesh: MeshConfig | None = None,
    ipv4: bool = True,
    ipv6: bool = False,
) -> FakeView:
    spec = {"host": of.host, "trafficPolicy": policy, "subsets": list(subsets)}
    spec = {name: value for name, value in spec.items() if value}
    rules = [rule(DestinationRule, spec, source="rule.yaml", line=3)] if len(spec) > 1 else []
    proxy = Proxy(
        id="test", namespace="shop", generator=generator, locality=Locality.parse(locality)
    )
    return FakeView([of], {of: endpoints}, rules, proxy=proxy, mesh=mesh, ipv4=ipv4, ipv6=ipv6)


def resources(view: FakeView, of: Service = REVIEWS) -> dict[str, Resource]:
    return generate(GENERATOR, view, Root.HOST, of.host)


def build(view: FakeView, of: Service = REVIEWS) -> dict[str, cluster_pb2.Cluster]:
    built = resources(view, of)
    return {name: Cluster.FromString(each.body) for name, each in built.items()}


def one(view: FakeView, of: Service = REVIEWS) -> cluster_pb2.Cluster:
    return build(view, of)[f"outbound|{of.ports[0].number}||{of.host}"]


def http_options(cluster: cluster_pb2.Cluster) -> HttpOptions:
    options = HttpOptions()
    assert cluster.typed_extension_protocol_options[HTTP_OPTIONS_NAME].Unpack(options)
    return options


def test_a_service_is_a_cluster_with_endpoints_over_the_same_stream() -> None:
    """The plainest case, as Istio's users know it."""
    built = one(view_of())

    assert (built.name, built.type, built.lb_policy) == (NAME, Cluster.EDS, Cluster.LEAST_REQUEST)
    assert built.alt_stat_name == f"{NAME};"
    assert built.eds_cluster_config.service_name == NAME
    source = built.eds_cluster_config.eds_config
    assert source.HasField("ads")
    assert source.initial_fetch_timeout.ToTimedelta().total_seconds() == 0
    assert source.HasField("initial_fetch_timeout")
    assert built.connect_timeout.seconds == 10
    assert built.common_lb_config.HasField("healthy_panic_threshold")
    assert built.common_lb_config.healthy_panic_threshold.value == 0
    assert not built.typed_extension_protocol_options
    assert not built.HasField("transport_socket")
    assert "services" in built.metadata.filter_metadata["istio"]


def test_a_plain_service_asks_little_of_the_proxy() -> None:
    """All proxies of one kind share its clusters; its endpoints are none of CDS's business."""
    view = view_of()
    build(view)

    asked = {read for read in view.reads if read[0] != "configs"}
    assert asked == {
        ("service", REVIEWS.host),
        ("merge_policy", str(REVIEWS.key)),
        ("attribute", "generator"),
        ("mesh", "connect_timeout"),
        ("mesh", "h2_upgrade_policy"),
        ("mesh", "locality_lb_setting"),
        ("mesh", "tcp_keepalive"),
    }


def test_each_port_and_subset_has_its_cluster() -> None:
    """Routes name them; what a subset's policy says holds for it alone."""
    subset = {"name": "v1", "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 1}}}}
    two = service(REVIEWS.host, port(80), port(9000, "GRPC"), port(53, "UDP"))

    built = build(view_of(two, subsets=(subset,)), two)

    assert sorted(name.split("|")[1:3] for name in built) == [
        ["80", ""],
        ["80", "v1"],
        ["9000", ""],
        ["9000", "v1"],
    ]
    limit = built[V1].circuit_breakers.thresholds[0].max_connections.value
    assert (limit, built[V1].metadata.filter_metadata["istio"]["subset"]) == (1, "v1")
    assert http_options(built["outbound|9000||reviews.shop.svc.cluster.local"]).HasField(
        "explicit_http_config"
    )


def test_a_host_that_is_not_seen_has_no_cluster() -> None:
    """The unit of a service that went away makes nothing."""
    assert generate(GENERATOR, view_of(), Root.HOST, "other.shop.svc.cluster.local") == {}


def test_the_rule_and_the_service_are_named_as_origins() -> None:
    """What a proxy refuses is told at the file that caused it."""
    found = resources(view_of(policy={"outlierDetection": {}}))

    assert found[NAME].origins == ("DestinationRule shop/rule (rule.yaml:3)", "east")
    assert resources(view_of())[NAME].origins == ("east",)


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "family"),
    [(True, False, Cluster.V4_ONLY), (False, True, Cluster.V6_ONLY), (True, True, Cluster.ALL)],
)
def test_names_are_resolved_by_envoy(
    ipv4: bool, ipv6: bool, family: cluster_pb2.Cluster.DnsLookupFamily.ValueType
) -> None:
    """The endpoints are in the cluster, and the proxy's families decide what is asked."""
    named = service("db.example.com", port(5432, "TCP"), resolution="DNS")
    view = view_of(
        named, endpoint("a.example.com", weight=2), endpoint("10.0.0.1"), ipv4=ipv4, ipv6=ipv6
    )

    built = one(view, named)

    assert (built.type, built.dns_lookup_family) == (Cluster.STRICT_DNS, family)
    assert built.dns_refresh_rate.seconds == 60  # type: ignore[deprecated]
    assert built.respect_dns_ttl
    [place] = built.load_assignment.endpoints
    sockets = [each.endpoint.address.socket_address for each in place.lb_endpoints]
    assert [(each.address, each.port_value) for each in sockets] == [
        ("a.example.com", 5432),
        ("10.0.0.1", 5432),
    ]
    assert built.load_assignment.cluster_name == built.name
    assert not built.HasField("eds_cluster_config")


def test_a_subset_of_names_has_only_its_own() -> None:
    """Subsets of external services work as those of others do."""
    named = service("db.example.com", resolution="DNS")
    v1 = endpoint("a.example.com", labels={"version": "v1"})
    view = view_of(
        named, v1, endpoint("b.example.com"), subsets=({"name": "v1", "labels": {"version": "v1"}},)
    )

    [place] = build(view, named)["outbound|80|v1|db.example.com"].load_assignment.endpoints

    assert len(place.lb_endpoints) == 1


def test_names_fail_over_by_place_like_all_endpoints() -> None:
    """Priorities are relative to the proxy's place."""
    named = service("db.example.com", resolution="DNS")
    view = view_of(
        named,
        endpoint("a.example.com", locality="eu/a/1"),
        endpoint("b.example.com", locality="us/a/1"),
        policy={"outlierDetection": {}},
        locality="us/a/1",
    )

    places = one(view, named).load_assignment.endpoints

    assert [(each.locality.region, each.priority) for each in places] == [("eu", 1), ("us", 0)]


def test_names_without_any_endpoint_are_an_empty_cluster() -> None:
    """A route to it answers 503 at once, and not "no such cluster"."""
    strict = service("a.example.com", resolution="DNS")
    logical = service("b.example.com", resolution="DNS_ROUND_ROBIN")

    assert len(one(view_of(strict), strict).load_assignment.endpoints) == 0
    assert one(view_of(strict), strict).type == Cluster.STRICT_DNS
    assert one(view_of(logical), logical).type == Cluster.STATIC


def test_round_robin_names_are_one_name() -> None:
    """Envoy refuses the cluster with a second one; so it is left out, and told."""
    logical = service("b.example.com", resolution="DNS_ROUND_ROBIN")
    view = view_of(logical, endpoint("one.example.com"), endpoint("two.example.com"))

    built = one(view, logical)

    [place] = built.load_assignment.endpoints
    assert (built.type, len(place.lb_endpoints)) == (Cluster.LOGICAL_DNS, 1)
    [problem] = view.problems
    assert "one.example.com" in problem.message


def test_unix_sockets_are_no_names() -> None:
    """Envoy refuses them in clusters that it resolves."""
    named = service("db.example.com", resolution="DNS")
    view = view_of(named, endpoint("/run/db.sock"), endpoint("a.example.com"))

    [place] = one(view, named).load_assignment.endpoints

    assert len(place.lb_endpoints) == 1
    assert len(view.problems) == 1


def test_an_unresolved_service_goes_where_the_connection_went() -> None:
    """To another port only where the service says so."""
    none = service("a.example.com", port(443, "TLS"), resolution="NONE")
    moved = service("b.example.com", port(443, "TLS", target=8443), resolution="NONE")

    built = one(view_of(none), none)

    assert (built.type, built.lb_policy) == (Cluster.ORIGINAL_DST, Cluster.CLUSTER_PROVIDED)
    assert built.WhichOneof("lb_config") is None
    assert one(view_of(moved), moved).original_dst_lb_config.upstream_port_override.value == 8443


def test_names_that_requests_bring_are_resolved_by_envoy() -> None:
    """Behind one wildcard host any name can be asked for, and TLS is held to that very name."""
    dynamic = service("*.example.com", port(443, "HTTPS"), resolution="DYNAMIC_DNS")
    view = view_of(
        dynamic, policy={"tls": {"mode": "SIMPLE"}, "loadBalancer": {"simple": "RANDOM"}}
    )
    built = one(view, dynamic)

    assert built.cluster_type.name == "envoy.clusters.dynamic_forward_proxy"
    assert built.lb_policy == Cluster.CLUSTER_PROVIDED
    options = http_options(built).upstream_http_protocol_options
    assert (options.auto_sni, options.auto_san_validation) == (True, True)
    assert generate(ENDPOINT_GENERATOR, view, Root.HOST, dynamic.host) == {}


def test_a_resolution_without_support_is_reported_and_left_out() -> None:
    """Nothing is sent that would do something else than what was asked."""
    dynamic = service("*.example.com", resolution="DYNAMIC_DNS", origin="east")
    view = view_of(dynamic, generator="grpc")

    assert build(view, dynamic) == {}
    [problem] = view.problems
    assert (problem.severity, problem.origin.source) == (Severity.ERROR, "east")


def test_a_cluster_that_cannot_be_secured_is_closed_and_told_once() -> None:
    """Requests get 503; never plaintext, and never a proxy that waits for a certificate."""
    subsets = ({"name": "v1"}, {"name": "v2"})
    view = view_of(REVIEWS, endpoint(), policy={"tls": {"mode": "ISTIO_MUTUAL"}}, subsets=subsets)

    built = build(view)

    for cluster in built.values():
        assert cluster.type == Cluster.STATIC
        assert not cluster.load_assignment.endpoints
        assert not cluster.HasField("transport_socket")
    [problem] = view.problems
    assert (problem.severity, problem.origin.line) == (Severity.ERROR, 3)
    assert problem.subject == "DestinationRule shop/rule"
    assert generate(ENDPOINT_GENERATOR, view, Root.HOST, REVIEWS.host) == {}


def test_a_subset_may_be_open_where_the_rest_is_closed() -> None:
    """Each cluster is judged by its own policy."""
    view = view_of(
        policy={"tls": {"mode": "ISTIO_MUTUAL"}},
        subsets=({"name": "v1", "trafficPolicy": {"tls": {"mode": "DISABLE"}}},),
    )

    built = build(view)

    assert (built[NAME].type, built[V1].type) == (Cluster.STATIC, Cluster.EDS)


def test_tls_takes_the_servers_name_from_the_request() -> None:
    """And demands a certificate for it, so that DNS cannot be led astray."""
    built = one(view_of(policy={"tls": {"mode": "SIMPLE"}}))

    assert built.transport_socket.name == SOCKET_NAME
    upstream = http_options(built).upstream_http_protocol_options
    assert (upstream.auto_sni, upstream.auto_san_validation) == (True, True)


def test_names_of_the_service_are_expected_where_the_rule_has_none() -> None:
    """subjectAltNames of a ServiceEntry are what its certificates must show."""
    known = service(REVIEWS.host, subject_alt_names=("spiffe://mesh/reviews",))

    built = one(view_of(known, policy={"tls": {"mode": "SIMPLE"}}), known)

    context = tls_pb2.UpstreamTlsContext()
    assert built.transport_socket.typed_config.Unpack(context)
    [name] = context.common_tls_context.validation_context.match_typed_subject_alt_names
    assert name.matcher.exact == "spiffe://mesh/reviews"
    assert not http_options(built).upstream_http_protocol_options.auto_san_validation


def test_the_proxy_protocol_goes_around_tls() -> None:
    """The header comes before the handshake."""
    built = one(view_of(policy={"tls": {"mode": "SIMPLE", "sni": "a.b"}, "proxyProtocol": {}}))

    outer = upstream_proxy_protocol_pb2.ProxyProtocolUpstreamTransport()
    assert built.transport_socket.typed_config.Unpack(outer)
    assert outer.transport_socket.name == SOCKET_NAME


def test_status_codes_of_outlier_detection_are_an_option_of_http() -> None:
    """There Envoy sees the status."""
    built = one(view_of(policy={"outlierDetection": {"outlierDetectionHttpErrorCodes": [500]}}))

    assert http_options(built).outlier_detection.HasField("error_matcher")
    assert built.HasField("outlier_detection")


def test_weights_of_places_are_on_for_explicit_failover() -> None:
    """Together with outlier detection, which makes it work."""
    balancer = {"localityLbSetting": {"failover": [{"from": "eu", "to": "us"}]}}

    guarded = one(view_of(policy={"loadBalancer": balancer, "outlierDetection": {}}))
    bare = one(view_of(policy={"loadBalancer": balancer}))

    assert guarded.common_lb_config.HasField("locality_weighted_lb_config")
    assert not bare.common_lb_config.HasField("locality_weighted_lb_config")


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        ({"tunnel": {"targetHost": "a", "targetPort": 1}}, "tunnel"),
        ({"loadBalancer": {"zoneAwareLbSetting": {}}}, "zoneAwareLbSetting"),
        ({"retryBudget": {"budgetInterval": "1s"}}, "budgetInterval"),
    ],
)
def test_what_has_no_effect_is_told(policy: Mapping[str, Any], named: str) -> None:
    """A rule must not look as if it worked."""
    view = view_of(policy=policy, subsets=({"name": "v1"},))
    build(view)

    [problem] = view.problems
    assert named in problem.message
    assert problem.severity is Severity.WARNING


def test_grpc_gets_what_its_client_accepts() -> None:
    """Its core refuses other policies, and one bad cluster takes its whole response along."""
    policy = {"loadBalancer": {"simple": "RANDOM"}, "outlierDetection": {}}

    built = one(view_of(policy=policy, generator="grpc"))

    assert (built.type, built.lb_policy) == (Cluster.EDS, Cluster.ROUND_ROBIN)
    assert built.HasField("outlier_detection")
    assert not built.HasField("metadata")
    assert not built.alt_stat_name


def test_grpc_resolves_one_name() -> None:
    """It has no cluster of several names, and none without any."""
    named = service("db.example.com", port(9000, "GRPC"), resolution="DNS")
    two = view_of(named, endpoint("a.example.com"), endpoint("b.example.com"), generator="grpc")
    drained = view_of(named, endpoint("a.example.com", weight=0), generator="grpc")

    built = one(two, named)

    [place] = built.load_assignment.endpoints
    assert (built.type, len(place.lb_endpoints)) == (Cluster.LOGICAL_DNS, 1)
    assert len(two.problems) == 1
    assert build(drained, named) == {}


def test_a_closed_cluster_of_grpc_waits_for_an_empty_assignment() -> None:
    """It knows no static clusters; the assignment is made, so that it does not wait."""
    view = view_of(REVIEWS, endpoint(), policy={"tls": {"mode": "SIMPLE"}}, generator="grpc")

    built = one(view)

    assert (built.type, built.HasField("transport_socket")) == (Cluster.EDS, False)
    assert NAME in generate(ENDPOINT_GENERATOR, view, Root.HOST, REVIEWS.host)


def test_every_eds_cluster_has_its_assignment_and_no_other_has() -> None:
    """A cluster that waits for an assignment which nobody makes holds up all the others."""
    host = "a.example.com"
    for generator in ("", "grpc"):
        for resolution in ("STATIC", "DNS", "DNS_ROUND_ROBIN", "NONE", "DYNAMIC_DNS"):
            for mode in ("DISABLE", "SIMPLE", "ISTIO_MUTUAL"):
                for address in ("10.0.0.1", host):
                    each = service(host, resolution=resolution)
                    policy = {"tls": {"mode": mode}}
                    view = view_of(each, endpoint(address), policy=policy, generator=generator)
                    clusters = build(view, each)
                    assigned = generate(ENDPOINT_GENERATOR, view, Root.HOST, host)
                    waiting = {name for name, of in clusters.items() if of.type == Cluster.EDS}
                    assert waiting == set(assigned), (generator, resolution, mode, address)


def test_equal_input_gives_equal_bytes() -> None:
    """Two replicas, and one after a restart, send the same versions."""
    policy = {"tls": {"mode": "SIMPLE"}, "outlierDetection": {}, "connectionPool": {"http": {}}}

    first, second = (resources(view_of(policy=policy))[NAME] for _ in range(2))

    assert (first.version, first.any_field) == (second.version, second.any_field)
