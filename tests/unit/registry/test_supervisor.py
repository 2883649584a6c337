"""Starting, restarting, replacing and ending adapters."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
from msgspec import Struct
from msgspec.structs import replace
from structlog.testing import LogCapture

from aggregator.model.errors import (
    AdapterRejectedError,
    AdapterUnavailableError,
    ConfigError,
    Origin,
    Problem,
)
from aggregator.model.registry import (
    Adapter,
    AdapterSpec,
    AnnouncedRegistry,
    Content,
    RegistryContext,
    RegistrySink,
    ServiceItem,
    ShardKey,
)
from aggregator.model.service import ServiceKey
from aggregator.registry.aggregate import Aggregate
from aggregator.registry.settings import RegistrySettings
from aggregator.registry.status import RegistryState
from aggregator.registry.supervisor import TICK, LoadAdapter, Supervisor
from tests.support.builders import endpoint, service
from tests.support.clock import FakeClock, settle

KEY = ServiceKey("shop", "reviews.shop.mesh")


class FakeSettings(Struct, frozen=True):
    """Where the fake registry is."""

    address: str = ""


Script = Callable[[RegistrySink, RegistryContext, FakeSettings], Any]


class Platform:
    """A fake platform: every run of an adapter does what the test has put here."""

    def __init__(self) -> None:
        self.scripts: dict[str, Script] = {}
        self.runs: list[str] = []
        self.ended: list[str] = []
        self._faults: dict[str, asyncio.Future[None]] = {}

    async def wait(self, address: str) -> None:
        """Wait until the test lets the run at *address* fail."""
        self._faults[address] = asyncio.get_running_loop().create_future()
        await self._faults[address]

    def fail(self, address: str, error: Exception) -> None:
        """End the present run at *address* with *error*."""
        self._faults[address].set_exception(error)

    def load(self, name: str, origin: Origin) -> AdapterSpec:
        """Give the adapter of that name."""
        if name != "fake":
            raise ConfigError(Problem(origin, "type", f"unknown registry type {name!r}"))
        return AdapterSpec("fake", FakeSettings, self._create)

    def _create(self, context: RegistryContext, settings: FakeSettings) -> Adapter:
        return FakeAdapter(self, context, settings)


class FakeAdapter:
    """Runs the script of its address, then waits to be cancelled."""

    def __init__(
        self, platform: Platform, context: RegistryContext, settings: FakeSettings
    ) -> None:
        self._platform = platform
        self._context = context
        self._settings = settings

    async def run(self, sink: RegistrySink) -> None:
        """Feed *sink* by the script."""
        self._platform.runs.append(self._settings.address)
        try:
            self._platform.scripts[self._settings.address](sink, self._context, self._settings)
            await self._platform.wait(self._settings.address)
        finally:
            self._platform.ended.append(self._settings.address)


def serving(*addresses: str) -> Script:
    """A registry in which reviews has these endpoints."""

    def script(sink: RegistrySink, context: RegistryContext, _settings: FakeSettings) -> None:
        shard = ShardKey(context.name, "all", Content.SERVICES)
        definition = service(KEY.host, namespace=KEY.namespace)
        endpoints = tuple(endpoint(address) for address in addresses)
        sink.replace(shard, {"x": ServiceItem("shop", KEY.host, definition, endpoints)})
        sink.synced()

    return script


def silent(_sink: RegistrySink, _context: RegistryContext, _settings: FakeSettings) -> None:
    """A registry that does not answer yet."""


def failing(error: Exception) -> Script:
    """A registry that ends each run with *error*."""

    def script(_sink: RegistrySink, _context: RegistryContext, _settings: FakeSettings) -> None:
        raise error

    return script


def announcing(*names: str) -> Script:
    """A registry that found these others."""

    def script(sink: RegistrySink, context: RegistryContext, _settings: FakeSettings) -> None:
        shard = ShardKey(context.name, "all", Content.REGISTRIES)
        listing = {name: AnnouncedRegistry(name, "fake", {"address": name}) for name in names}
        sink.replace(shard, listing)
        sink.synced()

    return script


def registry(
    name: str,
    address: str = "",
    *,
    type_: str = "fake",
    cluster_id: str = "",
    required: bool = True,
    sync_timeout: float = 30.0,
) -> RegistrySettings:
    """Settings of a fake registry."""
    return RegistrySettings(
        name=name,
        type=type_,
        context=RegistryContext(name=name, cluster_id=cluster_id or f"c-{name}"),
        adapter=FakeSettings(address or name),
        required=required,
        sync_timeout=sync_timeout,
    )


def decode_announced(item: AnnouncedRegistry, announcer: RegistrySettings) -> RegistrySettings:
    """Settings of an announced registry, in the defaults of its announcer."""
    if item.settings["address"] == "unreadable":
        raise ConfigError(Problem(announcer.context.origin, "", "unreadable settings"))
    return registry(item.name, str(item.settings["address"]), required=False)


async def inline(load: LoadAdapter, name: str, origin: Origin) -> AdapterSpec:
    """Load without a thread, whose time is not the test's."""
    return load(name, origin)


