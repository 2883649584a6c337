"""Which VirtualService holds for a host, and which of its rules for which proxies."""

from aggregator.generators.sidecar_scope import outbound_scope
from aggregator.generators.virtual_service import resolve_rules, virtual_services
from aggregator.model.config import Config
from aggregator.model.proxy import Proxy
from aggregator.model.service import labels_of
from tests.support.rules import sidecar, virtual_service
from tests.support.view import FakeView

HOST = "reviews.shop.svc.cluster.local"
TO_REVIEWS = "http: [{route: [{destination: {host: reviews}}]}]"


def rule(
    hosts: str = "reviews", *, name: str = "rule", namespace: str = "shop", created: float = 0.0
) -> Config:
    """A VirtualService that routes *hosts*."""
    return virtual_service(
        f"hosts: [{hosts}]\n{TO_REVIEWS}", name=name, namespace=namespace, created=created
    )


def names(view: FakeView, host: str = HOST) -> list[str]:
    """The rules that count for a host, in order."""
    return [config.name for config in virtual_services(view, None, host)]


def test_the_most_specific_host_counts_alone() -> None:
    """A rule for one host replaces one for all, however old that is."""
    view = FakeView(
        configs=[
            rule("'*.cluster.local'", name="wide", created=1),
            rule("'*.shop.svc.cluster.local'", name="narrow", created=2),
            rule(name="exact", created=3),
        ]
    )

    assert names(view) == ["exact"]
    assert names(view, "ratings.shop.svc.cluster.local") == ["narrow"]
    assert names(view, "ledger.bank.svc.cluster.local") == ["wide"]
    assert names(view, "api.example") == []


def test_the_oldest_of_equals_comes_first() -> None:
    """A newcomer does not take a host over."""
    view = FakeView(configs=[rule(name="young", created=2), rule(name="old", created=1)])

    assert names(view) == ["old", "young"]


def test_narrower_exports_come_before_wider_ones() -> None:
    """A namespace's own private rule holds for it before the mesh's public one, as in Istio."""
    private = virtual_service(
        f"hosts: [{HOST}]\nexportTo: ['.']\n{TO_REVIEWS}", name="private", created=9
    )
    given = virtual_service(
        f"hosts: [{HOST}]\nexportTo: [shop]\n{TO_REVIEWS}",
        name="given",
        namespace="bank",
        created=8,
    )
    view = FakeView(configs=[rule(HOST, name="public", created=1), private, given])

    assert names(view) == ["private", "given", "public"]


def test_rules_for_gateways_only_are_not_the_meshs() -> None:
    """Sidecars take what names ``mesh``, or no gateway at all."""
    gateway = virtual_service(f"hosts: [{HOST}]\ngateways: [edge]\n{TO_REVIEWS}", name="edge")
    both = virtual_service(f"hosts: [{HOST}]\ngateways: [edge, mesh]\n{TO_REVIEWS}", name="both")

    assert names(FakeView(configs=[gateway, both])) == ["both"]


def test_rules_without_http_are_passed_over() -> None:
    """TCP routes of a host say nothing of its requests."""
    tcp = virtual_service(
        f"hosts: [{HOST}]\ntcp: [{{route: [{{destination: {{host: reviews}}}}]}}]",
        name="tcp",
        created=1,
    )

    assert names(FakeView(configs=[tcp, rule(name="http", created=2)])) == ["http"]


def test_listener_takes_only_rules_that_it_imports() -> None:
    """A Sidecar keeps other namespaces' rules out too."""
    view = FakeView(
        configs=[
            rule(HOST, name="theirs", namespace="bank", created=1),
            rule(HOST, name="ours", created=2),
        ],
        sidecar=sidecar("egress: [{hosts: ['shop/*']}]"),
    )

    found = virtual_services(view, outbound_scope(view).default, HOST)

    assert [config.name for config in found] == ["ours"]


def test_short_hosts_of_destinations_are_the_rules_namespaces() -> None:
    """The same rule means the same for every proxy that it is exported to."""
    config = virtual_service(
        """
        hosts: [api.example]
        http:
        - route: [{destination: {host: reviews}}, {destination: {host: a.b}}]
          mirror: {host: ratings}
          mirrors: [{destination: {host: audit}}]
        """,
        namespace="bank",
    )

    (found,) = resolve_rules(FakeView(configs=[config]), config)

    hosts = [each.destination.host for each in found.route.route]
    assert hosts == ["reviews.bank.svc.cluster.local", "a.b"]
    assert found.route.mirror is not None
    assert found.route.mirror.host == "ratings.bank.svc.cluster.local"
    assert found.route.mirrors[0].destination.host == "audit.bank.svc.cluster.local"


