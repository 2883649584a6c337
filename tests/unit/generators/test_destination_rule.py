"""Which DestinationRule holds, and what it says of ports and subsets."""

from collections.abc import Mapping
from typing import Any

from aggregator.generators.destination_rule import ServiceRule, resolve_destination_rule
from aggregator.model.config import Config
from aggregator.model.proxy import Proxy
from aggregator.model.service import Service
from config.kinds.destination_rule import DestinationRule
from config.mesh import MeshConfig
from config.traffic_policy import SimpleLB, TrafficPolicy
from tests.support.builders import rule, service
from tests.support.view import FakeView

REVIEWS = service("reviews.shop.svc.cluster.local")


def destination_rule(
    name: str,
    namespace: str = "shop",
    host: str = "reviews.shop.svc.cluster.local",
    created: float = 0.0,
    **spec: object,
) -> Config:
    spec = {"host": host, **spec}
    return rule(DestinationRule, spec, name=name, namespace=namespace, created=created)


def view_of(
    *configs: Config,
    namespace: str = "shop",
    labels: tuple[tuple[str, str], ...] = (),
    mesh: MeshConfig | None = None,
) -> FakeView:
    proxy = Proxy(id="test", namespace=namespace, labels=labels)
    return FakeView([REVIEWS], configs=configs, proxy=proxy, mesh=mesh)


def names(found: ServiceRule) -> list[str]:
    return [config.name for config in found.configs]


def resolve(view: FakeView, of: Service = REVIEWS) -> ServiceRule:
    return resolve_destination_rule(view, of)


def balancer(simple: str) -> Mapping[str, Any]:
    return {"loadBalancer": {"simple": simple}}


def simple_of(policy: TrafficPolicy | None) -> SimpleLB | None:
    assert policy is not None
    assert policy.load_balancer is not None
    return policy.load_balancer.simple


def test_without_rules_there_is_no_policy_and_no_subset() -> None:
    """The common case must not fail."""
    found = resolve(view_of())

    assert (found.configs, found.subsets, found.policy(80)) == ((), (), None)
    assert found.source() is None


def test_the_proxys_namespace_comes_before_the_services_and_the_root() -> None:
    """Clients may override how they treat someone else's service."""
    rules = [
        destination_rule("theirs", "shop"),
        destination_rule("ours", "web"),
        destination_rule("everyones", "istio-system"),
    ]

    assert names(resolve(view_of(*rules, namespace="web"))) == ["ours"]
    assert names(resolve(view_of(*rules, namespace="other"))) == ["theirs"]
    assert names(resolve(view_of(rules[2], namespace="other"))) == ["everyones"]


def test_a_rule_of_a_third_namespace_has_no_say() -> None:
    """Only the client, the service's owner and the mesh's owner decide."""
    rules = [destination_rule("strangers", "elsewhere")]

    assert names(resolve(view_of(*rules, namespace="web"))) == []


def test_a_less_specific_rule_nearby_beats_a_specific_one_far_away() -> None:
    """The namespace decides before the host does, as in Istio."""
    rules = [destination_rule("wide", "web", host="*.cluster.local"), destination_rule("exact")]

    assert names(resolve(view_of(*rules, namespace="web"))) == ["wide"]


def test_in_a_namespace_the_most_specific_host_wins_alone() -> None:
    """Wildcard rules are defaults that an exact rule replaces, not something it inherits."""
    exact = destination_rule("exact")
    near = destination_rule(
        "near", host="*.shop.svc.cluster.local", trafficPolicy=balancer("RANDOM")
    )
    far = destination_rule("far", host="*.local")

    assert names(resolve(view_of(far, near, exact))) == ["exact"]
    assert names(resolve(view_of(far, near))) == ["near"]
    assert names(resolve(view_of(far))) == ["far"]


def test_a_short_host_is_one_of_the_rules_own_namespace() -> None:
    """``host: reviews`` in shop means shop's reviews."""
    assert names(resolve(view_of(destination_rule("short", host="reviews")))) == ["short"]
    assert names(resolve(view_of(destination_rule("short", "web", host="reviews")))) == []