class Daemon:
    """A supervisor with its aggregate, a fake platform and a fake clock."""

    def __init__(self) -> None:
        self.platform = Platform()
        self.clock = FakeClock()
        self.logged = LogCapture()
        log = structlog.wrap_logger(None, processors=[self.logged])
        self.aggregate = Aggregate(lambda _changes: None, clock=self.clock)
        self.supervisor = Supervisor(
            self.aggregate,
            load_adapter=self.platform.load,
            decode_announced=decode_announced,
            clock=self.clock,
            sleep=self.clock.sleep,
            jitter=lambda: 1.0,
            in_thread=inline,
            log=log,
        )

    async def advance(self, seconds: float = 0.0) -> None:
        """Let time pass, and tasks do what they then do."""
        await self.clock.advance(seconds)
        await settle()

    def addresses(self) -> list[str]:
        """Where reviews is served."""
        return [each.address for each in self.aggregate.endpoints(KEY)]

    def states(self) -> dict[str, RegistryState]:
        """How each registry is doing."""
        return {each.name: each.state for each in self.supervisor.status()}


@asynccontextmanager
async def running(*registries: RegistrySettings, **scripts: Script) -> AsyncIterator[Daemon]:
    """A daemon whose supervisor runs."""
    daemon = Daemon()
    daemon.platform.scripts.update(scripts)
    daemon.supervisor.apply(registries)
    task = asyncio.create_task(daemon.supervisor.run())
    await daemon.advance()
    try:
        yield daemon
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_registries_run_and_are_ready() -> None:
    """The plain case."""
    async with running(registry("east"), east=serving("10.0.0.1")) as daemon:
        assert daemon.addresses() == ["10.0.0.1"]
        assert daemon.supervisor.ready()
        (status,) = daemon.supervisor.status()
        assert (status.state, status.services, status.endpoints, status.age) == (
            RegistryState.SYNCED,
            1,
            1,
            0.0,
        )


async def test_a_failing_registry_is_asked_ever_more_rarely() -> None:
    """A registry that is down must not be hammered, nor forgotten."""
    down = failing(AdapterUnavailableError("connection refused"))
    async with running(registry("east"), east=down) as daemon:
        runs = []
        for _ in range(5):
            runs.append(len(daemon.platform.runs))
            await daemon.advance(1.0)

        assert runs == [1, 2, 3, 3, 4]  # Waits of 0.5, 1, 2 and 4 seconds.
        (status,) = daemon.supervisor.status()
        assert status.state is RegistryState.FAILED
        assert status.last_error == "connection refused"
        assert status.reconnects == 3


