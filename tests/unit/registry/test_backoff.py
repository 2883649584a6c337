"""How long a failing registry is left alone."""

from aggregator.registry.backoff import wait_after


def test_the_bound_doubles_up_to_the_longest() -> None:
    """A registry that stays down is asked ever more rarely, but never too rarely."""
    waits = [wait_after(failures, 60, lambda: 1.0) for failures in (1, 2, 3, 8, 9, 5000)]

    assert waits == [0.5, 1.0, 2.0, 60.0, 60.0, 60.0]


def test_jitter_spreads_over_the_bound() -> None:
    """Replicas that lost the same registry at the same time do not come back together."""
    assert wait_after(3, 60, lambda: 0.0) < wait_after(3, 60, lambda: 0.5) < 2.0


def test_the_worst_draw_still_waits() -> None:
    """Nobody is asked in a busy loop."""
    assert wait_after(1, 60, lambda: 0.0) > 0.01
