"""When what registries say is saved."""

from pathlib import Path

import pytest
import structlog
from structlog.testing import LogCapture

from aggregator.model.registry import Content, RegistrySink, ServiceItem, ShardKey
from aggregator.registry.aggregate import Aggregate
from aggregator.registry.archive import Archive
from aggregator.registry.keeper import FRESH, PAUSE, SHARE, Keeper
from aggregator.registry.saved import Head, Shards
from aggregator.registry.status import RegistryState, RegistryStatus
from tests.support.builders import endpoint, service
from tests.support.clock import FakeClock

SHARD = ShardKey("east", "all", Content.SERVICES)


def item(address: str) -> ServiceItem:
    """A service at one address."""
    told = (endpoint(address),)
    return ServiceItem("shop", "a.mesh", service("a.mesh", namespace="shop"), told)


class Shelf(Archive):
    """Remembers what it was told, and takes its time."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(Path(), 0)
        self.clock_ = clock
        self.did: list[str] = []
        self.takes = 0.0
        self.broken = False

    async def save(self, head: Head, shards: Shards) -> int:
        if self.broken:
            message = "disk full"
            raise OSError(message)
        self.clock_.now += self.takes
        addresses = [
            endpoint.address
            for items in shards.values()
            for item in items.values()
            if isinstance(item, ServiceItem)
            for endpoint in item.endpoints
        ]
        self.did.append(f"save {head.registry} {' '.join(addresses)}".strip())
        return 0

    async def touch(self, registry: str) -> None:
        self.did.append(f"touch {registry}")

    async def forget(self, registry: str) -> None:
        self.did.append(f"forget {registry}")


class Kept:
    """A keeper of one registry."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.aggregate = Aggregate(lambda _changes: None, clock=self.clock)
        self.shelf = Shelf(self.clock)
        self.state: RegistryState | None = RegistryState.STARTING
        self.logged = LogCapture()
        self.keeper = Keeper(
            self.aggregate,
            self.shelf,
            self.statuses,
            clock=self.clock,
            log=structlog.wrap_logger(None, processors=[self.logged]),
        )
        self.sink: RegistrySink = self.aggregate.sink("east")

    def statuses(self) -> list[RegistryStatus]:
        """The registry, unless it is gone."""
        if self.state is None:
            return []
        return [RegistryStatus(name="east", type="fake", state=self.state, required=True)]

    def say(self, address: str) -> None:
        """The registry has this one endpoint."""
        self.sink.replace(SHARD, {"a": item(address)})

    def sync(self) -> None:
        """The registry is in sync."""
        self.sink.synced()
        self.state = RegistryState.SYNCED

    async def did(self, seconds: float = 0.0) -> list[str]:
        """What was done after some time."""
        self.clock.now += seconds
        await self.keeper.tick()
        done, self.shelf.did[:] = list(self.shelf.did), []
        return done


@pytest.fixture
def kept() -> Kept:
    """A registry in sync that has been saved."""
    return Kept()


async def test_nothing_is_saved_before_everything_was_listed(kept: Kept) -> None:
    """Half a listing must not take the place of a whole one."""
    kept.say("10.0.0.1")
    assert await kept.did() == []
    kept.sync()

    assert await kept.did() == ["save east 10.0.0.1"]


async def test_changes_are_saved_at_a_pace(kept: Kept) -> None:
    """A registry in which something changes all the time costs no more for it."""
    kept.say("10.0.0.1")
    kept.sync()
    assert len(await kept.did()) == 1

    kept.say("10.0.0.2")
    kept.say("10.0.0.3")
    assert await kept.did(PAUSE - 1) == []
    assert await kept.did(1) == ["save east 10.0.0.3"]
    assert await kept.did(PAUSE) == []


async def test_a_large_registry_is_saved_more_rarely(kept: Kept) -> None:
    """Saving takes a bounded part of the time, whatever there is to save."""
    kept.shelf.takes = 1.0
    kept.say("10.0.0.1")
    kept.sync()
    await kept.did()
    kept.say("10.0.0.2")

    assert await kept.did(1.0 / SHARE - 1) == []
    assert await kept.did(1) == ["save east 10.0.0.2"]


async def test_a_registry_in_sync_stays_fresh(kept: Kept) -> None:
    """One that never changes must not be too old after a day."""
    kept.say("10.0.0.1")
    kept.sync()
    await kept.did()

    assert await kept.did(FRESH) == ["touch east"]
    kept.state = RegistryState.DEGRADED
    assert await kept.did(FRESH) == []


async def test_equal_listings_are_not_saved_again(kept: Kept) -> None:
    """Relists are no changes."""
    kept.say("10.0.0.1")
    kept.sync()
    await kept.did()
    kept.say("10.0.0.1")

    assert await kept.did(PAUSE) == []


async def test_a_registry_that_is_gone_is_forgotten(kept: Kept) -> None:
    """Even one that was never saved, for an earlier process may have."""
    await kept.did()
    kept.state = None

    assert await kept.did() == ["forget east"]
    assert await kept.did() == []


async def test_a_disk_that_fails_is_told_of_once(kept: Kept) -> None:
    """And tried again in a while."""
    kept.shelf.broken = True
    kept.say("10.0.0.1")
    kept.sync()
    await kept.did()
    await kept.did(FRESH)
    assert kept.keeper.faults() == {"east": "disk full"}
    assert len(kept.logged.entries) == 1

    kept.shelf.broken = False
    assert await kept.did(FRESH) == ["save east 10.0.0.1"]
    assert kept.keeper.faults() == {}


async def test_what_is_unsaved_is_saved_at_the_end(kept: Kept) -> None:
    """A stop in order loses nothing."""
    kept.say("10.0.0.1")
    kept.sync()
    await kept.did()
    kept.say("10.0.0.2")
    await kept.keeper.flush()

    assert kept.shelf.did == ["save east 10.0.0.2"]
