"""Where hosts have virtual hosts, and that no domain ever stands twice in a route table."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.generators.sidecar_scope import outbound_scope
from aggregator.generators.virtual_host_place import PlaceResolver, is_host, short_names
from aggregator.model.config import Config
from aggregator.model.proxy import Proxy
from aggregator.model.service import Port, Service
from config.host import resolve_host
from config.mesh import MeshConfig
from tests.support.builders import port, service
from tests.support.route_table import virtual_hosts
from tests.support.rules import sidecar, virtual_service
from tests.support.view import FakeView

REVIEWS = "reviews.shop.svc.cluster.local"
RATINGS = "ratings.bank.svc.cluster.local"


def domains(view: FakeView, host: str) -> dict[str, list[str]]:
    """The domains of every virtual host of *host*, by resource name."""
    return {name: list(found.domains) for name, found in virtual_hosts(view, host).items()}


def answer(*hosts: str, name: str = "rule", created: float = 0.0) -> Config:
    """A VirtualService that answers for *hosts* itself."""
    listed = ", ".join(f"'{host}'" for host in hosts)
    return virtual_service(
        f"{{hosts: [{listed}], http: [{{directResponse: {{status: 200}}}}]}}",
        name=name,
        created=created,
    )


@pytest.mark.parametrize(
    ("host", "usable"),
    [
        (REVIEWS, True),
        ("a", True),
        ("*.example", True),
        ("*-a.example", True),
        ("a_b.example", True),
        ("10.0.0.1", True),
        ("2001:db8::1", True),
        ("2001:DB8::1", False),
        ("2001:db8:0::1", False),
        ("*", False),
        ("", False),
        ("A.example", False),
        ("a.example.", False),
        (".example", False),
        ("a..example", False),
        ("a/b", False),
        ("a:80", False),
        ("[::1]", False),
        ("*.*.example", False),
    ],
)
def test_only_what_envoy_takes_once_is_a_host(host: str, *, usable: bool) -> None:
    """Envoy compares domains in lower case, so that "A" and "a" would be one domain twice."""
    assert is_host(host) is usable


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (REVIEWS, ("reviews", "reviews.shop", "reviews.shop.svc")),
        (RATINGS, ("ratings.bank", "ratings.bank.svc")),
        ("*.shop.svc.cluster.local", ("*.shop", "*.shop.svc")),
        ("pod-0.reviews.shop.svc.cluster.local", ("pod-0.reviews.shop", "pod-0.reviews.shop.svc")),
        ("a.b.svc.svc.cluster.local", ("a.b.svc.svc",)),
        ("a.svc.svc.cluster.local", ("a.svc", "a.svc.svc")),
        ("shop.svc.cluster.local", ()),
        ("api.example", ()),
    ],
)
def test_short_names_are_those_of_kubernetes_search_list(
    host: str, expected: tuple[str, ...]
) -> None:
    """Only the proxy's own namespace leaves out the namespace."""
    assert short_names(FakeView(), host) == expected


def test_domains_are_all_spellings_of_a_service() -> None:
    """Clients say what their resolver let them say; the port is Envoy's to leave out."""
    view = FakeView([service(REVIEWS, port(9080), addresses=["10.0.0.1", "2001:db8::1"])])

    assert domains(view, REVIEWS) == {
        f"9080/{REVIEWS}:9080": [
            REVIEWS,
            f"{REVIEWS}.",
            "reviews",
            "reviews.shop",
            "reviews.shop.svc",
            "10.0.0.1",
            "[2001:db8::1]",
        ]
    }


def test_ranges_and_unspecified_addresses_are_no_domains() -> None:
    """Nobody writes them into a request."""
    view = FakeView([service("a.example", addresses=["10.0.0.0/8", "0.0.0.0", "::", "x"])])

    assert domains(view, "a.example")["80/a.example:80"] == ["a.example", "a.example."]


def test_a_host_by_its_full_name_goes_before_a_short_one() -> None:
    """A service that is called "reviews.shop" is not hidden by another one's alias."""
    named = service("reviews.shop", namespace="bank")
    view = FakeView([service(REVIEWS), named], configs=[answer("reviews.shop.svc")])

    assert domains(view, REVIEWS)[f"80/{REVIEWS}:80"] == [REVIEWS, f"{REVIEWS}.", "reviews"]
    assert "reviews.shop" in domains(view, "reviews.shop")["80/reviews.shop:80"]
    assert "reviews.shop.svc" in domains(view, "reviews.shop.svc")["80/reviews.shop.svc:80"]


