"""Tests of config.items."""

import pytest

from aggregator.model.errors import ConfigError, Severity
from tests.support.documents import CONTEXT, item_faults, items

RULE = "apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: a}"


@pytest.mark.parametrize(
    ("text", "services", "rules"),
    [
        ("services: [{host: a.b, ports: [{number: 1}]}]", 1, 0),
        ("services: []", 0, 0),
        ("{apiVersion: v1, kind: Service, metadata: {name: a}}", 1, 0),
        ("{apiVersion: v1, kind: Endpoints, metadata: {name: a}}", 1, 0),
        ("{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a,"
         " labels: {kubernetes.io/service-name: a}}}", 1, 0),
        ("{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: a},"
         " spec: {host: a}}", 0, 1),
    ],
)  # fmt: skip
def test_every_form_that_a_source_may_have_is_read(text: str, services: int, rules: int) -> None:
    """Adapters need not know them."""
    found = items(text)

    assert (len(found.services), len(found.rules), found.warnings) == (services, rules, ())


def test_rules_get_the_registrys_namespace() -> None:
    """Where they do not say themselves."""
    text = f"{{{RULE}, spec: {{host: a}}}}"

    assert items(text).rules[0].namespace == CONTEXT.namespace


def test_foreign_kinds_are_left_out_with_a_warning() -> None:
    """Folders of manifests hold much else."""
    found = items("apiVersion: apps/v1\nkind: Deployment\n")

    (warning,) = found.warnings
    assert (found.services, found.rules) == ((), ())
    assert (warning.severity, warning.origin.line) == (Severity.WARNING, 2)
    assert "apps/v1 Deployment" in warning.message


def test_gateways_of_the_gateway_api_are_foreign() -> None:
    """The same name in another group."""
    assert items("{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway}").warnings


@pytest.mark.parametrize(
    "text",
    [
        "a: 1",
        "kind: Service",
        "apiVersion: v1",
        "{apiVersion: networking.istio.io/v1, kind: VirtualServce}",
        "{apiVersion: networking.istio.io/v9, kind: VirtualService}",
    ],
)
def test_what_claims_to_be_nothing_or_a_rule_and_is_none_is_an_error(text: str) -> None:
    """A slip of the pen must not make a rule vanish."""
    assert item_faults(text)


def test_warnings_of_rules_are_handed_on() -> None:
    """Their authors should see them."""
    text = """
    apiVersion: networking.istio.io/v1
    kind: DestinationRule
    metadata: {name: a}
    spec: {host: a, trafficPolicy: {outlierDetection: {consecutiveErrors: 1}}}
    """
    found = items(text)

    assert [each.path for each in found.warnings] == [
        "spec.trafficPolicy.outlierDetection.consecutiveErrors"
    ]


def test_all_errors_of_a_document_come_at_once() -> None:
    """The user mends it in one go."""
    text = f"{{{RULE}, spec: {{host: '', exportTo: [a.b]}}}}"

    with pytest.raises(ConfigError) as caught:
        items(text)
    assert [each.path for each in caught.value.problems] == ["spec.host", "spec.exportTo[0]"]
