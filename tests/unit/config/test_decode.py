"""Tests of config.decode."""

import pytest

from aggregator.model.errors import ConfigError, Origin, Severity
from config.decode import decode_config, encode_config, is_rule, load_config, validate_config
from config.destination import Destination
from config.http_route import HTTPRoute, HTTPRouteDestination
from config.kinds.virtual_service import VirtualService
from tests.support.documents import document

RULE = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: reviews
  labels: {b: "2", a: "1"}
  annotations: {note: x}
  creationTimestamp: "2026-01-01T00:00:10Z"
  resourceVersion: "5"
  uid: abc
  managedFields: [{manager: kubectl}]
spec:
  hosts: [reviews]
  http:
  - route:
    - destination: {host: reviews}
status: {anything: goes}
"""


def wrong(text: str) -> list[tuple[int, str, str]]:
    """Line, path and message of everything that keeps a rule from being decoded."""
    with pytest.raises(ConfigError) as caught:
        decode_config(document(text), default_namespace="shop")
    return [(each.origin.line, each.path, each.message) for each in caught.value.problems]


def test_an_object_becomes_a_config_with_its_origin() -> None:
    """Name, place, labels, age and where it was written; the rest is the API server's."""
    config = decode_config(document(RULE), default_namespace="shop")

    assert (config.kind, config.namespace, config.name) == ("VirtualService", "shop", "reviews")
    assert config.labels == (("a", "1"), ("b", "2"))
    assert config.annotations == (("note", "x"),)
    assert config.created == 1767225610
    assert config.origin == Origin("rules.yaml", 1)
    assert config.spec == VirtualService(
        hosts=("reviews",),
        http=(HTTPRoute(route=(HTTPRouteDestination(Destination("reviews")),)),),
    )


def test_the_objects_own_namespace_comes_before_the_default() -> None:
    """A registry's setting is for objects that do not say."""
    text = RULE.replace("name: reviews\n", "name: reviews\n  namespace: other\n", 1)

    assert decode_config(document(text), default_namespace="shop").namespace == "other"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("VirtualService", "VirtualServce",
         (2, "kind", "unknown kind 'VirtualServce'; did you mean 'VirtualService'?")),
        ("kind: VirtualService", "x-kind: y", (1, "kind", "required")),
        ("io/v1", "io/v2",
         (1, "apiVersion", "expected one of networking.istio.io/v1, networking.istio.io/v1beta1, "
          "networking.istio.io/v1alpha3, found 'networking.istio.io/v2'")),
        ("  name: reviews\n", "", (3, "metadata.name", "required")),
        ("spec:", "spek:", (11, "spek", "unknown field 'spek'; did you mean 'spec'?")),
        ("hosts:", "hosst:", (12, "spec.hosst", "unknown field 'hosst'; did you mean 'hosts'?")),
        ('b: "2"', "b: 2", (5, "metadata.labels.b", "expected text, found 2")),
        ("hosts: [reviews]", "hosts: reviews",
         (12, "spec.hosts", "expected a list, found 'reviews'")),
        ("{host: reviews}", "{host: reviews, port: 80}",
         (15, "spec.http[0].route[0].destination.port", "expected an object, found 80")),
    ],
)  # fmt: skip
def test_what_cannot_be_decoded_is_told_with_line_path_and_expectation(
    before: str, after: str, expected: tuple[int, str, str]
) -> None:
    """The message alone is enough to mend the file."""
    assert before in RULE

    assert wrong(RULE.replace(before, after, 1)) == [expected]


def test_several_mistakes_in_the_frame_come_together() -> None:
    """None hides another."""
    text = "apiVersion: x\nkind: Sidecar\nmetadata: {}\n"

    assert [path for _, path, _ in wrong(text)] == ["apiVersion", "metadata.name", "spec"]


def test_messages_name_the_object() -> None:
    """In a log the line alone does not say what is concerned."""
    text = RULE.replace("hosts:", "hosst:", 1)

    with pytest.raises(ConfigError, match="VirtualService shop/reviews"):
        decode_config(document(text), default_namespace="shop")


def test_validation_without_the_document_points_at_the_object() -> None:
    """Rules from an API server have no lines."""
    config = decode_config(
        document(RULE.replace("hosts: [reviews]", "hosts: [a_b]")), default_namespace="shop"
    )

    (problem,) = validate_config(config)
    assert (problem.origin.line, problem.path) == (1, "spec.hosts[0]")
    (placed,) = validate_config(config, document(RULE).position)
    assert placed.origin.line == 12


def test_loading_refuses_errors_and_hands_on_warnings() -> None:
    """A warning keeps nothing out."""
    deprecated = RULE + "---\n"
    warned = RULE.replace("  - route:", "  - mirrorPercent: 5\n    route:", 1)
    refused = RULE.replace("  - route:", "  - timeout: 0s\n    mirrorPercent: 5\n    route:", 1)

    assert load_config(document(deprecated), default_namespace="shop").warnings == ()
    (warning,) = load_config(document(warned), default_namespace="shop").warnings
    assert (warning.severity, warning.origin.line) == (Severity.WARNING, 14)
    with pytest.raises(ConfigError) as caught:
        load_config(document(refused), default_namespace="shop")
    assert [each.path for each in caught.value.problems] == ["spec.http[0].timeout"]


def test_rules_are_told_by_group_and_kind() -> None:
    """Gateway API's Gateway is not Istio's."""
    assert is_rule(document("{apiVersion: networking.istio.io/v1beta1, kind: Gateway}"))
    assert not is_rule(document("{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway}"))
    assert is_rule(document("{apiVersion: networking.istio.io/v9, kind: VirtualServce}"))
    assert not is_rule(document("{apiVersion: networking.istio.io/v1beta1, kind: ProxyConfig}"))
    assert not is_rule(document("{kind: Gateway}"))


def test_a_rule_is_shown_in_kubernetes_form() -> None:
    """What is shown can be applied again."""
    config = decode_config(document(RULE), default_namespace="shop")

    assert encode_config(config) == {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {
            "name": "reviews",
            "namespace": "shop",
            "labels": {"a": "1", "b": "2"},
            "annotations": {"note": "x"},
        },
        "spec": {
            "hosts": ("reviews",),
            "http": ({"route": ({"destination": {"host": "reviews"}},)},),
        },
    }


@pytest.mark.parametrize("stamp", ["yesterday", "", "2026-13-01T00:00:00Z"])
def test_an_unreadable_age_is_an_unknown_age(stamp: str) -> None:
    """Age only breaks ties; it is no reason to refuse a rule."""
    text = RULE.replace("2026-01-01T00:00:10Z", stamp)

    assert decode_config(document(text), default_namespace="shop").created == 0
