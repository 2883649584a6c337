"""A lone change goes at once, storms go in bundles, and nothing waits longer than the bound."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.push.debounce import Debounce


def test_nothing_is_due_while_nothing_changes() -> None:
    """An idle engine sleeps."""
    debounce = Debounce(0.2)
    assert debounce.due() is None
    assert not debounce.waiting


def test_lone_change_is_due_at_once() -> None:
    """The commonest case pays nothing for the rare one."""
    debounce = Debounce(0.2)
    debounce.changed(10.0)
    assert debounce.due() == 10.0


def test_change_after_a_push_waits_as_long_as_that_took() -> None:
    """Pushing takes no more than about half of the time."""
    debounce = Debounce(0.2)
    debounce.changed(10.0)
    assert debounce.pushed(10.0, 10.05) == 0.0
    debounce.changed(10.06)
    assert debounce.due() == pytest.approx(10.10)


def test_change_long_after_a_push_waits_for_nothing() -> None:
    """A push that is over has no effect on what comes much later."""
    debounce = Debounce(0.2)
    debounce.changed(10.0)
    debounce.pushed(10.0, 10.1)
    debounce.changed(11.0)
    assert debounce.due() == 11.0


def test_push_tells_how_long_its_first_change_had_waited() -> None:
    """The metric is about the one that waited longest."""
    debounce = Debounce(0.2)
    debounce.changed(10.0)
    debounce.changed(10.15)
    assert debounce.pushed(10.2, 10.3) == 10.2 - 10.0
    assert not debounce.waiting


@given(
    gaps=st.lists(st.floats(0, 0.1), min_size=1, max_size=60),
    costs=st.lists(st.floats(0, 0.6), min_size=1),
    longest=st.floats(0.01, 0.5),
)
def test_storm_is_bundled_and_nothing_waits_longer_than_the_bound(
    gaps: list[float], costs: list[float], longest: float
) -> None:
    """However changes pour in and whatever pushes cost, a change that waits is pushed in time."""
    debounce = Debounce(longest)
    now, pushes = 0.0, 0
    for gap in gaps:
        arrival = now + gap
        due = debounce.due()
        if due is not None and due <= arrival:
            started = max(due, now)
            cost = costs[pushes % len(costs)]
            assert debounce.pushed(started, started + cost) <= longest + 1e-9 + (started - due)
            pushes += 1
            arrival = max(arrival, started + cost)
        now = arrival
        debounce.changed(now)
        due = debounce.due()
        assert due is not None
        assert due <= now + longest
    assert pushes <= len(gaps)
