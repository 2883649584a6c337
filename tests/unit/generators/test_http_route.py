"""The routes of one host and port, built from rules and asked for their effect."""

import pytest
from envoy.config.route.v3 import route_components_pb2

from aggregator.generators.http_route import HostRoutes, build_host_routes, destination_port
from aggregator.model.config import Config
from aggregator.model.service import Service
from config.destination import Destination, PortSelector
from config.http_route import HTTPRetry
from config.mesh import MeshConfig
from tests.support.builders import port, service
from tests.support.rules import destination_rule, virtual_service
from tests.support.view import FakeView

HOST = "reviews.shop.svc.cluster.local"
CLUSTER = f"outbound|80||{HOST}"
RATINGS = "ratings.shop.svc.cluster.local"
REVIEWS = service(HOST)
SERVICES = (REVIEWS, service(RATINGS))


def routes_of(
    rule: str,
    *others: Config,
    services: tuple[Service, ...] = SERVICES,
    number: int = 80,
    problems: list[str] | None = None,
) -> HostRoutes:
    """What becomes of the HTTP rules *rule* of HOST; what is reported ends in *problems*."""
    config = virtual_service(f"hosts: [reviews]\nhttp:\n{rule}")
    view = FakeView(services, configs=[config, *others])
    found = build_host_routes(view, None, HOST, number, REVIEWS)
    assert found is not None
    reported = [f"{each.path}: {each.message}" for each in view.problems]
    if problems is None:
        assert reported == []
    else:
        problems.extend(reported)
    return found


def one(rule: str, *others: Config) -> route_components_pb2.Route:
    """The only route of a rule."""
    (route,) = routes_of(rule, *others).routes
    return route


def test_service_without_rules_gets_everything_itself() -> None:
    """No limit of time, the mesh's retries, and a name for traces."""
    found = build_host_routes(FakeView(SERVICES), None, HOST, 80, REVIEWS)

    assert found is not None
    (route,) = found.routes
    assert (route.name, route.match.prefix, route.route.cluster) == ("default", "/", CLUSTER)
    assert route.route.HasField("timeout")
    assert route.route.timeout.seconds == 0
    assert route.route.retry_policy.num_retries.value == 2
    assert route.decorator.operation == f"{HOST}:80/*"
    assert found.clusters == {CLUSTER}


def test_mesh_retry_policy_holds_where_no_rule_says_else() -> None:
    """defaultHttpRetryPolicy is the mesh's own default."""
    mesh = MeshConfig(default_http_retry_policy=HTTPRetry(attempts=7))
    config = virtual_service(
        """
        hosts: [reviews]
        http:
        - {match: [{uri: {prefix: /a}}], route: [{destination: {host: reviews}}]}
        - {route: [{destination: {host: reviews}}], retries: {attempts: 1}}
        """
    )

    plain = build_host_routes(FakeView(SERVICES, mesh=mesh), None, HOST, 80, REVIEWS)
    ruled = build_host_routes(
        FakeView(SERVICES, configs=[config], mesh=mesh), None, HOST, 80, REVIEWS
    )

    assert plain is not None
    assert ruled is not None
    retries = [each.route.retry_policy.num_retries.value for each in (*plain.routes, *ruled.routes)]
    assert retries == [7, 7, 1]


def test_host_that_nobody_knows_has_no_routes() -> None:
    """Neither a service nor a rule speaks of it."""
    assert build_host_routes(FakeView(), None, "a.example", 80, None) is None


def test_single_destination_takes_all_and_lends_its_headers_to_the_route() -> None:
    """The weight of one is of no matter, the header changes of both hold."""
    route = one(
        """
        - headers: {request: {set: {a: '1'}}, response: {remove: [b]}}
          route:
          - destination: {host: reviews}
            headers: {request: {set: {c: '2', host: x.example}}, response: {remove: [d]}}
        """
    )

    assert route.route.cluster == CLUSTER
    assert [each.header.key for each in route.request_headers_to_add] == ["a", "c"]
    assert list(route.response_headers_to_remove) == ["b", "d"]
    assert route.route.host_rewrite_literal == "x.example"


