"""Virtual hosts as resources: names, contents, and how little each unit reads."""

from envoy.config.route.v3 import route_pb2

from aggregator.generators import route, virtual_host
from aggregator.generators.spec import ROUTE, Root
from aggregator.model.proxy import Proxy
from aggregator.model.service import labels_of
from config.mesh import MeshConfig
from tests.support.builders import port, service
from tests.support.route_table import (
    Request,
    find_cluster,
    find_route,
    route_table,
    virtual_hosts,
)
from tests.support.rules import virtual_service
from tests.support.view import FakeView, generate

REVIEWS = "reviews.shop.svc.cluster.local"
RATINGS = "ratings.shop.svc.cluster.local"
CANARY = """
hosts: [reviews]
http:
- match: [{headers: {x-canary: {exact: 'yes'}}}]
  route: [{destination: {host: ratings}}]
- route: [{destination: {host: reviews}}]
"""


def test_name_of_the_message_is_the_resources() -> None:
    """Envoy honours the removal of a virtual host only then."""
    for name, found in virtual_hosts(FakeView([service(REVIEWS)]), REVIEWS).items():
        assert found.name == name == f"80/{REVIEWS}:80"
        assert found.include_request_attempt_count


def test_joined_to_its_head_it_routes() -> None:
    """What clients without VHDS get is one table, made of bytes that are set side by side."""
    view = FakeView([service(REVIEWS), service(RATINGS)], configs=[virtual_service(CANARY)])
    table = route_table(view, "80", REVIEWS, RATINGS)

    assert find_cluster(table, Request("reviews")) == f"outbound|80||{REVIEWS}"
    assert find_cluster(table, Request("reviews:1234")) == f"outbound|80||{REVIEWS}"
    assert find_cluster(table, Request("Reviews.Shop", headers={"x-canary": "yes"})) == (
        f"outbound|80||{RATINGS}"
    )
    assert find_cluster(table, Request("api.example")) == "PassthroughCluster"


def test_field_of_the_head_that_repeats_is_the_declared_one() -> None:
    """The engine joins virtual hosts to heads by this number, without parsing either."""
    descriptor = route_pb2.RouteConfiguration.DESCRIPTOR
    spec = virtual_host.GENERATOR

    assert spec.part_of is ROUTE
    assert descriptor.fields_by_number[spec.part_field].name == "virtual_hosts"


def test_proxy_port_serves_every_host_and_port() -> None:
    """One table tells services apart by host and port."""
    view = FakeView(
        [service(REVIEWS, port(80), port(9080)), service(RATINGS, port(9080))],
        mesh=MeshConfig(proxy_http_port=15080),
    )
    table = route_table(view, "http_proxy", REVIEWS, RATINGS)

    assert find_cluster(table, Request("reviews")) == f"outbound|80||{REVIEWS}"
    assert find_cluster(table, Request("reviews:9080")) == f"outbound|9080||{REVIEWS}"
    assert find_cluster(table, Request("ratings:9080")) == f"outbound|9080||{RATINGS}"
    found = find_route(table, Request("ratings"))
    assert found is not None
    assert found.direct_response.status == 502


def test_wildcard_rule_shapes_every_service_below_it() -> None:
    """It stands for hosts that no other rule names, services or not."""
    wide = virtual_service(
        "{hosts: ['*.shop.svc.cluster.local'], http: [{directResponse: {status: 418}}]}",
        name="wide",
    )
    view = FakeView([service(REVIEWS), service(RATINGS)], configs=[virtual_service(CANARY), wide])
    table = route_table(view, "80", REVIEWS, RATINGS, "*.shop.svc.cluster.local")

    def status(authority: str) -> int:
        found = find_route(table, Request(authority))
        assert found is not None
        return found.direct_response.status

    assert status("ratings") == 418
    assert status("unknown.shop.svc.cluster.local") == 418
    assert status("reviews") == 0


