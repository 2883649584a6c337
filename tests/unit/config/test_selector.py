"""Kubernetes' label selectors."""

from typing import Any

import pytest

from aggregator.model.errors import Origin
from config.check import Report
from config.selector import LabelSelector, check_label_selector
from config.shape import decode_struct


def selector(**fields: Any) -> LabelSelector:
    return decode_struct(fields, LabelSelector, "", lambda _: Origin())


def expression(operator: str, *values: str) -> dict[str, Any]:
    return {"key": "team", "operator": operator, "values": list(values)}


@pytest.mark.parametrize(
    ("operator", "values", "of_a", "of_nobody"),
    [
        ("In", ["a", "b"], True, False),
        ("In", ["b"], False, False),
        ("NotIn", ["a"], False, True),
        ("NotIn", ["b"], True, True),
        ("Exists", [], True, False),
        ("DoesNotExist", [], False, True),
    ],
)
def test_operators(operator: str, values: list[str], of_a: bool, of_nobody: bool) -> None:
    """As Kubernetes reads them, also for objects without the label."""
    wanted = selector(matchExpressions=[expression(operator, *values)])

    assert wanted.matches({"team": "a"}) is of_a
    assert wanted.matches({}) is of_nobody


def test_all_of_a_selector_must_hold() -> None:
    """Labels and expressions narrow each other; an empty selector matches everything."""
    wanted = selector(matchLabels={"mesh": "on"}, matchExpressions=[expression("In", "a")])

    assert wanted.matches({"mesh": "on", "team": "a"})
    assert not wanted.matches({"mesh": "on"})
    assert not wanted.matches({"team": "a"})
    assert selector().matches({})


def test_what_kubernetes_would_refuse_is_told() -> None:
    """A selector that can never match would empty the mesh."""
    report = Report(Origin())
    wrong = selector(
        matchLabels={"a b": "x"},
        matchExpressions=[expression("In"), expression("Exists", "a")],
    )
    check_label_selector(report, "s", wrong)

    assert [f"{each.path}: {each.message}" for each in report.problems] == [
        "s.matchLabels[\"a b\"]: 'a b' cannot be the name of a label",
        "s.matchExpressions[0].values: In needs at least one value",
        "s.matchExpressions[1].values: Exists takes no values",
    ]
