"""Bytes in flight stay within the budget, and whoever waits gets a turn."""

import asyncio

from aggregator.xds.budget import Budget


async def test_waits_until_enough_is_given_back() -> None:
    """gRPC copies what it is given: a storm of connecting clients must not fill the memory."""
    budget = Budget(10)
    first = await budget.take(6)
    second = asyncio.create_task(budget.take(6))
    await asyncio.sleep(0)
    assert not second.done()

    first.give_back()
    await second

    assert budget.used == 6


async def test_small_one_does_not_overtake() -> None:
    """A large message would wait for ever behind a stream of small ones."""
    budget = Budget(10)
    first = await budget.take(6)
    large = asyncio.create_task(budget.take(8))
    await asyncio.sleep(0)
    small = asyncio.create_task(budget.take(1))
    await asyncio.sleep(0)
    assert not small.done()

    first.give_back()
    await asyncio.gather(large, small)

    assert budget.used == 9


async def test_message_larger_than_all_goes_alone() -> None:
    """A route table may be larger than what is allowed in flight, and still has to be sent."""
    budget = Budget(10)
    share = await budget.take(100)
    assert budget.used == 10

    share.give_back()
    assert budget.used == 0


async def test_whoever_gives_up_waiting_gets_nothing() -> None:
    """A stream that ends while it waits must not keep a share."""
    budget = Budget(10)
    share = await budget.take(10)
    waiting = asyncio.create_task(budget.take(5))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])

    share.give_back()

    assert budget.used == 0


async def test_whoever_gives_up_with_its_turn_gives_it_on() -> None:
    """The turn may come in the same moment in which the stream ends."""
    budget = Budget(10)
    share = await budget.take(10)
    first = asyncio.create_task(budget.take(10))
    second = asyncio.create_task(budget.take(10))
    await asyncio.sleep(0)
    share.give_back()
    first.cancel()

    await second

    assert budget.used == 10


async def test_share_is_given_back_once() -> None:
    """The share of a stalled write goes to others before the write ends, and not again then."""
    budget = Budget(10)
    share = await budget.take(6)
    await budget.take(4)

    share.give_back()
    share.give_back()

    assert budget.used == 4


async def test_small_one_moves_up_when_the_large_one_before_it_gives_up() -> None:
    """What waits behind a stream that ends fits perhaps as things are."""
    budget = Budget(10)
    await budget.take(6)
    large = asyncio.create_task(budget.take(8))
    small = asyncio.create_task(budget.take(1))
    await asyncio.sleep(0)
    large.cancel()

    await small

    assert budget.used == 7
