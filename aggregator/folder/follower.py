"""A folder of files as the source of shards: read at the start, followed while it changes.

Each file commits as a whole and keeps its last good state while it is broken. A deleted file is
deletion; a folder found empty is an absence that is judged; one that cannot be read is an error.
Knows nothing of what is in the files.
"""

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import structlog
from structlog.typing import FilteringBoundLogger
from watchfiles import awatch

from aggregator.folder.committer import Committer
from aggregator.folder.folder import Folder, Listing
from aggregator.folder.reader import Batch, Decode, Reader, Result, chunks, stale
from aggregator.folder.watch import Events, OnEvent, Watch
from aggregator.model.registry import RegistrySink

RESCAN: Final = 30.0
RESCAN_UNWATCHED: Final = 1.0
_CHECK: Final = 1.0
"""How often to see whether the path still leads to the watched folder, which no event tells."""

_MANY: Final = 10
_QUIET: Final = 0.2
_PATIENCE: Final = 2.0


class FolderFollower:
    """Feeds a registry's shards from one folder or file, a scope for each file.

    *on_event* is told when the watcher speaks, which is where latency is measured from. With
    *last_may_go* the only file of a folder can be deleted like any other; else a folder without
    files is always an absence to be judged.
    """

    def __init__(
        self,
        path: Path,
        patterns: Iterable[str],
        registry: str,
        decode: Decode,
        *,
        recursive: bool = False,
        last_may_go: bool = False,
        on_event: OnEvent | None = None,
        events: Events = awatch,
        rescan: float = RESCAN,
        log: FilteringBoundLogger | None = None,
    ) -> None:
        self._path = path
        self._patterns = tuple(patterns)
        self._registry = registry
        self._decode = decode
        self._recursive = recursive
        self._last_may_go = last_may_go
        self._on_event = on_event
        self._events = events
        self._rescan = rescan
        self._log: FilteringBoundLogger = log or structlog.get_logger(__name__)

    async def run(self, sink: RegistrySink) -> None:
        """Feed *sink* until cancelled.

        Raises AdapterUnavailableError when the folder is not there or cannot be read.
        """
        committer = Committer(sink, self._registry)
        while True:
            folder = await asyncio.to_thread(
                Folder, self._path, self._patterns, recursive=self._recursive
            )
            async with Watch(
                folder.absolute,
                recursive=folder.recursive,
                on_event=self._on_event,
                events=self._events,
                log=self._log,
            ) as watch:
                reader = Reader(folder, self._decode)
                run = _Run(
                    folder, reader, watch, committer, self._rescan, last_may_go=self._last_may_go
                )
                await run.follow()
            self._log.info("folder_replaced", path=str(self._path))


class _Run:
    """Keeps what was committed in line with one folder."""

    def __init__(
        self,
        folder: Folder,
        reader: Reader,
        watch: Watch,
        committer: Committer,
        rescan: float,
        *,
        last_may_go: bool,
    ) -> None:
        self._folder = folder
        self._reader = reader
        self._watch = watch
        self._committer = committer
        self._rescan = rescan
        self._last_may_go = last_may_go

    async def follow(self) -> None:
        """Read the folder and all its changes until another one has taken its place."""
        listing = await asyncio.to_thread(self._folder.list)
        await self._read_stale(listing)
        self._committer.synced(listing.files.keys())
        listed = time.monotonic()
        while True:
            changed = await self._watch.wait(_CHECK)
            if self._watch.ended:
                return
            batch = await asyncio.to_thread(self._reader.take, changed, self._committer.memory)
            if not batch.same_folder:
                return
            interval = RESCAN_UNWATCHED if self._watch.failure else self._rescan
            due = time.monotonic() - listed >= interval
            if not self._commit(batch) or due:
                await self._relist()
                listed = time.monotonic()

    def _commit(self, batch: Batch) -> bool:
        """Commit what was read; False if only a listing can tell what to make of it.

        That is so when many files are gone, too, because the folder itself may be going.
        """
        memory = self._committer.memory
        gone = {result.scope for result in batch.results if result.gone} & memory.keys()
        if batch.unclear or len(gone) > _MANY or (gone and len(gone) == len(memory)):
            return False
        self._committer.commit(batch.results)
        return True

    async def _relist(self) -> None:
        """List the folder, read what may have changed, drop what is gone."""
        listing = await asyncio.to_thread(self._folder.list)
        if len(self._gone(listing)) > _MANY or not listing.files:
            # Let whoever deletes finish, so that an emptied folder is seen as one.
            await self._quiet()
            listing = await asyncio.to_thread(self._folder.list)
        await self._read_stale(listing)
        last = self._last_may_go and len(self._committer.memory) == 1
        if listing.files or listing.faults or last:
            self._committer.commit(Result(scope, gone=True) for scope in self._gone(listing))
        else:
            self._committer.emptied()

    def _gone(self, listing: Listing) -> list[str]:
        return [
            scope
            for scope in self._committer.memory
            if scope not in listing.files and listing.knows(scope)
        ]

    async def _quiet(self) -> None:
        began = time.monotonic()
        while await self._watch.wait(_QUIET) and time.monotonic() - began < _PATIENCE:
            pass

    async def _read_stale(self, listing: Listing) -> None:
        scopes = stale(listing, self._committer.memory)
        for part in chunks(scopes, listing.files):
            results = await asyncio.to_thread(self._reader.read, part, self._committer.memory)
            self._committer.commit(results)
        self._committer.faults(
            {scope: self._reader.fault(scope, message) for scope, message in listing.faults.items()}
        )
