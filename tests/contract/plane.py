"""A control plane around one registry, with a clock that can jump and streams that are watched."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml
from prometheus_client import CollectorRegistry

from aggregator.push.engine import Engine, PushSettings
from aggregator.push.metrics import Metrics
from aggregator.registry.aggregate import Aggregate
from aggregator.registry.status import RegistryState, RegistryStatus
from aggregator.registry.supervisor import Supervisor
from aggregator.settings import Settings, decode_announced, decode_settings
from aggregator.xds.server import XdsServer
from config.kind_table import kinds
from config.mesh import MeshConfig
from tests.contract.mirror import Loss, Mirror, Services, mirrored
from tests.support.mesh import generator_table, resource_types
from tests.support.poll import NotYetError, eventually

REGISTRY: Final = "contract"
LONGEST_SLEEP: Final = 1.0
"""The supervisor's back-off ends here, so that nobody waits a minute for a server to be asked."""


class JumpingClock:
    """The time that the control plane goes by."""

    def __init__(self) -> None:
        self._offset = 0.0

    def __call__(self) -> float:
        """Seconds since some time."""
        return time.monotonic() + self._offset

    def jump(self, seconds: float) -> None:
        """It is that much later at once, or earlier."""
        self._offset += seconds


class Plane:
    """A running control plane; `mirrors` are one stream of each variant."""

    def __init__(self, folder: Path, ignored: frozenset[str], push: PushSettings) -> None:
        self.clock: Final = JumpingClock()
        self.mirrors: Final[list[Mirror]] = []
        self.address = ""
        self.deletion_grace = 0.0
        self._folder: Final = folder
        self._ignored: Final = ignored
        self._domain: Final = "cluster.local"
        self.aggregate: Final = Aggregate(
            lambda changes: self.engine.submit(changes), clock=self.clock, domain=self._domain
        )
        self.engine: Final = Engine(
            self.aggregate,
            generator_table(),
            kinds(),
            mesh=MeshConfig(),
            domain=self._domain,
            settings=push,
            metrics=Metrics(CollectorRegistry()),
            clock=self.clock,
        )
        self.supervisor: Final = Supervisor(
            self.aggregate,
            decode_announced=decode_announced,
            clock=self.clock,
            sleep=lambda seconds: asyncio.sleep(min(seconds, LONGEST_SLEEP)),
        )
        self.server: Final = XdsServer(self.engine, resource_types())

    async def apply(self, entry: Mapping[str, Any] | None) -> None:
        """Take settings with this registry, or with another one that has nothing."""
        registries = (await asyncio.to_thread(self._decode, entry)).registries
        self.supervisor.apply(registries)
        self.deletion_grace = registries[0].handling.deletion_grace

    def _decode(self, entry: Mapping[str, Any] | None) -> Settings:
        other = {"name": "other", "type": "files", "path": "other"}
        (self._folder / "other").mkdir(exist_ok=True)
        registries = [{"name": REGISTRY, **entry}] if entry is not None else [other]
        text = yaml.safe_dump({"registries": registries})
        return decode_settings(text.encode(), self._folder / "mesh-aggregator.yaml")

    # What is seen

    @property
    def status(self) -> RegistryStatus:
        """What is said of the registry, while it is in the settings."""
        (found,) = (each for each in self.supervisor.status() if each.name == REGISTRY)
        return found

    @property
    def synced(self) -> bool:
        """Whether the registry is in sync, all of it."""
        return self.status.state is RegistryState.SYNCED and not self.status.problems

    @property
    def losses(self) -> list[Loss]:
        """All that was ever taken from a stream since `forget_losses`."""
        return [
            loss
            for mirror in self.mirrors
            for loss in mirror.losses
            if loss.host not in self._ignored
        ]

    def forget_losses(self) -> None:
        """From now on count again."""
        for mirror in self.mirrors:
            mirror.losses.clear()

    def seen(self, mirror: Mirror) -> Services:
        """What a stream holds, but for services that the platform has of its own."""
        return {
            host: addresses
            for host, addresses in mirror.services().items()
            if host not in self._ignored
        }

    async def shows(
        self, wanted: Mapping[str, Sequence[str]], seconds: float = 15.0, hint: str = ""
    ) -> None:
        """Return once both streams hold exactly this. Raises NotYetError after *seconds*."""
        expected = {host: tuple(sorted(addresses)) for host, addresses in wanted.items()}
        for mirror in self.mirrors:
            await eventually(
                partial(self._difference, mirror, expected),
                lambda difference: not difference,
                seconds=seconds,
                hint=f"{hint or 'the streams hold something else'}: {self._describe()}",
            )

    async def shows_to_newcomers(self, wanted: Mapping[str, Sequence[str]]) -> None:
        """Return once streams that are opened now hold exactly this."""
        async with AsyncExitStack() as stack:
            known = list(self.mirrors)
            self.mirrors[:] = [
                await stack.enter_async_context(
                    mirrored(self.address, delta=delta, name=f"newcomer-{delta}")
                )
                for delta in (True, False)
            ]
            try:
                await self.shows(wanted, hint="newcomers see something else")
            finally:
                self.mirrors[:] = known

    async def keeps(self, wanted: Mapping[str, Sequence[str]], seconds: float) -> None:
        """Both streams hold this for as long, old ones and new ones, and nothing is taken away."""
        self.forget_losses()
        await asyncio.sleep(seconds)
        assert not self.losses, self.losses
        await self.shows(wanted, seconds=0.1)
        await self.shows_to_newcomers(wanted)

    async def fails(self, seconds: float = 15.0) -> None:
        """Return once the registry is known to be in trouble."""
        await eventually(
            lambda: not self.synced, seconds=seconds, hint="nobody noticed that it does not answer"
        )

    async def becomes_ready(self) -> None:
        """Return once the control plane says that it is ready."""
        await eventually(self.supervisor.ready, hint="not ready, though it has waited long enough")

    async def holds_back(self, seconds: float = 15.0) -> None:
        """Return once the loss guard holds something."""
        await eventually(lambda: self.status.held, seconds=seconds, hint="no loss is held")

    async def recovers(self, seconds: float = 30.0) -> None:
        """Return once the registry is in sync."""
        try:
            await eventually(lambda: self.synced, seconds=seconds)
        except NotYetError as error:
            message = f"the registry did not recover: {self.status}"
            raise NotYetError(message) from error

    def complaint(self) -> str:
        """All that is said of what is wrong with the registry."""
        problems = [str(each) for found in self.aggregate.problems().values() for each in found]
        return "\n".join([self.status.last_error, *problems])

    def _difference(self, mirror: Mirror, expected: Services) -> str:
        return _difference(self.seen(mirror), expected)

    def _describe(self) -> str:
        problems = [str(each) for found in self.aggregate.problems().values() for each in found]
        return f"{self.supervisor.status()}, {problems[:3]}"


