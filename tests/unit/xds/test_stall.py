"""A write that a client does not take is given up, and no other."""

import asyncio

import pytest

from aggregator.xds.budget import Budget
from aggregator.xds.stall import StallWatch

SHORT = 0.02


async def _write(watch: StallWatch, taken: asyncio.Event, budget: Budget | None = None) -> str:
    task = asyncio.current_task()
    assert task is not None
    watch.begin(task, await (budget or Budget(10)).take(10))
    try:
        await taken.wait()
    except asyncio.CancelledError:
        if watch.end(task):
            return "stalled"
        raise
    return "stalled" if watch.end(task) else "taken"


async def test_write_that_is_never_taken_is_given_up() -> None:
    """A client that stops reading would hold its stream and its share of the memory for ever."""
    watch = StallWatch(SHORT, SHORT)

    assert await _write(watch, asyncio.Event()) == "stalled"


async def test_write_that_is_taken_in_time_is_left_alone() -> None:
    """The timer outlives the write that set it, and must not meet a later one of the same task."""
    watch = StallWatch(SHORT, SHORT)
    taken = asyncio.Event()
    taken.set()

    assert await _write(watch, taken) == "taken"
    await asyncio.sleep(3 * SHORT)
    assert await _write(watch, taken) == "taken"


async def test_each_write_has_the_whole_time() -> None:
    """The one timer is set for the oldest write; a younger one may still be taken after that."""
    watch = StallWatch(4 * SHORT, SHORT)
    late = asyncio.Event()
    old = asyncio.create_task(_write(watch, asyncio.Event()))
    await asyncio.sleep(2 * SHORT)
    young = asyncio.create_task(_write(watch, late))

    assert await old == "stalled"
    late.set()
    assert await young == "taken"


async def test_cancelling_for_another_reason_stays_cancelling() -> None:
    """A stream that ends is not reported as one that stalled."""
    watch = StallWatch(60, 60)
    task = asyncio.create_task(_write(watch, asyncio.Event()))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_share_of_a_late_write_goes_to_others() -> None:
    """Clients that read need not wait for one that does not."""
    watch = StallWatch(60, SHORT)
    budget = Budget(10)
    late = asyncio.create_task(_write(watch, asyncio.Event(), budget))
    await asyncio.sleep(0)

    await budget.take(10)

    assert not late.done()
    late.cancel()
    await asyncio.wait([late])
