"""A folder with the last good state of each registry, for the start after this one.

A file is written whole and then renamed, so that there is always one. Its time of modification says
when its registry was in sync last.
"""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from msgspec import Struct
from structlog.typing import FilteringBoundLogger

from aggregator.registry.saved import (
    Head,
    SavedState,
    Shards,
    StateError,
    decode_state,
    encode_state,
    seal,
)

_SUFFIX: Final = ".state"


class Recalled(Struct, frozen=True):
    """Saved state, for how many seconds it may be out of date, or why there is none to be used."""

    state: SavedState | None = None
    age: float = 0.0
    fault: str = ""


class Archive:
    """Saved states by registry, those older than *max_age* seconds aside. *clock* is the world's
    time.
    """

    def __init__(
        self,
        folder: Path,
        max_age: float,
        *,
        clock: Callable[[], float] = time.time,
        log: FilteringBoundLogger | None = None,
    ) -> None:
        self._folder: Final = folder
        self._max_age: Final = max_age
        self._clock: Final = clock
        self._log: FilteringBoundLogger = log or structlog.get_logger(__name__)

    async def recall(self, registry: str, type_: str) -> Recalled:
        """What was saved of a registry; what cannot be used is reported and ignored."""
        recalled = await asyncio.to_thread(self._load, registry, type_)
        if recalled.fault:
            self._log.error(
                "registry_state_ignored",
                adapter=registry,
                file=str(self._path(registry)),
                reason=recalled.fault,
            )
        return recalled

    async def save(self, head: Head, shards: Shards) -> int:
        """Write a registry's state; returns the bytes. Raises OSError."""
        return await asyncio.to_thread(self._write, head, shards)

    async def touch(self, registry: str) -> None:
        """The registry still is as it was saved. Raises OSError."""
        await asyncio.to_thread(self._touch, registry)

    async def forget(self, registry: str) -> None:
        """The registry is out of the settings. Raises OSError."""
        await asyncio.to_thread(self._path(registry).unlink, missing_ok=True)

    def _path(self, registry: str) -> Path:
        return self._folder / f"{registry}{_SUFFIX}"

    def _load(self, registry: str, type_: str) -> Recalled:
        path = self._path(registry)
        try:
            with path.open("rb") as file:
                data = file.read()
                modified = os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return Recalled()
        except OSError as error:
            return Recalled(fault=f"it cannot be read: {error.strerror or error}")
        # A clock that was set back makes a file look as if it came from the future.
        age = max(0.0, self._clock() - modified)
        if age > self._max_age:
            return Recalled(age=age, fault=f"it is {age:.0f} s old; more than the set age")
        try:
            state = decode_state(data)
        except StateError as error:
            return Recalled(age=age, fault=str(error))
        if (state.head.registry, state.head.type) != (registry, type_):
            kind = f"{state.head.registry!r} of type {state.head.type!r}"
            return Recalled(age=age, fault=f"it is of the registry {kind}")
        return Recalled(state, age)

    def _write(self, head: Head, shards: Shards) -> int:
        body = list(encode_state(head, shards))
        path = self._path(head.registry)
        aside = path.with_suffix(".new")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(seal(body))
            file.writelines(body)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        aside.replace(path)
        now = self._clock()
        os.utime(path, (now, now))
        return size

    def _touch(self, registry: str) -> None:
        now = self._clock()
        os.utime(self._path(registry), (now, now))