def test_resource_knows_its_clusters_and_origins() -> None:
    """The order of pushes goes by the first, messages about rejects by the second."""
    view = FakeView([service(REVIEWS), service(RATINGS)], configs=[virtual_service(CANARY)])

    (found,) = generate(virtual_host.GENERATOR, view, Root.ROUTE_HOST, REVIEWS).values()

    assert found.clusters == {f"outbound|80||{REVIEWS}", f"outbound|80||{RATINGS}"}
    assert found.origins == ("VirtualService shop/rule",)


def test_unit_reads_no_attribute_of_the_proxy() -> None:
    """Proxies of every zone, network and version share each virtual host."""
    view = FakeView([service(REVIEWS)], configs=[virtual_service(CANARY)])

    generate(virtual_host.GENERATOR, view, Root.ROUTE_HOST, REVIEWS)

    asked = {what for question, what in view.reads if question == "attribute"}
    assert asked <= {"domain_suffix"}
    assert {what for question, what in view.reads if question == "in_namespace"} == {"shop"}
    assert {question for question, _ in view.reads} == {
        "attribute",
        "configs",
        "in_namespace",
        "mesh",
        "service",
        "sidecar",
    }


def test_units_of_other_hosts_are_not_read() -> None:
    """A change of one service builds the virtual hosts of that one, and of who names it."""
    view = FakeView([service(REVIEWS), service(RATINGS)])

    generate(virtual_host.GENERATOR, view, Root.ROUTE_HOST, REVIEWS)

    assert ("service", RATINGS) not in view.reads


def test_same_input_gives_the_same_bytes() -> None:
    """Two replicas send the same versions, whatever order their registries answered in."""
    services = [service(REVIEWS, addresses=["10.0.0.1"]), service(RATINGS, addresses=["10.0.0.1"])]
    rules = [virtual_service(CANARY, name="a"), virtual_service(CANARY, name="b")]

    built = {
        found.version
        for view in (
            FakeView(services, configs=rules),
            FakeView(services[::-1], configs=rules[::-1]),
        )
        for found in generate(virtual_host.GENERATOR, view, Root.ROUTE_HOST, REVIEWS).values()
    }

    assert len(built) == 1


def test_host_that_is_no_domain_is_reported_and_left_out() -> None:
    """It alone has no routes; in a table it would take all others along."""
    upper = service("Reviews.example")
    rule = virtual_service("{hosts: ['*'], http: [{directResponse: {status: 200}}]}")
    view = FakeView([upper], configs=[rule])

    assert virtual_hosts(view, "Reviews.example", "*") == {}
    assert [problem.subject for problem in view.problems] == [
        "default/Reviews.example",
        "VirtualService shop/rule",
    ]


def test_rule_that_leaves_nothing_to_a_host_of_its_own_makes_no_virtual_host() -> None:
    """Envoy takes no virtual host that answers nothing for what it is; the catch-all decides."""
    rule = virtual_service(
        "{hosts: [api.example], http: [{match: [{sourceLabels: {app: a}}],"
        " directResponse: {status: 200}}]}"
    )
    others = Proxy(id="p", namespace="shop", labels=labels_of({"app": "b"}))

    assert (
        virtual_hosts(FakeView([service(REVIEWS)], configs=[rule], proxy=others), "api.example")
        == {}
    )


def test_generators_cover_each_route_that_they_name() -> None:
    """Every virtual host's route has a head, else nobody would ever serve it."""
    view = FakeView(
        [service(REVIEWS, port(80), port(9080)), service("a.example", port(7000))],
        configs=[virtual_service(CANARY)],
        mesh=MeshConfig(proxy_http_port=15080),
    )
    heads = set(generate(route.GENERATOR, view, Root.VIEW))
    for number in ("80", "9080", "7000"):
        heads |= set(generate(route.GENERATOR, view, Root.PORT, number))

    named = {name.rpartition("/")[0] for name in virtual_hosts(view, REVIEWS, "a.example")}

    assert named == heads == {"80", "9080", "7000", "http_proxy"}
