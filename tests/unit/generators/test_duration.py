"""Durations in protobuf's form."""

import pytest

from aggregator.generators.duration import build_duration


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, (0, 0)),
        (10, (10, 0)),
        (1.5, (1, 500_000_000)),
        (0.1, (0, 100_000_000)),
        (2.3, (2, 300_000_000)),
    ],
)
def test_seconds_become_whole_seconds_and_nanoseconds(
    seconds: float, expected: tuple[int, int]
) -> None:
    """A timeout of 100 ms must not reach Envoy as 99.999999 ms, which shows in its state."""
    built = build_duration(seconds)

    assert (built.seconds, built.nanos) == expected
