"""Tells which paths of a folder changed, within milliseconds where the system can tell at all.

What comes while nobody waits is gathered. Knows nothing of what is in the files.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterator
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import structlog
from structlog.typing import FilteringBoundLogger
from watchfiles import Change, awatch

STEP_MS: Final = 2
"""How often the watcher looks what the system told; a lone change waits for two looks."""

LONGEST_MS: Final = 20
"""How long a burst may hold up its first change."""

_STOP_CHECK_MS: Final = 1000

_AGAIN: Final = 5.0
"""How long after a failure the watcher is tried again."""

OnEvent = Callable[[float, Collection[str]], None]
"""Called with the monotonic time at which the watcher told of changes, and their paths."""

Events = Callable[..., AsyncGenerator[set[tuple[Change, str]], None]]
"""What tells the changes: `watchfiles.awatch`, or what a test has in its place."""


class Watch:
    """Watches one folder while its context is open. Changes from then on are not missed."""

    def __init__(
        self,
        path: Path,
        *,
        recursive: bool,
        on_event: OnEvent | None = None,
        events: Events = awatch,
        log: FilteringBoundLogger | None = None,
    ) -> None:
        self._path = path
        self._recursive = recursive
        self._log: FilteringBoundLogger = log or structlog.get_logger(__name__)
        self._on_event = on_event
        self._events = events
        self._changed: set[str] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.failure = ""
        self.ended = False
        """Whether the folder went, after which nothing more is told: not even of another one in its
        place, which may have the same inode."""

    async def __aenter__(self) -> Self:
        """Begin to watch."""
        self._task = asyncio.create_task(self._run(), name=f"watch {self._path}")
        # The watch is set up in the task's first step; what happens later is queued by the system.
        await asyncio.sleep(0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def wait(self, seconds: float) -> set[str]:
        """The paths, relative to the folder, that changed since the last time; waits for the first.

        After *seconds* without any the answer is empty.
        """
        if not self._changed:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
        changed, self._changed = self._changed, set()
        return changed

    async def _run(self) -> None:
        told = ""
        while True:
            self.failure = await self._watch()
            # Looking at the folder now and then remains.
            if self.failure != told:
                told = self.failure
                self._log.warning("watch_failed", path=str(self._path), error=told)
            await asyncio.sleep(_AGAIN)
            self.failure = ""
            # What happened meanwhile was not told.
            self._changed.add(".")
            self._wake.set()

    async def _watch(self) -> str:
        """Gather changes; why it cannot go on. Most often that is the system's limit of watches, or
        a file whose name is no text.
        """
        try:
            batches = self._events(
                self._path,
                watch_filter=None,
                debounce=LONGEST_MS,
                step=STEP_MS,
                rust_timeout=_STOP_CHECK_MS,
                recursive=self._recursive,
                ignore_permission_denied=True,
            )
            async with aclosing(batches):
                async for batch in batches:
                    paths = set(self._relative(path for _, path in batch))
                    self.ended |= (Change.deleted, str(self._path)) in batch
                    if self._on_event is not None:
                        self._on_event(time.monotonic(), paths)
                    self._changed |= paths
                    self._wake.set()
        except (OSError, RuntimeError) as error:
            return str(error)
        except ExceptionGroup as errors:
            # The watcher's own task group wraps what happens in its thread.
            if errors.split((OSError, RuntimeError))[1] is not None:
                raise
            return str(errors.exceptions[0])
        return "the watcher ended by itself"

    def _relative(self, paths: Iterator[str]) -> Iterator[str]:
        for path in paths:
            with contextlib.suppress(ValueError):
                yield Path(path).relative_to(self._path).as_posix()
