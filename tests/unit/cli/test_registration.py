"""How keys are kept in a store while their owner lives."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from aggregator.cli.registration import Registration
from aggregator.model.errors import AdapterRejectedError, AdapterUnavailableError
from aggregator.model.store import Store, Stored
from tests.support.poll import eventually

VALUES = {"instances/shop/a.mesh/1": b"{}"}


class FakeStore:
    """Keys with leases, in memory. While `fault` is set, nobody can connect."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.keys: dict[str, int] = {}
        self.granted = 0
        self.refreshed = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Store]:
        """Connect."""
        if self.fault is not None:
            raise self.fault
        yield self

    async def list(self, below: str) -> AsyncIterator[Stored]:
        """Nothing lists here."""
        raise NotImplementedError
        yield

    async def get(self, key: str) -> Stored | None:
        """Nothing reads here."""
        raise NotImplementedError

    async def put(self, values: Mapping[str, bytes], *, lease: int = 0) -> None:
        """Write."""
        self.keys |= dict.fromkeys(values, lease)

    async def delete(self, key: str) -> bool:
        """Nothing deletes single keys here."""
        raise NotImplementedError

    async def grant(self, seconds: int) -> int:
        """The next lease."""
        self.granted += 1
        return self.granted

    async def refresh(self, lease: int) -> bool:
        """Whether a key still has it."""
        if self.fault is not None:
            raise self.fault
        self.refreshed += 1
        return lease in self.keys.values()

    async def revoke(self, lease: int) -> None:
        """Drop its keys."""
        self.keys = {key: each for key, each in self.keys.items() if each != lease}


class Keeping:
    """A registration that runs, and what it told."""

    def __init__(self, store: FakeStore) -> None:
        self.told: list[str] = []
        # Of the time, a third passes between two refreshes: here 10 ms.
        self.registration = Registration(store.open, VALUES, 0.03, self.told.append)  # type: ignore[arg-type]
        self.task = asyncio.create_task(self.registration.run())

    async def end(self) -> None:
        """Stop it."""
        self.task.cancel()
        await asyncio.wait([self.task])


async def test_keys_are_there_until_it_ends() -> None:
    """An orderly end takes them away at once, not after the lease's time."""
    store = FakeStore()
    keeping = Keeping(store)
    await eventually(lambda: store.refreshed >= 3)
    assert store.keys == {"instances/shop/a.mesh/1": 1}

    await keeping.end()

    assert store.keys == {}
    assert keeping.told == ["registered instances/shop/a.mesh/1", "deregistered"]


async def test_a_lost_lease_is_replaced() -> None:
    """A store that was away for too long has dropped the keys."""
    store = FakeStore()
    keeping = Keeping(store)
    await eventually(lambda: store.refreshed >= 1)
    store.keys.clear()
    await eventually(lambda: store.keys == {"instances/shop/a.mesh/1": 2})
    await keeping.end()


async def test_a_store_that_is_away_is_waited_for() -> None:
    """Who registers must not end because the registry does."""
    store = FakeStore()
    store.fault = AdapterUnavailableError("no answer")
    keeping = Keeping(store)
    await eventually(lambda: keeping.told == ["no answer; trying again"])
    store.fault = None
    await eventually(lambda: store.keys)
    store.fault = AdapterUnavailableError("gone")
    await eventually(lambda: keeping.told[-1] == "gone; trying again")
    await keeping.end()
    assert keeping.told[-1] == "gone; the keys go when their lease runs out"


async def test_a_refusal_at_the_start_is_an_error() -> None:
    """A wrong password will not become right by waiting."""
    store = FakeStore()
    store.fault = AdapterRejectedError("wrong password")
    keeping = Keeping(store)
    with pytest.raises(AdapterRejectedError):
        await keeping.task
