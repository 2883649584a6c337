"""A write that a client does not take is given up, and no other."""

import asyncio
from typing import Final

from aggregator.xds.budget import Budget
from aggregator.xds.stall import StallWatch
from tests.support.poll import eventually

SHORT: Final = 0.02
LONG: Final = 0.5
"""So long that no busy machine makes a good part of it more."""


class Writer:
    """Notes how often it was given up."""

    def __init__(self) -> None:
        self.given_up = 0

    def stalled(self) -> None:
        self.given_up += 1


async def begin(watch: StallWatch, budget: Budget | None = None) -> Writer:
    """A writer whose message is under way."""
    writer = Writer()
    watch.begin(writer, await (budget or Budget(10)).take(10))
    return writer


async def test_write_that_is_never_taken_is_given_up_once() -> None:
    """A client that stops reading would count as connected for ever."""
    writer = await begin(StallWatch(SHORT, SHORT))
    await eventually(lambda: writer.given_up)
    await asyncio.sleep(3 * SHORT)
    assert writer.given_up == 1


async def test_write_that_is_taken_in_time_is_left_alone() -> None:
    """The timer outlives the write that set it, and must not meet a later one of its stream."""
    watch = StallWatch(LONG, SHORT)
    writer = await begin(watch)
    watch.end(writer)
    await asyncio.sleep(0.6 * LONG)
    watch.begin(writer, await Budget(10).take(10))
    await asyncio.sleep(0.6 * LONG)
    watch.end(writer)
    await asyncio.sleep(0.6 * LONG)
    assert not writer.given_up


async def test_each_write_has_the_whole_time() -> None:
    """The one timer is set for the oldest write; a younger one may still be taken after that."""
    watch = StallWatch(4 * SHORT, SHORT)
    old = await begin(watch)
    await asyncio.sleep(2 * SHORT)
    young = await begin(watch)
    await eventually(lambda: old.given_up, every=0.001)
    assert not young.given_up
    watch.end(young)
    await asyncio.sleep(5 * SHORT)
    assert not young.given_up


async def test_share_of_a_late_write_goes_to_others() -> None:
    """Clients that read need not wait for one that does not."""
    budget = Budget(10)
    late = await begin(StallWatch(60, SHORT), budget)
    share = await budget.take(10)
    assert not late.given_up
    share.give_back()
    assert budget.used == 0
