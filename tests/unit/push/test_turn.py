"""Much work leaves the event loop to others every few milliseconds."""

import asyncio
from itertools import pairwise

from aggregator.push.turn import TURN_SECONDS, Turn
from tests.support.clock import FakeClock


async def test_workers_together_take_one_turn_at_a_time() -> None:
    """Five hundred streams that each work for a little hold up everybody if all do so at once."""
    clock = FakeClock()
    turn = Turn(clock)
    done: list[int] = []
    rounds: list[int] = []

    async def work(number: int) -> None:
        await turn.breathe()
        clock.now += TURN_SECONDS / 4
        done.append(number)

    async def watch() -> None:
        while len(done) < 50:
            rounds.append(len(done))
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(work(number) for number in range(50)))
    await watching

    assert done == sorted(done)
    steps = [after - before for before, after in pairwise(rounds)]
    assert max(steps) <= 5


async def test_little_work_is_done_at_once() -> None:
    """A lone change must not wait for a turn that nobody needs."""
    turn = Turn(FakeClock())
    waited = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(waited.set_result, None)

    for _ in range(100):
        await turn.breathe()

    assert not waited.done()
    await waited


async def test_next_turn_begins_with_the_next_round_of_the_loop() -> None:
    """Time that passed while nobody worked is nobody's fault."""
    clock = FakeClock()
    turn = Turn(clock)
    await turn.breathe()
    clock.now += 10 * TURN_SECONDS
    await asyncio.sleep(0)
    others = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(others.set_result, None)

    await turn.breathe()

    assert not others.done()
    await others