def test_a_rule_that_is_not_exported_holds_in_its_namespace_only() -> None:
    """exportTo is what keeps a team's rules to itself."""
    private = destination_rule("private", exportTo=["."])

    assert names(resolve(view_of(private, namespace="shop"))) == ["private"]
    assert names(resolve(view_of(private, namespace="web"))) == []


def test_the_mesh_may_keep_rules_private_by_default() -> None:
    """defaultDestinationRuleExportTo holds for rules that say nothing."""
    mesh = MeshConfig(default_destination_rule_export_to=(".",))

    assert names(resolve(view_of(destination_rule("silent"), namespace="web", mesh=mesh))) == []


def test_proxies_in_the_root_namespace_see_services_own_rules_first() -> None:
    """The mesh's defaults must not shadow a service's own rule for gateways that live with them."""
    rules = [destination_rule("own", "shop"), destination_rule("default", "istio-system")]
    private = destination_rule("private", "istio-system", exportTo=["."])

    assert names(resolve(view_of(*rules, namespace="istio-system"))) == ["own"]
    assert names(resolve(view_of(rules[0], private, namespace="istio-system"))) == ["private"]


def test_a_rule_with_a_selector_holds_for_the_workloads_it_selects() -> None:
    """Proxies that it does not select get what all the others get."""
    selected = destination_rule(
        "selected",
        created=2.0,
        workloadSelector={"matchLabels": {"app": "web"}},
        trafficPolicy=balancer("RANDOM"),
    )
    general = destination_rule("general", created=1.0, trafficPolicy=balancer("ROUND_ROBIN"))

    web = resolve(view_of(selected, general, labels=(("app", "web"),)))
    other = resolve(view_of(selected, general, labels=(("app", "api"),)))

    assert simple_of(web.policy(80)) is SimpleLB.RANDOM
    assert simple_of(other.policy(80)) is SimpleLB.ROUND_ROBIN


def test_a_rule_with_a_selector_holds_in_its_own_namespace_only() -> None:
    """Labels of other teams' workloads are none of its business."""
    selected = destination_rule("selected", workloadSelector={"matchLabels": {"app": "web"}})

    assert names(resolve(view_of(selected, namespace="web", labels=(("app", "web"),)))) == []


def test_rules_for_one_host_are_one_rule_with_the_oldest_policy_and_all_subsets() -> None:
    """Teams may add subsets beside the rule that sets the policy."""
    old = destination_rule("b-old", created=1.0, subsets=[{"name": "v1"}])
    middle = destination_rule("c-middle", created=2.0, trafficPolicy=balancer("RANDOM"))
    new = destination_rule(
        "a-new", created=3.0, trafficPolicy=balancer("ROUND_ROBIN"), subsets=[{"name": "v2"}]
    )

    view = view_of(new, middle, old)

    found = resolve(view)

    assert names(found) == ["b-old", "c-middle", "a-new"]
    assert [subset.name for subset in found.subsets] == ["v1", "v2"]
    assert simple_of(found.policy(80)) is SimpleLB.RANDOM
    assert found.source() == middle
    assert found.source("v2") == new
    [problem] = view.problems
    assert (problem.subject, problem.path) == ("DestinationRule shop/a-new", "spec.trafficPolicy")


def test_a_policy_for_selected_workloads_overrides_without_being_told() -> None:
    """The rule for all still holds for the others."""
    general = destination_rule("all", created=1.0, trafficPolicy=balancer("RANDOM"))
    special = destination_rule(
        "web",
        created=2.0,
        trafficPolicy=balancer("ROUND_ROBIN"),
        workloadSelector={"matchLabels": {"app": "web"}},
    )
    view = view_of(general, special, labels=(("app", "web"),))

    assert simple_of(resolve(view).policy(80)) is SimpleLB.ROUND_ROBIN
    assert not view.problems