def test_weights_share_out_and_zero_gets_nothing() -> None:
    """A destination of weight zero is out; each keeps its own header changes."""
    found = routes_of(
        """
        - route:
          - {destination: {host: reviews, subset: v1}, weight: 90}
          - destination: {host: ratings}
            weight: 10
            headers: {request: {set: {a: '1', host: x.example}, remove: [b]}}
          - {destination: {host: gone.example}, weight: 0}
        """,
        destination_rule("{host: reviews, subsets: [{name: v1}]}"),
    )

    clusters = found.routes[0].route.weighted_clusters.clusters
    assert [(each.name, each.weight.value) for each in clusters] == [
        (f"outbound|80|v1|{HOST}", 90),
        (f"outbound|80||{RATINGS}", 10),
    ]
    assert [each.header.key for each in clusters[1].request_headers_to_add] == ["a"]
    assert list(clusters[1].request_headers_to_remove) == ["b"]
    assert clusters[1].host_rewrite_literal == "x.example"
    assert found.clusters == {f"outbound|80|v1|{HOST}", f"outbound|80||{RATINGS}"}


def test_only_weighted_destination_left_is_sent_to_directly() -> None:
    """The end of a canary is an ordinary route."""
    route = one(
        """
        - route:
          - {destination: {host: reviews}, weight: 100}
          - {destination: {host: ratings}, weight: 0}
        """
    )

    assert route.route.cluster == CLUSTER


def test_rule_without_any_weight_fails_rather_than_falls_through() -> None:
    """Requests that a rule claims do not go where a later one sends others."""
    problems: list[str] = []

    found = routes_of(
        """
        - route:
          - {destination: {host: reviews}, weight: 0}
          - {destination: {host: ratings}, weight: 0}
        """,
        problems=problems,
    )

    assert found.routes[0].direct_response.status == 500
    assert problems == ["spec.http[0].route: no destination has any weight"]


def test_names_of_rule_and_match_are_the_routes() -> None:
    """Access logs and traces show them."""
    found = routes_of(
        """
        - name: api
          match: [{name: get, uri: {prefix: /a}, statPrefix: s}, {uri: {exact: /b}}]
          route: [{destination: {host: reviews}}]
        - {match: [{name: rest, uri: {regex: '/c.*'}}], directResponse: {status: 200}}
        """
    )

    assert [each.name for each in found.routes] == ["api.get", "api", "rest"]
    assert [each.decorator.operation for each in found.routes] == [
        f"{HOST}:80/a*",
        f"{HOST}:80/b",
        "rule:80/c.*",
    ]
    assert [each.stat_prefix for each in found.routes] == ["s", "", ""]


def test_route_tells_the_object_that_made_it() -> None:
    """Istio's tools print this path beside a route."""
    route = one("- route: [{destination: {host: reviews}}]")

    assert route.metadata.filter_metadata["istio"]["config"] == (
        "/apis/networking.istio.io/v1/namespaces/shop/virtual-service/rule"
    )


def test_rules_after_one_that_takes_everything_are_left_out() -> None:
    """They could never be reached."""
    found = routes_of(
        """
        - match: [{uri: {prefix: /a}}, {uri: {prefix: /}}, {uri: {prefix: /b}}]
          route: [{destination: {host: reviews}}]
        - route: [{destination: {host: ratings}}]
        """
    )

    assert [each.match.prefix for each in found.routes] == ["/a", "/"]


def test_conditions_on_the_port_are_decided_per_port() -> None:
    """A route table is for one port, so that Envoy need not look."""
    rule = """
        - {match: [{port: 80}], route: [{destination: {host: reviews}}]}
        - {match: [{port: 90}], route: [{destination: {host: ratings}}]}
        """
    both = tuple(service(host, port(80), port(90)) for host in (HOST, RATINGS))

    assert routes_of(rule).routes[0].route.cluster == CLUSTER
    assert routes_of(rule, services=both, number=90).routes[0].route.cluster == (
        f"outbound|90||{RATINGS}"
    )


def test_conditions_on_claims_never_hold() -> None:
    """Without anything that verifies tokens a client could claim whatever it likes."""
    problems: list[str] = []

    found = routes_of(
        """
        - match: [{headers: {'@request.auth.claims.group': {exact: admin}}}]
          route: [{destination: {host: ratings}}]
        - route: [{destination: {host: reviews}}]
        """,
        problems=problems,
    )

    assert [each.route.cluster for each in found.routes] == [CLUSTER]
    assert problems == ["spec.http[0].match: conditions on token claims never hold here"]