async def test_what_a_failing_registry_said_is_served() -> None:
    """Error is not empty."""
    async with running(registry("east"), east=serving("10.0.0.1")) as daemon:
        daemon.platform.scripts["east"] = failing(AdapterUnavailableError("gone"))
        daemon.platform.fail("east", AdapterUnavailableError("gone"))
        await daemon.advance()
        await daemon.advance(10)

        assert daemon.addresses() == ["10.0.0.1"]
        assert daemon.states() == {"east": RegistryState.DEGRADED}
        assert daemon.supervisor.ready()
        (status,) = daemon.supervisor.status()
        assert status.age == 10


async def test_success_resets_the_back_off() -> None:
    """A registry that has recovered is asked again quickly after its next fault."""
    down = AdapterUnavailableError("down")
    async with running(registry("east"), east=failing(down)) as daemon:
        await daemon.advance(20)
        daemon.platform.scripts["east"] = serving("10.0.0.1")
        await daemon.advance(40)
        assert daemon.states() == {"east": RegistryState.SYNCED}
        runs = len(daemon.platform.runs)
        daemon.platform.fail("east", down)
        await daemon.advance()
        assert daemon.states() == {"east": RegistryState.DEGRADED}
        await daemon.advance(0.5)

        assert len(daemon.platform.runs) == runs + 1
        assert daemon.states() == {"east": RegistryState.SYNCED}


async def test_a_refused_registry_waits_the_longest() -> None:
    """Wrong credentials do not become right by trying twice a second, and may lock an account."""
    refused = failing(AdapterRejectedError("forbidden"))
    async with running(registry("east"), east=refused) as daemon:
        await daemon.advance(59)
        assert len(daemon.platform.runs) == 1
        await daemon.advance(1)

        assert len(daemon.platform.runs) == 2


async def test_a_bug_in_one_adapter_leaves_the_others_alone() -> None:
    """One registry's unexpected answer must not end the control plane."""
    crash = failing(KeyError("metadata"))
    async with running(
        registry("east"), registry("west"), east=crash, west=serving("10.0.0.2")
    ) as daemon:
        await daemon.advance(1)

        assert daemon.addresses() == ["10.0.0.2"]
        assert daemon.states() == {"east": RegistryState.FAILED, "west": RegistryState.SYNCED}
        assert daemon.supervisor.crash_total == len(daemon.platform.runs) - 1
        assert daemon.supervisor.status()[0].last_error == "KeyError: 'metadata'"
        crashes = [each for each in daemon.logged.entries if each["event"] == "registry_crashed"]
        assert [type(each["exc_info"]) for each in crashes] == [KeyError]  # Logged once.


async def test_what_is_logged_of_a_registry_says_which_and_in_which_cluster() -> None:
    """Several clusters may have registries of like names; the reader must know whose word it is."""
    async with running(registry("east"), east=failing(AdapterUnavailableError("gone"))) as daemon:
        (failed,) = [each for each in daemon.logged.entries if each["event"] == "registry_failed"]

    assert (failed["adapter"], failed["cluster_id"]) == ("east", "c-east")


async def test_an_adapters_error_is_found_in_its_task_group() -> None:
    """Adapters that use task groups are treated like those that do not."""
    group = ExceptionGroup("tasks", [AdapterUnavailableError("a"), AdapterRejectedError("b")])
    async with running(registry("east"), east=failing(group)) as daemon:
        (status,) = daemon.supervisor.status()

        assert status.last_error == "b"
        assert daemon.supervisor.crash_total == 0


async def test_a_missing_library_is_a_failed_registry() -> None:
    """The others run, and the status says what to install."""
    async with running(
        registry("east", type_="nosuch"), registry("west"), west=serving("10.0.0.2")
    ) as daemon:
        assert daemon.addresses() == ["10.0.0.2"]
        assert "nosuch" in daemon.supervisor.status()[0].last_error


# Readiness


