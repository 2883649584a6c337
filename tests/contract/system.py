"""A registry, a proxy that breaks the way to it, and a control plane: what a case works with."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from tests.contract.driver import Ability, Driver
from tests.contract.plane import Plane, running_plane
from tests.support.fault_proxy import Fault, FaultProxy, Pass, Refuse
from tests.support.poll import eventually

SERVICES: Final[Mapping[str, Sequence[str]]] = {
    name: [f"10.1.{number}.{last}" for last in range(1, 11)]
    for number, name in enumerate(("web", "api", "db"))
}
"""Together more endpoints than the loss guard's floor."""
IDLE_ASKS: Final = 20
WAKERS: Final = {"anon_inode:[eventpoll]", "anon_inode:[eventfd]"}


class Use(Struct, frozen=True):
    """What this process holds. Descriptors do not count gRPC's and asyncio's means of waking up."""

    tasks: int
    descriptors: int

    @classmethod
    def now(cls) -> "Use":
        """At present."""
        gc.collect()
        local = {
            f"socket:[{line.split()[6]}]"
            for line in Path("/proc/net/unix").read_text().splitlines()[1:]
        }
        links = {entry: _target(entry) for entry in Path("/proc/self/fd").iterdir()}
        counted = [each for each in links.values() if each and each not in local | WAKERS]
        return cls(len(asyncio.all_tasks()), len(counted))

    def covers(self, other: "Use") -> bool:
        """Whether *other* is no more than this."""
        return other.tasks <= self.tasks and other.descriptors <= self.descriptors

    def plus(self, more: int) -> "Use":
        """A little more than this."""
        return Use(self.tasks + more, self.descriptors + more)


def _target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except FileNotFoundError:
        # That of the listing itself.
        return ""


class System:
    """What a case works with; `wanted` is what streams should hold if all is well."""

    def __init__(self, driver: Driver, proxy: FaultProxy | None, plane: Plane) -> None:
        self.driver: Final = driver
        self.plane: Final = plane
        self.wanted: Final[dict[str, Sequence[str]]] = {}
        self._proxy: Final = proxy
        self._asked = (0.0, 0)
        self._connected = 0

    @property
    def proxy(self) -> FaultProxy:
        """The way to the registry; only those with `SERVER` have one."""
        assert self._proxy is not None
        return self._proxy

    # What the registry knows

    async def put(self, service: str, addresses: Sequence[str]) -> None:
        """Have the registry know it, and expect it on the streams."""
        await self.driver.put(service, addresses)
        self.wanted[self.driver.host(service)] = list(addresses)

    async def remove(self, service: str) -> None:
        """Delete a service, and expect that it goes, at the latest once its grace is over."""
        await self.driver.remove(service)
        del self.wanted[self.driver.host(service)]

    # What must hold

    async def holds(self, seconds: float = 20.0) -> None:
        """Return once the streams hold what is wanted; after the grace, where there is one."""
        if not self.driver.tells_deletions:
            await eventually(
                self._hold_apart_from_the_empty,
                seconds=seconds,
                hint="the streams hold something else",
            )
            await eventually(self._hold_after_the_grace, seconds=seconds, every=0.2)
        await self.plane.shows(self.wanted, seconds)

    async def keeps(self, seconds: float = 1.0) -> None:
        """Nothing that is wanted leaves a stream for a while."""
        await self.plane.keeps(self.wanted, seconds)

    def start_counting(self) -> None:
        """Count from here what the registry is asked, if there is a way to count it."""
        if self._proxy is None:
            return
        self._connected = self.proxy.connections
        self._asked = (time.monotonic(), self.proxy.connections + self.proxy.requests)

    def retries(self) -> int:
        """How many connections were made since `start_counting`."""
        return self.proxy.connections - self._connected

    def check_not_hammered(self) -> None:
        """The registry was not asked again and again since `start_counting`."""
        if self._proxy is None:
            return
        since, before = self._asked
        asked = self.proxy.connections + self.proxy.requests - before
        allowed = IDLE_ASKS + self.driver.asks_per_second * (time.monotonic() - since)
        assert asked <= allowed, f"asked {asked} times in {time.monotonic() - since:.1f} s"

    async def break_way(self, fault: Fault) -> None:
        """Have a fault between, also for a daemon that has no reason to connect again."""
        self.start_counting()
        await self.proxy.set(fault)
        self.proxy.cut()

    async def mend_way(self) -> None:
        """All is well again."""
        self.check_not_hammered()
        await self.proxy.set(Pass())
        self.proxy.cut()

    async def cut_off(self) -> None:
        """The daemon reaches the registry no more, which others go on writing to."""
        if self._proxy is not None:
            await self._proxy.set(Refuse())
        else:
            await self.driver.kill()
        await self.plane.fails()

    async def reconnect(self) -> None:
        """The end of `cut_off`."""
        if self._proxy is not None:
            await self._proxy.set(Pass())
        else:
            await self.driver.start()
        await self.plane.recovers()

    def _hold_apart_from_the_empty(self) -> bool:
        return all(
            _filled(self.plane.seen(mirror)) == _filled(self.wanted)
            for mirror in self.plane.mirrors
        )

    def _hold_after_the_grace(self) -> bool:
        seen = [self.plane.seen(mirror).keys() for mirror in self.plane.mirrors]
        if all(hosts == self.wanted.keys() for hosts in seen):
            return True
        self.plane.clock.jump(self.plane.deletion_grace + 1)
        return False


def _filled(services: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    return {host: tuple(sorted(each)) for host, each in services.items() if each}


@asynccontextmanager
async def running_system(
    driver: Driver,
    folder: Path,
    services: Mapping[str, Sequence[str]] = SERVICES,
    *,
    away: bool = False,
    seconds: float = 30.0,
) -> AsyncIterator[System]:
    """A system for the block, from when the streams hold *services*, which the registry knows.

    It has *seconds* for that. While the registry is *away*, the block begins at once.

    Afterwards no task and no descriptor of it may be left.
    """
    before = Use.now()
    async with AsyncExitStack() as stack:
        proxy = None
        if Ability.SERVER in driver.abilities:
            proxy = await stack.enter_async_context(FaultProxy(driver.port))
        entry = driver.entry(proxy.port if proxy else 0)
        known = {driver.host(name): each for name, each in services.items()}
        plane = await stack.enter_async_context(
            running_plane(folder, entry, driver.ignored, seconds=0 if away else seconds)
        )
        system = System(driver, proxy, plane)
        system.wanted.update(known)
        if not away:
            await system.plane.shows(known, seconds)
        yield system
    await eventually(Use.now, before.covers, seconds=5, every=0.1, hint=f"left more than {before}")
