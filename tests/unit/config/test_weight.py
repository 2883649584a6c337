"""Tests of config.weight."""

import pytest

from config.weight import LARGEST, resolve_weight


@pytest.mark.parametrize(
    ("told", "weight"),
    [
        (0.4, 1),
        (0.5, 1),
        (1.4, 1),
        (1.5, 2),
        (2.5, 3),
        (0, 0),
        ("0.0", 0),
        ("7", 7),
        (1e9, LARGEST),
    ],
)
def test_halves_go_up_and_nothing_above_zero_is_lost(told: float | str, weight: int) -> None:
    """A small weight still serves, and only zero is drained."""
    assert resolve_weight(told) == weight


@pytest.mark.parametrize("told", [None, "", "heavy", "nan", "inf", -1, "-0.5"])
def test_what_is_no_weight_does_not_count(told: float | str | None) -> None:
    """Nonsense neither drains an endpoint nor prefers it."""
    assert resolve_weight(told, 3) == 3
    assert resolve_weight(told, default=5) == 5


def test_weights_stay_within_what_an_endpoint_takes() -> None:
    """Envoy adds the weights of a locality up in 32 bits."""
    assert resolve_weight(1e9) == LARGEST