def test_rewrite_of_the_authority_goes_before_headers() -> None:
    """The more explicit word holds."""
    route = one(
        """
        - headers: {request: {set: {host: a.example}}}
          rewrite: {uri: /x, authority: b.example}
          route: [{destination: {host: reviews}, headers: {request: {set: {host: c.example}}}}]
        """
    )

    assert route.route.host_rewrite_literal == "b.example"
    assert route.route.prefix_rewrite == "/x"


def test_timeout_and_retries_are_the_rules() -> None:
    """A rule's own limits replace the defaults."""
    route = one(
        """
        - timeout: 1500ms
          retries: {attempts: 0}
          route: [{destination: {host: reviews}}]
        """
    )

    assert (route.route.timeout.seconds, route.route.timeout.nanos) == (1, 500_000_000)
    assert not route.route.HasField("retry_policy")


def test_mirrors_get_their_shares() -> None:
    """Both forms of mirrors stand beside each other, and count as clusters that are sent to."""
    found = routes_of(
        """
        - route: [{destination: {host: reviews}}]
          mirror: {host: ratings}
          mirrorPercentage: {value: 12.5}
          mirrors: [{destination: {host: ratings, port: {number: 80}}}]
        """
    )

    mirrors = found.routes[0].route.request_mirror_policies
    assert [each.runtime_fraction.default_value.numerator for each in mirrors] == [
        125_000,
        1_000_000,
    ]
    assert {each.cluster for each in mirrors} == {f"outbound|80||{RATINGS}"}
    assert found.clusters == {CLUSTER, f"outbound|80||{RATINGS}"}


@pytest.mark.parametrize(
    ("share", "expected"),
    [("", 1_000_000), ("mirrorPercent: 30", 300_000), ("mirrorPercent: 0", None)],
)
def test_older_form_of_the_mirrors_share_counts(share: str, expected: int | None) -> None:
    """Nothing said is everything; zero is nothing."""
    text = f"{{route: [{{destination: {{host: reviews}}}}], mirror: {{host: ratings}}, {share}}}"

    mirrors = one(f"- {text}").route.request_mirror_policies

    assert [each.runtime_fraction.default_value.numerator for each in mirrors] == (
        [] if expected is None else [expected]
    )


def test_answers_need_no_destination() -> None:
    """Redirects and direct responses end at the proxy; filters and headers still hold."""
    found = routes_of(
        """
        - match: [{uri: {prefix: /a}}]
          redirect: {uri: /b, redirectCode: 302}
          headers: {response: {set: {x: y}}}
        - directResponse: {status: 418, body: {string: tea}}
          corsPolicy: {allowOrigins: [{exact: 'https://a'}]}
        """
    )

    first, second = found.routes
    assert first.redirect.path_redirect == "/b"
    assert first.response_headers_to_add[0].header.key == "x"
    assert second.direct_response.body.inline_string == "tea"
    assert list(second.typed_per_filter_config) == ["envoy.filters.http.cors"]
    assert found.clusters == frozenset()


def test_redirect_with_another_status_fails() -> None:
    """Envoy knows five; the rest of the table must not suffer."""
    problems: list[str] = []

    found = routes_of("- redirect: {redirectCode: 200}", problems=problems)

    assert found.routes[0].direct_response.status == 500
    assert problems == ["spec.http[0].redirect: redirectCode is no redirect"]


def test_faults_go_with_the_route() -> None:
    """The filter reads them from there."""
    route = one(
        """
        - fault: {abort: {httpStatus: 503, percentage: {value: 1}}}
          route: [{destination: {host: reviews}}]
        """
    )

    assert list(route.typed_per_filter_config) == ["envoy.filters.http.fault"]


@pytest.mark.parametrize(
    ("destination", "ports", "expected"),
    [
        (Destination("x", port=PortSelector(7)), (80, 90), 7),
        (Destination("x"), (8080,), 8080),
        (Destination("x"), (80, 90), 90),
        (Destination("x"), (), 90),
    ],
)
def test_port_is_the_destinations_or_the_services_only_one_or_the_requests(
    destination: Destination, ports: tuple[int, ...], expected: int
) -> None:
    """Istio's order."""
    of = service("x", *(port(number) for number in ports)) if ports else None

    assert destination_port(destination, of, 90) == expected


