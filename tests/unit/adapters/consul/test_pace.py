"""How fast Consul is asked, and from where on."""

import asyncio

import pytest

from adapters.consul.pace import BACKOFF_LONGEST, Cursor, Pace, Slots, Step, SweepQueue, backoff
from tests.support.clock import FakeClock


def test_a_pace_lets_a_burst_through_and_then_its_rate() -> None:
    """A lone change never waits; a storm does."""
    clock = FakeClock()
    pace = Pace(rate=5, burst=3, clock=clock)

    assert [pace.take() for _ in range(3)] == [0, 0, 0]
    assert pace.take() == pytest.approx(0.2)
    assert pace.take() == pytest.approx(0.4)
    clock.now += 10
    assert pace.take() == 0


def test_those_that_changed_last_are_watched() -> None:
    """The oldest makes room, and comes back when it changes."""
    slots = Slots(2)
    for name in ("a", "b", "c"):
        slots.touch(("dc1", name))
    assert sorted(slots.of("dc1")) == ["b", "c"]

    slots.touch(("dc1", "b"))
    slots.touch(("dc2", "a"))

    assert slots.of("dc1") == ["b"]
    assert slots.of("dc2") == ["a"]
    assert ("dc1", "c") not in slots


def test_a_place_that_nobody_wants_is_taken_by_whoever_is_there() -> None:
    """But it is the first to be given up."""
    slots = Slots(2)
    slots.offer(("dc1", "a"))
    slots.touch(("dc1", "b"))
    slots.offer(("dc1", "c"))
    assert sorted(slots.of("dc1")) == ["a", "b"]

    slots.touch(("dc1", "d"))

    assert sorted(slots.of("dc1")) == ["b", "d"]
    slots.forget(("dc1", "b"))
    assert slots.of("dc1") == ["d"]


async def test_what_is_urgent_is_swept_at_once_and_the_rest_at_a_pace() -> None:
    """A known change does not wait behind thousands that may have none."""
    clock = FakeClock()
    queue = SweepQueue(Pace(rate=10, burst=1, clock=clock))
    for name in ("a", "b", "c"):
        queue.add(name)
        queue.add(name)
    queue.hurry("c")

    assert await queue.next() == "c"
    assert await queue.next() == "a"
    assert len(queue) == 1
    waiting = asyncio.create_task(queue.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.hurry("d")
    assert await waiting == "d"
    clock.now += 1
    assert await queue.next() == "b"


async def test_what_is_gone_is_not_swept() -> None:
    """It would come back as a service without instances."""
    queue = SweepQueue(Pace(rate=10, burst=1, clock=FakeClock()))
    queue.add("a")
    queue.hurry("b")
    queue.drop("a")
    queue.drop("b")

    assert len(queue) == 0


def test_a_cursor_waits_from_the_last_index() -> None:
    """The plain case: news, and the end of a wait without any."""
    cursor = Cursor(wait=10, index=5)

    assert cursor.take(7, took=1) is Step.MOVED
    assert cursor.ask == 7
    assert cursor.take(7, took=10) is Step.STAYED
    assert cursor.ask == 7


@pytest.mark.parametrize("lower", [0, 3])
def test_an_index_that_goes_back_is_not_waited_from(lower: int) -> None:
    """Consul counts anew after a restore."""
    cursor = Cursor(wait=10, index=5)

    assert cursor.take(lower, took=1) is Step.BACK
    assert cursor.ask == 0


def test_an_early_answer_without_news_is_not_waited_on_again() -> None:
    """That is how a server answers at the moment of a restore."""
    cursor = Cursor(wait=10, index=5)

    assert cursor.take(5, took=1) is Step.STAYED
    assert cursor.ask == 0
    assert cursor.take(3, took=0) is Step.BACK


def test_back_off_grows_up_to_a_bound() -> None:
    """With jitter, so that many daemons do not come back at once."""
    assert backoff(0, lambda: 1.0) == pytest.approx(0.5)
    assert backoff(1, lambda: 1.0) == pytest.approx(1.0)
    assert backoff(99, lambda: 1.0) == BACKOFF_LONGEST
    assert backoff(99, lambda: 0.0) == pytest.approx(0.5)