def test_rules_for_other_sources_are_left_out() -> None:
    """Conditions on the client are decided here; Envoy never sees them."""
    config = virtual_service(
        """
        hosts: [reviews]
        http:
        - {name: other-labels, match: [{sourceLabels: {app: cart}}]}
        - {name: other-namespace, match: [{sourceNamespace: bank}]}
        - {name: other-gateway, match: [{gateways: [edge]}]}
        - {name: mine, match: [{sourceLabels: {app: web}, gateways: [mesh]}, {gateways: [edge]}]}
        - {name: anyone}
        """
    )
    proxy = Proxy(id="p", namespace="shop", labels=labels_of({"app": "web", "tier": "front"}))
    view = FakeView(configs=[config], proxy=proxy)

    found = resolve_rules(view, config)

    assert [(each.route.name, len(each.matches)) for each in found] == [("mine", 1), ("anyone", 0)]
    assert [each.path for each in found] == ["spec.http[3]", "spec.http[4]"]


ROOT = """
hosts: [reviews]
http:
- name: outer
  match: [{uri: {prefix: /a}, sourceLabels: {app: web}}]
  timeout: 5s
  delegate: {name: inner, namespace: bank}
- {name: last}
"""


def test_delegated_rules_stand_where_they_were_delegated() -> None:
    """Their destinations are the delegate's namespace's, their rest the root's."""
    root = virtual_service(ROOT)
    inner = virtual_service(
        """
        http:
        - {name: one, match: [{uri: {prefix: /a/1}}], route: [{destination: {host: r}}]}
        - {name: two, route: [{destination: {host: r}}]}
        """,
        name="inner",
        namespace="bank",
    )
    proxy = Proxy(id="p", namespace="shop", labels=labels_of({"app": "web"}))
    view = FakeView(configs=[root, inner], proxy=proxy)

    found = resolve_rules(view, root)

    assert [each.route.name for each in found] == ["outer-one", "outer-two", "last"]
    uris = [match.uri.prefix for each in found for match in each.matches if match.uri]
    assert uris == ["/a/1", "/a"]
    assert found[0].route.route[0].destination.host == "r.bank.svc.cluster.local"
    assert (found[0].route.timeout, found[0].config, found[0].path) == (5.0, inner, "spec.http[0]")
    assert not view.problems


def test_source_conditions_of_root_and_delegate_both_hold() -> None:
    """They are asked one by one: the two together are nobody's selector."""
    root = virtual_service(ROOT)
    inner = virtual_service(
        "http: [{match: [{sourceLabels: {tier: front}}], route: [{destination: {host: r}}]}]",
        name="inner",
        namespace="bank",
    )

    def rules(**labels: str) -> int:
        proxy = Proxy(id="p", namespace="shop", labels=labels_of(labels))
        view = FakeView(configs=[root, inner], proxy=proxy)
        found = len(resolve_rules(view, root))
        asked = {what for question, what in view.reads if question == "matches"}
        assert asked <= {"app=web", "tier=front"}
        return found

    assert rules(app="web", tier="front") == 2
    assert rules(app="web") == 1
    assert rules(tier="front") == 1


def reasons(*delegates: Config) -> list[str]:
    """What is reported of ROOT with these objects around."""
    root = virtual_service(ROOT)
    proxy = Proxy(id="p", namespace="shop", labels=labels_of({"app": "web"}))
    view = FakeView(configs=[root, *delegates], proxy=proxy)
    assert [each.route.name for each in resolve_rules(view, root)] == ["last"]
    return [f"{problem.subject} {problem.path} {problem.message}" for problem in view.problems]


def test_delegates_that_cannot_be_used_are_reported() -> None:
    """Requests go on to the next rule, and the author learns why."""
    where = "VirtualService shop/rule spec.http[0].delegate the delegate bank/inner"

    def inner(text: str) -> Config:
        return virtual_service(text, name="inner", namespace="bank")

    assert reasons() == [f"{where} does not exist"]
    assert reasons(inner("{hosts: [a.example], http: [{}]}")) == [f"{where} has hosts of its own"]
    assert reasons(inner("{exportTo: ['.'], http: [{}]}")) == [f"{where} is not exported to shop"]


def test_delegated_rules_that_conflict_or_delegate_are_reported() -> None:
    """The problem is the delegate's, and named at its field."""
    found = reasons(
        virtual_service(
            """
            http:
            - {match: [{uri: {prefix: /b}}]}
            - {delegate: {name: further}}
            """,
            name="inner",
            namespace="bank",
        )
    )

    assert [each.partition(" spec.")[2] for each in found] == [
        "http[0] its conditions are not within those of VirtualService shop/rule spec.http[0]",
        "http[1] a delegate cannot delegate further",
    ]