async def test_readiness_waits_for_required_registries_only() -> None:
    """Starting too early sends proxies an empty mesh."""
    async with running(
        registry("east"),
        registry("west", required=False),
        east=silent,
        west=silent,
    ) as daemon:
        assert not daemon.supervisor.ready()
        waiter = asyncio.create_task(daemon.supervisor.wait_ready())
        await daemon.advance(29)
        assert not daemon.supervisor.ready()
        assert not waiter.done()
        await daemon.advance(2)

        # The one that does not answer must not block the start for ever.
        assert daemon.supervisor.ready()
        assert waiter.done()
        assert daemon.states()["east"] is RegistryState.STARTING


async def test_without_registries_it_is_ready() -> None:
    """Registries may come with a reload."""
    async with running() as daemon:
        assert daemon.supervisor.ready()


# Changed settings


async def test_registries_come_and_go_without_disturbing_others() -> None:
    """A reload touches what differs, nothing else."""
    async with running(
        registry("east"), registry("west"), east=serving("10.0.0.1"), west=serving("10.0.0.2")
    ) as daemon:
        daemon.platform.scripts["vms"] = serving("10.0.0.3")
        daemon.supervisor.apply([registry("vms"), registry("east")])
        await daemon.advance(TICK)

        assert daemon.addresses() == ["10.0.0.1", "10.0.0.3"]
        assert daemon.platform.runs == ["east", "west", "vms"]
        assert daemon.platform.ended == ["west"]
        defined = daemon.aggregate.service(KEY)
        assert defined is not None
        assert defined.registries == ("vms", "east")


async def test_what_goes_while_others_come_is_served_until_they_are_in() -> None:
    """Under a new name, or moved to another registry, a service has no moment without endpoints."""
    async with running(
        registry("old"), old=serving("10.0.0.1"), new=failing(AdapterUnavailableError("down"))
    ) as daemon:
        daemon.supervisor.apply([registry("new")])
        await daemon.advance(10)
        assert daemon.addresses() == ["10.0.0.1"]
        assert list(daemon.states()) == ["new", "old"]

        daemon.platform.scripts["new"] = serving("10.0.0.2")
        await daemon.advance(10)

        assert daemon.addresses() == ["10.0.0.2"]
        assert list(daemon.states()) == ["new"]
        assert daemon.platform.ended.count("old") == 1


async def test_what_goes_does_not_wait_for_ever() -> None:
    """A registry that never answers keeps no other one from being taken away."""
    async with running(registry("old"), old=serving("10.0.0.1"), new=silent) as daemon:
        daemon.supervisor.apply([registry("new", sync_timeout=30)])
        await daemon.advance(29)
        assert daemon.addresses() == ["10.0.0.1"]
        await daemon.advance(2)
        assert daemon.addresses() == []


async def test_what_goes_alone_goes_at_once() -> None:
    """There is nothing to wait for; and whoever comes back before the end was never away."""
    async with running(
        registry("east"), registry("west"), east=serving("10.0.0.1"), west=serving("10.0.0.2")
    ) as daemon:
        daemon.supervisor.apply([registry("east")])
        assert daemon.addresses() == ["10.0.0.1"]

        daemon.platform.scripts["new"] = silent
        daemon.supervisor.apply([registry("new")])
        daemon.supervisor.apply([registry("east"), registry("new")])
        await daemon.advance(60)
        assert daemon.addresses() == ["10.0.0.1"]
        assert daemon.platform.runs.count("east") == 1


async def test_only_what_is_read_counts_as_a_difference() -> None:
    """A comment in the settings file, or another time-out, restarts nothing."""
    async with running(registry("east"), east=serving("10.0.0.1")) as daemon:
        same = registry("east", required=False, sync_timeout=5)
        context = replace(same.context, origin=Origin("settings.yaml", 12))
        daemon.supervisor.apply([replace(same, context=context)])
        await daemon.advance()

        assert daemon.platform.runs == ["east"]
        assert daemon.supervisor.status()[0].required is False


