"""What is served of announced registries between a restart and their next announcement."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
import structlog
from msgspec.structs import replace
from structlog.testing import LogCapture

from aggregator.model.errors import Origin
from aggregator.model.registry import (
    Adapter,
    AdapterSpec,
    AnnouncedRegistry,
    Content,
    Item,
    RegistryContext,
    RegistrySink,
    ServiceItem,
    ShardKey,
)
from aggregator.model.secret import Redacted
from aggregator.registry.aggregate import Aggregate
from aggregator.registry.archive import Recalled
from aggregator.registry.saved import Head, SavedState
from aggregator.registry.settings import RegistrySettings
from aggregator.registry.status import RegistryState
from aggregator.registry.supervisor import LoadAdapter, Supervisor
from tests.support.builders import endpoint, service
from tests.support.clock import FakeClock, settle
from tests.unit.registry.test_supervisor import FakeSettings

FOUND = ShardKey("more", "secrets/a", Content.REGISTRIES)
SERVED = ShardKey("west", "all", Content.SERVICES)
WEST = AnnouncedRegistry("west", "fake", {}, created=1.0, origin=Origin("east/ns/a[west]"))


def many(count: int) -> dict[str, Item]:
    """Services of one endpoint each."""
    found: dict[str, Item] = {}
    for number in range(count):
        host = f"s{number}.mesh"
        address = endpoint(f"10.0.0.{number}")
        found[host] = ServiceItem("shop", host, service(host, namespace="shop"), (address,))
    return found


class Plane:
    """`more` had announced `west` to an earlier process; the test is the adapter of both."""

    def __init__(self, services: int) -> None:
        self.clock = FakeClock()
        self.aggregate = Aggregate(lambda _changes: None, clock=self.clock)
        self.sinks: dict[str, RegistrySink] = {}
        self.credentials: dict[str, bytes] = {}
        self.saved: dict[str, Mapping[ShardKey, Mapping[str, Item]]] = {
            "more": {FOUND: {"west": replace(WEST, remembered=True)}},
            "west": {SERVED: many(services)},
        }
        self.supervisor = Supervisor(
            self.aggregate,
            load_adapter=self._load,
            decode_announced=self._decode,
            clock=self.clock,
            sleep=self.clock.sleep,
            in_thread=self._inline,
            recall=self._recall,
            log=structlog.wrap_logger(None, processors=[LogCapture()]),
        )
        self.supervisor.apply([self._settings("more")])

    def _settings(self, name: str, credential: bytes = b"") -> RegistrySettings:
        context = RegistryContext(name=name, cluster_id="", credential=Redacted(credential))
        return RegistrySettings(name=name, type="fake", context=context, adapter=FakeSettings())

    def _decode(self, item: AnnouncedRegistry, _announcer: RegistrySettings) -> RegistrySettings:
        return self._settings(item.name, item.credential.reveal())

    def _load(self, _name: str, _origin: Origin) -> AdapterSpec:
        return AdapterSpec("fake", FakeSettings, self._create)

    def _create(self, context: RegistryContext, _settings: FakeSettings) -> Adapter:
        return Fed(self, context)

    async def _inline(self, load: LoadAdapter, name: str, origin: Origin) -> AdapterSpec:
        return load(name, origin)

    async def _recall(self, name: str, type_: str) -> Recalled:
        await asyncio.sleep(0)
        shards = self.saved.get(name)
        state = SavedState(Head(name, type_), shards) if shards is not None else None
        return Recalled(state, 7.0)

    def hosts(self) -> int:
        """How many services are served."""
        return len(self.aggregate.service_keys())

    def states(self) -> dict[str, RegistryState]:
        """How each registry fares."""
        return {each.name: each.state for each in self.supervisor.status()}


class Fed:
    """Gives its sink to the test."""

    def __init__(self, plane: Plane, context: RegistryContext) -> None:
        self._plane = plane
        self._context = context

    async def run(self, sink: RegistrySink) -> None:
        """Wait to be ended."""
        name = self._context.name
        self._plane.sinks[name] = sink
        self._plane.credentials[name] = self._context.credential.reveal()
        await asyncio.Event().wait()


@asynccontextmanager
async def restarted(services: int = 1) -> AsyncIterator[Plane]:
    """A supervisor that has begun again."""
    plane = Plane(services)
    task = asyncio.create_task(plane.supervisor.run())
    await settle()
    try:
        yield plane
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_what_is_remembered_is_served_and_not_run() -> None:
    """The cluster with the secrets may be down when the daemon starts; the others' endpoints are
    there, and nobody is asked without a credential.
    """
    async with restarted() as plane:
        assert plane.hosts() == 1
        assert plane.states() == {"more": RegistryState.STALE, "west": RegistryState.STALE}
        assert list(plane.sinks) == ["more"]
        (west,) = (each for each in plane.supervisor.status() if each.name == "west")
        assert west.last_error == "more has not announced it again yet"
        assert west.age >= 7.0


async def test_readiness_waits_until_all_that_is_remembered_is_served() -> None:
    """Their absence would look like a deletion."""
    plane = Plane(1)
    task = asyncio.create_task(plane.supervisor.run())
    while not plane.supervisor.ready():
        assert plane.hosts() == 0
        await asyncio.sleep(0)
    assert plane.hosts() == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_announcement_goes_on_with_what_is_remembered() -> None:
    """It is read with its credential now, and nothing is lost meanwhile."""
    async with restarted() as plane:
        real = replace(WEST, credential=Redacted(b"token"))
        plane.sinks["more"].replace(FOUND, {"west": real})
        plane.sinks["more"].synced()
        await settle()

        assert plane.hosts() == 1
        assert plane.credentials["west"] == b"token"
        assert plane.states() == {"more": RegistryState.SYNCED, "west": RegistryState.STALE}

        plane.sinks["west"].replace(SERVED, many(2))
        plane.sinks["west"].synced()

        assert plane.hosts() == 2
        assert plane.states()["west"] is RegistryState.SYNCED


async def test_a_registry_that_is_not_announced_again_goes() -> None:
    """Its secret was deleted while the daemon was down."""
    async with restarted() as plane:
        plane.sinks["more"].synced()
        await settle()

        assert plane.hosts() == 0
        assert plane.states() == {"more": RegistryState.SYNCED}


async def test_a_listing_that_lacks_most_is_not_believed_at_once() -> None:
    """A folder that is not mounted yet looks like one without clusters."""
    async with restarted(services=50) as plane:
        plane.sinks["more"].synced()
        await settle()
        assert plane.hosts() == 50

        await plane.clock.advance(61.0)
        await settle()

        assert plane.hosts() == 0


async def test_another_place_of_the_announcement_takes_over() -> None:
    """The kubeconfig was moved from a secret into a file while the daemon was down."""
    async with restarted() as plane:
        shard = ShardKey("more", "kubeconfigs/west.yaml", Content.REGISTRIES)
        real = replace(WEST, created=9.0, credential=Redacted(b"token"))
        plane.sinks["more"].replace(shard, {"west": real})
        await settle()

        assert plane.credentials["west"] == b"token"
        assert plane.hosts() == 1
        plane.sinks["more"].synced()
        assert plane.hosts() == 1
        assert plane.aggregate.problems() == {}
