"""What is said of measured times follows from them."""

import pytest

from bench.figure import Axis, Case, Goal, Growth, Row, Side, percentile
from bench.mesh import Change


def side(*milliseconds: float, cpu: float = 0.01, sent: float = 0.5, peak: float = 100) -> Side:
    """One server's rounds."""
    return Side(milliseconds, cpu, sent, 100, peak, peak)


def row(server: Side, floor: Side, goal: Goal | None = None) -> Row:
    """A row of some case."""
    case = Case(Change.ENDPOINT, 1000, 100, delta=True, rounds=1, goal=goal or Goal())
    return Row(case, server, floor)


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1), (50, 2), (51, 3), (75, 3), (76, 4), (99, 4), (100, 4)]
)
def test_percentile_is_a_measured_value(percent: float, expected: float) -> None:
    """A value in between was never measured, and would hide the slowest of a few rounds."""
    assert percentile([4, 2, 1, 3], percent) == expected


def test_percentile_of_many_leaves_out_one_in_a_hundred() -> None:
    """From a hundred rounds on, the very slowest does not decide."""
    assert percentile(range(1, 101), 99) == 99


def test_ratio_compares_like_with_like() -> None:
    """Median with median, slowest with slowest, whatever the number of rounds."""
    measured = row(side(10, 20, 60), side(5, 10, 20, 30))

    assert measured.ratio == 2
    assert measured.ratio_p99 == 2


def test_each_bound_of_a_goal_is_judged_by_itself() -> None:
    """A row that is fast enough and uses too much is told to be both."""
    goal = Goal(milliseconds=20, floors=1.5, cpu_seconds=0.05, peak_mb=100, sent_mb=1)
    measured = row(side(10, 20, cpu=0.06, sent=0.5, peak=200), side(8, 10), goal)

    assert [(each.bound, each.measured, each.reached) for each in measured.verdicts()] == [
        ("p99 ≤ 20 ms", 20, True),
        ("p99 ≤ 1.5 × floor", 2, False),
        ("CPU ≤ 0.05 s", 0.06, False),
        ("peak ≤ 100 MB", 200, False),
        ("sent ≤ 1 MB", 0.5, True),
    ]


def test_row_without_a_goal_is_not_judged() -> None:
    """Zero is no bound, not an impossible one."""
    assert row(side(10), side(5)).verdicts() == ()


def test_growth_compares_the_largest_with_the_smallest() -> None:
    """Sizes in between are shown, and do not decide."""
    rows = [row(side(10, cpu=cpu), side(5)) for cpu in (0.010, 0.5, 0.013)]

    growth = Growth(Axis.SERVICES, tuple(rows), most=1.2)

    assert growth.cpu_seconds == pytest.approx(1.3)
    assert [each.reached for each in growth.verdicts()] == [False, True]
