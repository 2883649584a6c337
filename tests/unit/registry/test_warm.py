"""What the supervisor makes of state that an earlier process saved, and how failures are told."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import structlog
from msgspec import Struct
from structlog.testing import LogCapture

from aggregator.model.errors import (
    AdapterError,
    AdapterRejectedError,
    AdapterUnavailableError,
    ConfigError,
    Origin,
    Problem,
)
from aggregator.model.registry import (
    Adapter,
    AdapterSpec,
    Content,
    RegistryContext,
    RegistrySink,
    ServiceItem,
    ShardKey,
)
from aggregator.registry.aggregate import Aggregate
from aggregator.registry.archive import Recalled
from aggregator.registry.saved import Head, SavedState
from aggregator.registry.settings import RegistrySettings
from aggregator.registry.status import Reason, RegistryState, RegistryStatus
from aggregator.registry.supervisor import ALARM, STEADY, LoadAdapter, Supervisor
from tests.support.builders import endpoint, service
from tests.support.clock import FakeClock, settle

SHARD = ShardKey("east", "all", Content.SERVICES)
OTHER = ShardKey("east", "other", Content.SERVICES)
DOWN = AdapterUnavailableError("connection refused")


def item(host: str, address: str) -> ServiceItem:
    """A service at one address."""
    return ServiceItem("shop", host, service(host, namespace="shop"), (endpoint(address),))


SAVED = {SHARD: {"a": item("a.mesh", "10.0.0.1")}, OTHER: {"b": item("b.mesh", "10.0.0.2")}}


class NoSettings(Struct, frozen=True):
    """The adapter has none."""


class Plane:
    """A supervisor with one registry; the test is its adapter."""

    def __init__(self, *, required: bool = True) -> None:
        self.clock = FakeClock()
        self.aggregate = Aggregate(lambda _changes: None, clock=self.clock)
        self.saved: asyncio.Future[Recalled] = asyncio.get_running_loop().create_future()
        self.error: Exception | None = None
        self.sinks: list[RegistrySink] = []
        self.logged = LogCapture()
        self.end: asyncio.Future[None] | None = None
        self.supervisor = Supervisor(
            self.aggregate,
            load_adapter=self._load,
            clock=self.clock,
            sleep=self.clock.sleep,
            jitter=lambda: 1.0,
            in_thread=self._inline,
            recall=self._recall,
            log=structlog.wrap_logger(None, processors=[self.logged]),
        )
        settings = RegistrySettings(
            name="east",
            type="fake",
            context=RegistryContext(name="east", cluster_id=""),
            adapter=NoSettings(),
            required=required,
        )
        self.supervisor.apply([settings])

    async def _recall(self, registry: str, type_: str) -> Recalled:
        assert (registry, type_) == ("east", "fake")
        return await self.saved

    def _load(self, _name: str, _origin: Origin) -> AdapterSpec:
        if isinstance(self.error, ConfigError):
            raise self.error
        return AdapterSpec("fake", NoSettings, lambda _context, _settings: self._adapter())

    async def _inline(self, load: LoadAdapter, name: str, origin: Origin) -> AdapterSpec:
        return load(name, origin)

    def _adapter(self) -> Adapter:
        return Fed(self)

    async def recall(self, *, age: float = 0.0, fault: str = "") -> None:
        """The disk answers."""
        state = None if fault else SavedState(Head("east", "fake"), SAVED)
        self.saved.set_result(Recalled(state, age, fault))
        await settle()

    async def fail(self, error: Exception) -> None:
        """The present run ends."""
        assert self.end is not None
        self.end.set_exception(error)
        await settle()

    @property
    def status(self) -> RegistryStatus:
        """How the registry fares."""
        (status,) = self.supervisor.status()
        return status

    @property
    def hosts(self) -> list[str]:
        """What is served."""
        return sorted(key.host for key in self.aggregate.service_keys())


class Fed:
    """Gives its sink to the test, or fails as that says."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    async def run(self, sink: RegistrySink) -> None:
        """Wait to be ended."""
        if self._plane.error is not None:
            raise self._plane.error
        self._plane.sinks.append(sink)
        self._plane.end = asyncio.get_running_loop().create_future()
        await self._plane.end