def test_what_is_not_there_is_named_and_reported() -> None:
    """The route comes to life as soon as the destination does; until then its author is told."""
    problems: list[str] = []

    found = routes_of(
        """
        - route: [{destination: {host: nobody}}]
          mirrors:
          - {destination: {host: reviews, subset: v9}}
          - {destination: {host: ratings, port: {number: 9}}}
        """,
        problems=problems,
    )

    assert found.clusters == {
        "outbound|80||nobody.shop.svc.cluster.local",
        f"outbound|80|v9|{HOST}",
        f"outbound|9||{RATINGS}",
    }
    assert problems == [
        "spec.http[0].route[0].destination: no service nobody.shop.svc.cluster.local is known here",
        f"spec.http[0].mirrors[0].destination: no DestinationRule of {HOST} has subset 'v9'",
        f"spec.http[0].mirrors[1].destination: service {RATINGS} has no port 9",
    ]


HASHING = "loadBalancer: {consistentHash: {httpHeaderName: x-user}}"


def test_hash_policy_is_the_destinations() -> None:
    """A cluster that hashes needs the route to say what of a request."""
    policy = destination_rule(f"{{host: reviews, trafficPolicy: {{{HASHING}}}}}")
    plain = build_host_routes(FakeView(SERVICES, configs=[policy]), None, HOST, 80, REVIEWS)
    found = routes_of("- route: [{destination: {host: reviews}}]", policy)

    assert plain is not None
    for each in (plain, found):
        (hashing,) = each.routes[0].route.hash_policy
        assert hashing.header.header_name == "x-user"
        assert not each.routes[0].route.retry_policy.retry_host_predicate
        assert "DestinationRule shop/policy" in each.origins


def test_hash_policy_of_a_subset_and_port_is_its_own() -> None:
    """The nearest setting of the DestinationRule decides, as for the cluster."""
    policy = destination_rule(
        """
        host: reviews
        subsets:
        - name: v1
          trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}
        - name: v2
        """
    )
    found = routes_of(
        """
        - route:
          - {destination: {host: reviews, subset: v1}, weight: 50}
          - {destination: {host: reviews, subset: v2}, weight: 50}
        """,
        policy,
    )

    (hashing,) = found.routes[0].route.hash_policy
    assert hashing.connection_properties.source_ip


def test_other_rules_of_the_host_are_reported() -> None:
    """Of two for one host only the older holds, and the younger's author is told."""
    older = virtual_service(
        "{hosts: [reviews], http: [{directResponse: {status: 200}}]}", name="older", created=1
    )
    younger = virtual_service(
        "{hosts: [reviews], http: [{directResponse: {status: 201}}]}", name="younger", created=2
    )
    view = FakeView(SERVICES, configs=[younger, older])

    found = build_host_routes(view, None, HOST, 80, REVIEWS)

    assert found is not None
    assert found.routes[0].direct_response.status == 200
    assert [(each.subject, each.message) for each in view.problems] == [
        (
            "VirtualService shop/younger",
            f"host {HOST} already has its routes from VirtualService shop/older",
        )
    ]


def test_rules_that_leave_these_proxies_nothing_give_way() -> None:
    """A rule for some clients only does not take the host from the others."""
    some = virtual_service(
        "{hosts: [reviews], http: [{match: [{sourceNamespace: bank}],"
        " directResponse: {status: 200}}]}",
        name="some",
        created=1,
    )
    view = FakeView(SERVICES, configs=[some])

    found = build_host_routes(view, None, HOST, 80, REVIEWS)

    assert found is not None
    assert [each.name for each in found.routes] == ["default"]
    assert not view.problems


def test_origins_name_root_and_delegate() -> None:
    """What a proxy rejects is laid at the right door."""
    root = virtual_service("{hosts: [reviews], http: [{delegate: {name: inner}}]}", name="root")
    inner = virtual_service("http: [{directResponse: {status: 200}}]", name="inner")

    found = build_host_routes(FakeView(SERVICES, configs=[root, inner]), None, HOST, 80, REVIEWS)

    assert found is not None
    assert found.origins == ("VirtualService shop/root", "VirtualService shop/inner")