async def test_a_changed_registry_is_replaced_once_its_successor_is_in_sync() -> None:
    """New credentials must not cost a second without endpoints."""
    async with running(registry("east", "old"), old=serving("10.0.0.1"), new=silent) as daemon:
        daemon.supervisor.apply([registry("east", "new")])
        await daemon.advance(100)
        assert daemon.addresses() == ["10.0.0.1"]
        assert [each.replacing for each in daemon.supervisor.status()] == [False, True]
        assert daemon.platform.ended == []

        daemon.platform.scripts["newer"] = serving("10.0.0.2")
        daemon.supervisor.apply([registry("east", "newer")])
        await daemon.advance()

        assert daemon.addresses() == ["10.0.0.2"]
        assert sorted(daemon.platform.ended) == ["new", "old"]
        assert [each.replacing for each in daemon.supervisor.status()] == [False]


async def test_a_change_taken_back_ends_the_replacement() -> None:
    """Reverting a bad reload leaves the running registry as it is."""
    async with running(registry("east", "old"), old=serving("10.0.0.1"), new=silent) as daemon:
        daemon.supervisor.apply([registry("east", "new")])
        await daemon.advance()
        daemon.supervisor.apply([registry("east", "old")])
        await daemon.advance()

        assert daemon.platform.ended == ["new"]
        assert daemon.platform.runs == ["old", "new"]
        assert len(daemon.supervisor.status()) == 1


async def test_an_adapter_that_fails_while_it_is_ended_stays_ended() -> None:
    """A clean-up that fails must not bring a removed registry back."""

    class Stubborn(FakeAdapter):
        async def run(self, sink: RegistrySink) -> None:
            try:
                await super().run(sink)
            except asyncio.CancelledError as error:
                message = "no clean end"
                raise RuntimeError(message) from error

    async with running(registry("east"), east=serving("10.0.0.1")) as daemon:
        platform = daemon.platform
        stubborn = AdapterSpec(
            "fake", FakeSettings, lambda context, own: Stubborn(platform, context, own)
        )
        supervisor = Supervisor(
            daemon.aggregate,
            load_adapter=lambda _name, _origin: stubborn,
            clock=daemon.clock,
            sleep=daemon.clock.sleep,
            in_thread=inline,
        )
        task = asyncio.create_task(supervisor.run())
        platform.scripts["west"] = serving("10.0.0.2")
        await daemon.advance()
        supervisor.apply([registry("west")])
        await daemon.advance()
        supervisor.apply([])
        await daemon.advance(100)

        assert platform.runs.count("west") == 1
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_an_adapter_whose_task_fails_is_started_again() -> None:
    """A task group that fails while it waits for its tasks leaves a trace of cancellation behind;
    it must not be taken for the end of the registry.
    """

    class Grouped:
        """Fails in a task of its own."""

        runs = 0

        async def run(self, _sink: RegistrySink) -> None:
            """Wait for a task that fails."""
            type(self).runs += 1
            async with asyncio.TaskGroup() as group:
                group.create_task(self._fail())

        async def _fail(self) -> None:
            await asyncio.sleep(0)
            message = "the connection broke"
            raise AdapterUnavailableError(message)

    def load(_name: str, _origin: Origin) -> AdapterSpec:
        return AdapterSpec("grouped", FakeSettings, lambda _context, _settings: Grouped())

    clock = FakeClock()
    supervisor = Supervisor(
        Aggregate(lambda _changes: None, clock=clock),
        load_adapter=load,
        clock=clock,
        sleep=clock.sleep,
        jitter=lambda: 1.0,
        in_thread=inline,
    )
    supervisor.apply([registry("east")])
    task = asyncio.create_task(supervisor.run())
    await settle()
    assert supervisor.status()[0].last_error == "the connection broke"
    await clock.advance(60.0)
    await settle()
    assert Grouped.runs > 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# Announced registries