def _difference(found: Services, expected: Services) -> str:
    if found == expected:
        return ""
    gone = sorted(expected.keys() - found.keys())
    more = sorted(found.keys() - expected.keys())
    other = [host for host in expected if host in found and found[host] != expected[host]]
    some = {host: (found[host], expected[host]) for host in other[:3]}
    return f"lacks {gone[:5]}, has {more[:5]}, differs in {len(other)}: {some}"


@asynccontextmanager
async def running_plane(
    folder: Path, entry: Mapping[str, Any], ignored: frozenset[str], *, seconds: float
) -> AsyncIterator[Plane]:
    """Run a control plane of one registry for the block, from when that is in sync.

    It has *seconds* for that; with 0 nobody waits for it.
    """
    plane = Plane(folder, ignored, PushSettings(warm_wait=0.1))
    await plane.apply(entry)
    port = await plane.server.listen("127.0.0.1:0")
    plane.address = f"127.0.0.1:{port}"
    tasks = [asyncio.create_task(each) for each in (plane.engine.run(), plane.supervisor.run())]
    try:
        async with AsyncExitStack() as stack:
            for delta in (True, False):
                watched = mirrored(plane.address, delta=delta, name=f"watcher-{delta}")
                plane.mirrors.append(await stack.enter_async_context(watched))
            if seconds:
                await plane.recovers(seconds)
            yield plane
    finally:
        await plane.server.aclose(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


# Modules are found by reading folders, which the event loop must not do.
generator_table()
kinds()
