"""Tests of adapters.kubernetes.client without a server."""

import pytest

from adapters.kubernetes.client import ApiError, RateLimit
from tests.support.clock import FakeClock


async def test_requests_come_at_their_rate_after_a_burst() -> None:
    """A restart asks for every kind at once, and a server in trouble is not asked without end."""
    clock = FakeClock()
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        clock.now += seconds

    limit = RateLimit(8, clock=clock, sleep=sleep)
    began = clock.now
    for _ in range(16):
        await limit.wait()
    assert waits == []
    for _ in range(24):
        await limit.wait()
    assert clock.now - began == pytest.approx(3.0)

    clock.now += 60
    waits.clear()
    for _ in range(16):
        await limit.wait()
    assert waits == [], "the burst grows again, and not beyond its size"
    await limit.wait()
    assert len(waits) == 1


@pytest.mark.parametrize(
    ("code", "message", "forbidden", "absent", "expired"),
    [
        (403, "", True, False, False),
        (404, "", False, True, False),
        (410, "", False, False, True),
        (504, "Timeout: Too large resource version: 9, current: 3", False, False, True),
        (504, "Timeout", False, False, False),
    ],
)
def test_refusals_are_told_apart(
    code: int, message: str, *, forbidden: bool, absent: bool, expired: bool
) -> None:
    """What to do next follows from that."""
    error = ApiError(code, "", message)

    assert (error.forbidden, error.absent, error.expired) == (forbidden, absent, expired)