async def test_announced_registries_run_after_their_announcer() -> None:
    """Clusters that are found are read like declared ones, and define services after them."""
    async with running(
        registry("more"),
        registry("last"),
        more=announcing("east"),
        east=serving("10.0.0.1"),
        last=serving("10.0.0.2"),
    ) as daemon:
        await daemon.advance()

        assert daemon.addresses() == ["10.0.0.1", "10.0.0.2"]
        assert [each.name for each in daemon.supervisor.status()] == ["more", "east", "last"]
        assert daemon.supervisor.status()[1].announced_by == "more"
        defined = daemon.aggregate.service(KEY)
        assert defined is not None
        assert defined.registries == ("east", "last")


async def test_what_was_announced_ends_with_the_announcement() -> None:
    """A cluster whose secret was deleted is out at once, and so is all that it had found itself."""
    async with running(
        registry("more"),
        more=announcing("nested"),
        nested=announcing("east"),
        east=serving("10.0.0.1"),
    ) as daemon:
        await daemon.advance()
        assert daemon.addresses() == ["10.0.0.1"]

        daemon.supervisor.apply([])
        await daemon.advance()

        assert daemon.addresses() == []
        assert daemon.supervisor.status() == []
        assert sorted(daemon.platform.ended) == ["east", "more", "nested"]


async def test_an_announced_name_that_is_taken_is_refused() -> None:
    """What people wrote in the settings is not taken over by what was found."""
    async with running(
        registry("more"), registry("east"), more=announcing("east"), east=serving("10.0.0.1")
    ) as daemon:
        await daemon.advance()

        names: Sequence[str] = [each.name for each in daemon.supervisor.status()]
        assert names == ["more", "east"]
        assert daemon.platform.runs == ["more", "east"]
        (problem,) = daemon.aggregate.problems()["more", "announced"]
        assert "the registry 'east' has that name already" in str(problem)
        assert daemon.supervisor.status()[0].problems == 1


async def test_a_cluster_that_is_declared_is_not_read_again_under_another_name() -> None:
    """Its endpoints would all be there twice."""
    async with running(
        registry("more"),
        registry("main", cluster_id="c-east"),
        more=announcing("east"),
        main=serving("10.0.0.1"),
        east=serving("10.0.0.1"),
    ) as daemon:
        await daemon.advance()

        assert daemon.platform.runs == ["more", "main"]
        refused = daemon.supervisor.status()[-1]
        assert (refused.name, refused.announced_by) == ("east", "more")
        assert "the registry 'main' has that cluster already" in refused.last_error


async def test_of_two_announcements_with_one_name_the_oldest_counts() -> None:
    """A second secret for a cluster that is read already takes nothing over, until the first goes;
    the younger one is reported with the place where it was written.
    """

    def script(sink: RegistrySink, context: RegistryContext, _settings: FakeSettings) -> None:
        for scope, address, created in (("a", "young", 2.0), ("b", "old", 1.0)):
            item = AnnouncedRegistry(
                "east", "fake", {"address": address}, created=created, origin=Origin(address)
            )
            sink.replace(ShardKey(context.name, scope, Content.REGISTRIES), {"east": item})
        sink.synced()

    async with running(
        registry("more"), more=script, young=serving("10.0.0.1"), old=serving("10.0.0.2")
    ) as daemon:
        await daemon.advance()

        assert daemon.addresses() == ["10.0.0.2"]
        (problem,) = daemon.aggregate.problems()["more", "announced"]
        assert str(problem).startswith("young: registry east: left out")


async def test_unreadable_announced_settings_show_in_the_status() -> None:
    """A bad secret among good ones is reported and harms only itself."""
    async with running(
        registry("more"), more=announcing("east", "unreadable"), east=serving("10.0.0.1")
    ) as daemon:
        await daemon.advance()

        assert daemon.addresses() == ["10.0.0.1"]
        refused = daemon.supervisor.status()[-1]
        assert (refused.name, refused.state) == ("unreadable", RegistryState.FAILED)
        assert "unreadable settings" in refused.last_error