def test_short_name_stays_where_the_other_host_is_not() -> None:
    """A conflict on one port takes nothing away on another."""
    named = service("reviews.shop", port(9090), namespace="bank")
    view = FakeView([service(REVIEWS), named])

    assert "reviews.shop" in domains(view, REVIEWS)[f"80/{REVIEWS}:80"]


def test_shared_address_is_the_oldest_services() -> None:
    """One of the two gets the requests, always the same, and the other's owner is told."""
    old = service("old.example", addresses=["10.0.0.1"], created=1)
    young = service("young.example", addresses=["10.0.0.1"], created=2)
    view = FakeView([young, old])

    assert "10.0.0.1" in domains(view, "old.example")["80/old.example:80"]
    assert not view.problems
    assert "10.0.0.1" not in domains(view, "young.example")["80/young.example:80"]
    assert [problem.message for problem in view.problems] == [
        "requests to 10.0.0.1, port 80, go to default/old.example, which is older"
    ]


def test_shared_address_on_other_ports_is_no_conflict() -> None:
    """Services may share a load balancer's address port by port."""
    old = service("old.example", port(90), port(80, "TCP"), addresses=["10.0.0.1"], created=1)
    young = service("young.example", addresses=["10.0.0.1"], created=2)
    view = FakeView([young, old])

    assert "10.0.0.1" in domains(view, "young.example")["80/young.example:80"]
    assert not view.problems


def test_rule_for_an_address_goes_before_the_service_that_has_it() -> None:
    """A rule that names an address means it."""
    view = FakeView([service("a.example", addresses=["10.0.0.1"])], configs=[answer("10.0.0.1")])

    assert domains(view, "a.example")["80/a.example:80"] == ["a.example", "a.example."]
    assert domains(view, "10.0.0.1") == {"80/10.0.0.1:80": ["10.0.0.1"]}


def test_only_http_ports_have_virtual_hosts() -> None:
    """Connections of other protocols never get here."""
    view = FakeView([service(REVIEWS, port(80), port(9090, "GRPC"), port(3306, "TCP"))])

    assert list(domains(view, REVIEWS)) == [f"80/{REVIEWS}:80", f"9090/{REVIEWS}:9090"]


def test_host_of_rules_alone_stands_on_port_80_and_where_its_siblings_are() -> None:
    """Istio's rule, widened by a wildcard service that takes the host in."""
    services = [
        service(REVIEWS, port(9080)),
        service("*.wide.example", port(7000)),
        service("any.example"),
    ]
    rule = answer("reviews.mesh", "api.wide.example", REVIEWS)

    view = FakeView(services, configs=[rule])
    assert [name.partition("/")[0] for name in domains(view, "reviews.mesh")] == ["80", "9080"]
    assert [name.partition("/")[0] for name in domains(view, "api.wide.example")] == [
        "80",
        "7000",
        "9080",
    ]


def test_host_of_rules_alone_needs_a_listener_on_port_80() -> None:
    """A virtual host of a route that nobody serves would be for nothing."""
    view = FakeView([service(REVIEWS, port(9080))], configs=[answer("api.example")])

    assert domains(view, "api.example") == {}


def test_where_every_port_comes_in_the_port_tells_services_apart() -> None:
    """An HTTP proxy is asked for ``host:port``; none written is port 80."""
    mesh = MeshConfig(proxy_http_port=15080)
    both = service(REVIEWS, port(80), port(9080), addresses=["10.0.0.1"])
    view = FakeView([both], mesh=mesh)

    found = domains(view, REVIEWS)

    assert f"{REVIEWS}:80" in found[f"http_proxy/{REVIEWS}:80"]
    assert {"reviews", "10.0.0.1"} <= set(found[f"http_proxy/{REVIEWS}:80"])
    assert found[f"http_proxy/{REVIEWS}:9080"] == [
        f"{REVIEWS}:9080",
        f"{REVIEWS}.:9080",
        "reviews:9080",
        "reviews.shop:9080",
        "reviews.shop.svc:9080",
        "10.0.0.1:9080",
    ]


def test_socket_takes_a_name_without_port_for_the_services_only_one() -> None:
    """Who dials a socket has no port in mind."""
    rule = sidecar(
        "egress: [{port: {number: 0, protocol: HTTP, name: c}, bind: 'unix:///s', hosts: ['*/*']}]"
    )
    view = FakeView([service(REVIEWS, port(9080))], sidecar=rule)

    assert "reviews" in domains(view, REVIEWS)[f"unix:///s/{REVIEWS}:9080"]