@asynccontextmanager
async def running(*, required: bool = True, error: Exception | None = None) -> AsyncIterator[Plane]:
    """A supervisor that runs for the block."""
    plane = Plane(required=required)
    plane.error = error
    task = asyncio.create_task(plane.supervisor.run())
    await settle()
    try:
        yield plane
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_saved_state_is_served_and_makes_ready() -> None:
    """A registry that is down at the start costs nobody his endpoints."""
    async with running(error=DOWN) as plane:
        assert not plane.supervisor.ready()
        await plane.recall(age=30)

        assert plane.supervisor.ready()
        assert plane.hosts == ["a.mesh", "b.mesh"]
        assert (plane.status.state, plane.status.reason) == (
            RegistryState.STALE,
            Reason.UNAVAILABLE,
        )
        await plane.clock.advance(5)
        assert plane.status.age == 35


async def test_readiness_waits_for_the_disk_even_for_optional_registries() -> None:
    """Otherwise old Envoys would be told that its services are gone."""
    async with running(required=False, error=DOWN) as plane:
        assert not plane.supervisor.ready()
        await plane.recall()

        assert plane.supervisor.ready()


async def test_unusable_state_is_shown_and_waited_past() -> None:
    """The registry is what counts then."""
    async with running() as plane:
        await plane.recall(fault="it is damaged")
        assert not plane.supervisor.ready()
        assert plane.status.state_fault == "it is damaged"
        assert plane.status.state is RegistryState.STARTING
        plane.sinks[0].replace(SHARD, {})
        plane.sinks[0].synced()

        assert plane.supervisor.ready()


async def test_the_first_complete_listing_takes_over() -> None:
    """Scope by scope, and what it does not mention is gone at its end."""
    async with running() as plane:
        await plane.recall(age=30)
        plane.sinks[0].replace(SHARD, {"a": item("new.mesh", "10.0.0.3")})
        assert plane.hosts == ["b.mesh", "new.mesh"]
        assert plane.status.state is RegistryState.STALE
        plane.sinks[0].synced()

        assert plane.hosts == ["new.mesh"]
        assert (plane.status.state, plane.status.age) == (RegistryState.SYNCED, 0)
        await plane.fail(DOWN)
        assert str(plane.status.state) == "degraded"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DOWN, Reason.UNAVAILABLE),
        (AdapterRejectedError("forbidden"), Reason.REJECTED),
        (ConfigError(Problem(Origin(), "", "no library")), Reason.SETTINGS),
        (KeyError("metadata"), Reason.CRASHED),
    ],
)
async def test_the_reason_of_a_failure_is_told(error: Exception, reason: Reason) -> None:
    """Wrong credentials want another remedy than a server that is down."""
    async with running(error=error) as plane:
        await plane.recall(fault="none")

        assert (plane.status.state, plane.status.reason) == (RegistryState.FAILED, reason)
        longest = isinstance(error, AdapterRejectedError | ConfigError)
        assert plane.status.retry_in == (60.0 if longest else 0.5)


async def test_a_registry_that_breaks_off_after_each_listing_is_asked_more_rarely() -> None:
    """A success that does not last is none."""
    async with running() as plane:
        await plane.recall(fault="none")
        waits = []
        error: Callable[[], AdapterError] = lambda: AdapterUnavailableError("reset")  # noqa: E731
        for _ in range(4):
            plane.sinks[-1].synced()
            await plane.fail(error())
            waits.append(plane.status.retry_in)
            await plane.clock.advance(waits[-1] or 0)
        plane.sinks[-1].synced()
        await plane.clock.advance(STEADY)
        await plane.fail(error())

        assert waits == [0.5, 1, 2, 4]
        assert plane.status.retry_in == 0.5


async def test_a_registry_that_stays_out_of_sync_is_told_of_once_more() -> None:
    """The first message has scrolled away by then."""
    async with running() as plane:
        await plane.recall(fault="none")
        plane.sinks[0].synced()
        await plane.clock.advance(ALARM)
        plane.error = DOWN
        await plane.fail(DOWN)
        await plane.clock.advance(ALARM - 1)
        assert not [each for each in plane.logged.entries if each["event"] == "registry_stale"]
        await plane.clock.advance(100)

        (event,) = [each for each in plane.logged.entries if each["event"] == "registry_stale"]
        assert event["error"] == "connection refused"
