"""Saves what registries say, as they say it, at a pace that bounds the cost."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

import structlog
from msgspec import Struct
from structlog.typing import FilteringBoundLogger

from aggregator.registry.aggregate import Aggregate
from aggregator.registry.archive import Archive
from aggregator.registry.saved import Head
from aggregator.registry.status import RegistryState, RegistryStatus

TICK: Final = 1.0
PAUSE: Final = 5.0
"""The least seconds between two saves of one registry."""

SHARE: Final = 0.02
"""The largest part of the time that may go into saving one registry."""

FRESH: Final = 30.0
"""How often an unchanged registry is noted to be still in sync."""


class _Kept(Struct):
    """What is on disk of one registry: since when, at which version, and when the next may be."""

    version: int = -1
    noted: float = 0.0
    next: float = 0.0
    fault: str = ""


class Keeper:
    """Keeps the archive in line with the aggregate. *statuses* tells who is in sync."""

    def __init__(
        self,
        aggregate: Aggregate,
        archive: Archive,
        statuses: Callable[[], Iterable[RegistryStatus]],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        log: FilteringBoundLogger | None = None,
    ) -> None:
        self._aggregate: Final = aggregate
        self._archive: Final = archive
        self._statuses: Final = statuses
        self._clock: Final = clock
        self._sleep: Final = sleep
        self._log: FilteringBoundLogger = log or structlog.get_logger(__name__)
        self._kept: Final[dict[str, _Kept]] = {}
        self.save_total = 0

    async def run(self) -> None:
        """Save until cancelled."""
        while True:
            await self.tick()
            await self._sleep(TICK)

    async def tick(self) -> None:
        """Save what is due, note who is in sync, and forget who is gone."""
        statuses = {each.name: each for each in self._statuses() if not each.replacing}
        for status in statuses.values():
            kept = self._kept.setdefault(status.name, _Kept())
            if self._clock() >= kept.next:
                await self._keep(status, kept)
        for name in [name for name in self._kept if name not in statuses]:
            del self._kept[name]
            await self._forget(name)

    async def flush(self) -> None:
        """Save at once what has changed, because the process ends."""
        for kept in self._kept.values():
            kept.next = 0.0
        await self.tick()

    def faults(self) -> Mapping[str, str]:
        """Why the state of a registry could not be saved, by its name."""
        return {name: kept.fault for name, kept in self._kept.items() if kept.fault}

    async def _keep(self, status: RegistryStatus, kept: _Kept) -> None:
        version = self._aggregate.version(status.name)
        if version is None:
            return
        began = self._clock()
        try:
            if version != kept.version:
                await self._save(status, kept)
            elif status.state is RegistryState.SYNCED and began - kept.noted >= FRESH:
                await self._archive.touch(status.name)
                kept.noted = began
        except OSError as error:
            self._failed(status.name, kept, str(error))
            kept.next = self._clock() + FRESH
        else:
            kept.fault = ""

    async def _save(self, status: RegistryStatus, kept: _Kept) -> None:
        said = self._aggregate.said(status.name)
        if said is None:
            return
        began = self._clock()
        await self._archive.save(Head(status.name, status.type, said.revision), said.shards)
        self.save_total += 1
        now = self._clock()
        kept.version, kept.noted = said.version, now
        kept.next = now + max(PAUSE, (now - began) / SHARE)

    async def _forget(self, name: str) -> None:
        try:
            await self._archive.forget(name)
        except OSError as error:
            self._log.warning("registry_state_left", adapter=name, error=str(error))

    def _failed(self, name: str, kept: _Kept, error: str) -> None:
        if kept.fault != error:
            self._log.error("registry_state_unsaved", adapter=name, error=error)
        kept.fault = error