def test_explicit_port_takes_its_hosts_from_its_listener_only() -> None:
    """Listeners of one Sidecar may lead to different hosts under one port's name."""
    rule = sidecar(
        f"""
        egress:
        - {{port: {{number: 80, protocol: HTTP, name: a}}, hosts: ['bank/{RATINGS}']}}
        - {{hosts: ['shop/*']}}
        """
    )
    services = [service(REVIEWS, port(80), port(90)), service(RATINGS, port(80), port(90))]
    view = FakeView(services, sidecar=rule)

    assert list(domains(view, REVIEWS)) == [f"90/{REVIEWS}:90"]
    assert list(domains(view, RATINGS)) == [f"80/{RATINGS}:80"]


def test_places_ask_each_name_once() -> None:
    """The resolver serves one build, in which nothing changes."""
    view = FakeView([service(REVIEWS, port(80), port(90))])
    resolver = PlaceResolver(view, outbound_scope(view))

    first = resolver.places(REVIEWS)
    view.reads.clear()

    assert resolver.places(REVIEWS) is first
    assert not view.reads


# Names that are made to collide: full and short forms of each other, in odd namespaces.
NAMES = st.sampled_from(["a", "b", "svc", "*"])
HOSTS = st.one_of(
    st.builds("{}.{}.svc.cluster.local".format, NAMES, st.sampled_from(["shop", "bank", "svc"])),
    st.builds("a.{}.{}.svc.cluster.local".format, st.sampled_from(["b", "svc"]), NAMES),
    st.builds("{}.{}".format, NAMES, st.sampled_from(["shop", "shop.svc", "svc", "b.svc"])),
    st.sampled_from(["a", "A", "a.shop.svc.cluster.local.", "*", "10.0.0.1", "shop", "::1"]),
)
ADDRESSES = st.lists(
    st.sampled_from(["10.0.0.1", "10.0.0.2", "::1", "0:0::1", "10.0.0.0/8"]), max_size=3
)
PORTS = st.lists(
    st.sampled_from([port(80), port(90), port(80, "TCP"), port(90, "GRPC")]), min_size=1, max_size=2
)


def _service(
    host: str, namespace: str, ports: list[Port], addresses: list[str], created: float
) -> Service:
    return service(host, *ports, namespace=namespace, addresses=addresses, created=created)


SERVICES = st.lists(
    st.builds(
        _service,
        HOSTS,
        st.sampled_from(["shop", "bank"]),
        PORTS,
        ADDRESSES,
        st.sampled_from([0.0, 1.0, 2.0]),
    ),
    max_size=8,
    unique_by=lambda each: each.key,
)
RULES = st.lists(st.lists(HOSTS, min_size=1, max_size=2, unique=True), max_size=3)
SIDECARS = st.sampled_from(
    [
        "",
        "egress: [{hosts: ['shop/*']}]",
        """
        egress:
        - {port: {number: 80, protocol: HTTP, name: a}, hosts: ['shop/*']}
        - {port: {number: 90, protocol: HTTP_PROXY, name: b}, bind: 127.0.0.1, hosts: ['*/*']}
        - {port: {number: 0, protocol: HTTP, name: c}, bind: 'unix:///s', hosts: ['bank/*']}
        - {hosts: ['*/*']}
        """,
    ]
)


@settings(max_examples=300, deadline=None)
@given(services=SERVICES, rules=RULES, scope=SIDECARS, namespace=st.sampled_from(["shop", "bank"]))
def test_no_domain_stands_twice_in_a_route(
    services: list[Service], rules: list[list[str]], scope: str, namespace: str
) -> None:
    """Envoy rejects a route table with a domain in it twice, and with it every other host."""
    view = FakeView(
        services,
        configs=[answer(*hosts, name=f"r{index}") for index, hosts in enumerate(rules)],
        proxy=Proxy(id="p", namespace=namespace),
        mesh=MeshConfig(proxy_http_port=15080),
        sidecar=sidecar(scope) if scope else None,
    )
    named = {resolve_host(host, "shop", "cluster.local") for each in rules for host in each}
    hosts = {each.host for each in services} | named
    count: Counter[tuple[str, str]] = Counter()
    for name, found in virtual_hosts(view, *sorted(hosts)).items():
        assert found.name == name
        assert found.domains
        route = name.rpartition("/")[0]
        count.update((route, domain.lower()) for domain in found.domains)
        assert "*" not in found.domains

    assert [domain for domain, times in count.items() if times > 1] == []