def test_a_subset_that_exists_already_is_reported_and_left_out() -> None:
    """Two subsets of one name would be two clusters of one name, which Envoy refuses."""
    first = destination_rule("first", created=1.0, subsets=[{"name": "v1", "labels": {"a": "1"}}])
    second = destination_rule("second", created=2.0, subsets=[{"name": "v0"}, {"name": "v1"}])
    view = view_of(first, second)

    found = resolve(view)

    assert [dict(subset.labels) for subset in found.subsets] == [{"a": "1"}, {}]
    [problem] = view.problems
    assert (problem.subject, problem.path) == ("DestinationRule shop/second", "spec.subsets[1]")


def test_a_subsets_policy_overrides_the_rules_part_by_part() -> None:
    """A subset that changes the balancer keeps the rule's connection limits."""
    found = resolve(
        view_of(
            destination_rule(
                "rule",
                trafficPolicy={**balancer("RANDOM"), "outlierDetection": {"maxEjectionPercent": 7}},
                subsets=[{"name": "v1", "trafficPolicy": balancer("ROUND_ROBIN")}, {"name": "v2"}],
            )
        )
    )

    v1, v2 = found.policy(80, "v1"), found.policy(80, "v2")
    assert simple_of(v1) is SimpleLB.ROUND_ROBIN
    assert simple_of(v2) is SimpleLB.RANDOM
    assert v1 is not None
    assert v1.outlier_detection is not None
    assert v1.outlier_detection.max_ejection_percent == 7


def test_a_ports_settings_replace_the_policy_of_their_level_as_a_whole() -> None:
    """What a port's settings leave out is the default, not what the level says for other ports."""
    found = resolve(
        view_of(
            destination_rule(
                "rule",
                trafficPolicy={
                    **balancer("RANDOM"),
                    "outlierDetection": {},
                    "portLevelSettings": [
                        {"port": {"number": 80}, "loadBalancer": {"simple": "ROUND_ROBIN"}}
                    ],
                },
                subsets=[
                    {
                        "name": "v1",
                        "trafficPolicy": {
                            "portLevelSettings": [
                                {
                                    "port": {"number": 90},
                                    "outlierDetection": {"maxEjectionPercent": 5},
                                }
                            ]
                        },
                    }
                ],
            )
        )
    )

    on_80, on_90, v1_on_90 = found.policy(80), found.policy(90), found.policy(90, "v1")
    assert on_80 is not None
    assert (simple_of(on_80), on_80.outlier_detection) == (SimpleLB.ROUND_ROBIN, None)
    assert simple_of(on_90) is SimpleLB.RANDOM
    assert v1_on_90 is not None
    assert v1_on_90.load_balancer is None
    assert v1_on_90.outlier_detection is not None


def test_a_subset_without_settings_for_the_port_takes_the_rules_settings_for_it() -> None:
    """The port's settings of the rule are what the subset overrides."""
    found = resolve(
        view_of(
            destination_rule(
                "rule",
                trafficPolicy={
                    "portLevelSettings": [
                        {"port": {"number": 80}, "loadBalancer": {"simple": "RANDOM"}}
                    ]
                },
                subsets=[{"name": "v1", "trafficPolicy": {"outlierDetection": {}}}],
            )
        )
    )

    policy = found.policy(80, "v1")
    assert simple_of(policy) is SimpleLB.RANDOM
    assert policy is not None
    assert policy.outlier_detection is not None


def test_the_proxys_namespace_is_asked_for_only_where_it_decides() -> None:
    """Proxies of all namespaces share what is built from the service's own rule."""
    view = view_of(destination_rule("own"))
    resolve(view)

    assert not [read for read in view.reads if read[0] in ("in_namespace", "attribute")]


def test_look_ups_that_find_nothing_are_made_for_every_pattern() -> None:
    """A rule for a wildcard that appears later must reach the units that it concerns."""
    view = view_of()
    resolve(view)

    asked = {what for question, what in view.reads if question == "configs"}
    assert asked == {
        f"DestinationRule {host}"
        for host in (
            "reviews.shop.svc.cluster.local",
            "*.shop.svc.cluster.local",
            "*.svc.cluster.local",
            "*.cluster.local",
            "*.local",
            "*",
        )
    }
