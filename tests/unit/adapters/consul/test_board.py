"""The parts of one registry, each of which may fail by itself."""

import asyncio
from collections.abc import Callable

import pytest

from adapters.consul.board import PATIENCE, Board, Follow
from adapters.consul.pace import BACKOFF_LONGEST
from aggregator.model.errors import (
    AdapterError,
    AdapterRejectedError,
    AdapterUnavailableError,
)
from aggregator.model.registry import RegistrySink
from aggregator.registry.aggregate import Aggregate
from tests.support.clock import FakeClock, settle


class Run:
    """A board on a real aggregate, with a clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.synced = 0
        self.aggregate = Aggregate(lambda _changes: None, clock=self.clock)
        self.sink: RegistrySink = self.aggregate.sink("consul", on_synced=self._note)
        self.board = Board(self.sink, "consul", clock=self.clock, sleep=self.clock.sleep)

    def _note(self) -> None:
        self.synced += 1

    def problems(self) -> str:
        """What is told."""
        found = self.aggregate.problems().values()
        return "\n".join(str(each) for problems in found for each in problems)


def failing(error: AdapterError | ExceptionGroup[Exception]) -> Follow:
    """A part that always fails."""

    async def follow(_listed: Callable[[], None]) -> None:
        raise error

    return follow


async def working(listed: Callable[[], None]) -> None:
    """A part that is read at once, and then quiet."""
    listed()
    await asyncio.Event().wait()


async def test_the_last_part_to_fail_ends_the_run() -> None:
    """What has failed as a whole is the supervisor's."""
    run = Run()
    error = AdapterUnavailableError("gone")

    with pytest.raises(AdapterUnavailableError, match="gone"):
        await run.board.keep(run.board.add("dc1", "datacenter dc1"), failing(error))

    assert "datacenter dc1 is not read, what it said last stays: gone" in run.problems()
    assert run.synced == 0


async def test_a_part_that_fails_holds_up_the_others_only_for_a_while() -> None:
    """Then the registry is in sync without it."""
    run = Run()
    good, bad = run.board.add("dc1", "datacenter dc1"), run.board.add("dc2", "datacenter dc2")
    tasks = [
        asyncio.create_task(run.board.keep(good, working)),
        asyncio.create_task(run.board.keep(bad, failing(AdapterUnavailableError("gone")))),
    ]
    await settle()
    assert run.synced == 0
    await run.clock.advance(PATIENCE + BACKOFF_LONGEST)

    assert run.synced == 1
    assert "datacenter dc2" in run.problems()
    assert "datacenter dc1" not in run.problems()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_part_that_works_again_is_told_of_no_more() -> None:
    """And the other one did not notice."""
    run = Run()
    good, part = run.board.add("dc1", "datacenter dc1"), run.board.add("dc2", "datacenter dc2")
    failures = 2

    async def follow(listed: Callable[[], None]) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise AdapterUnavailableError("gone")
        await working(listed)

    tasks = [
        asyncio.create_task(run.board.keep(good, working)),
        asyncio.create_task(run.board.keep(part, follow)),
    ]
    await settle()
    assert "datacenter dc2" in run.problems()
    await run.clock.advance(BACKOFF_LONGEST)

    assert run.synced == 1
    assert run.problems() == ""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_of_several_errors_a_rejection_counts() -> None:
    """Credentials are what people can mend."""
    run = Run()
    group = ExceptionGroup(
        "many",
        [
            AdapterUnavailableError("slow"),
            ExceptionGroup("more", [AdapterRejectedError("403")]),
        ],
    )

    with pytest.raises(AdapterRejectedError, match="403"):
        await run.board.keep(run.board.add("dc1", "datacenter dc1"), failing(group))


async def test_a_mistake_of_ours_is_not_taken_for_the_registry_s() -> None:
    """It shows as what it is."""
    run = Run()
    group = ExceptionGroup("many", [AdapterUnavailableError("slow"), KeyError("bug")])

    with pytest.raises(ExceptionGroup):
        await run.board.keep(run.board.add("dc1", "datacenter dc1"), failing(group))
