"""Tells Python's garbage collector what lasts, and has it look for the rest in quiet moments.

A mesh of 10,000 services is a million objects that are freed by counting alone; walking them takes
the collector most of a second, in which nothing is sent.
"""

import asyncio
import gc
import time
from collections.abc import Callable
from typing import Final

import structlog

log = structlog.get_logger()

GROWING: Final = (50_000, 50, 50)

NEVER: Final = 2**31 - 1
"""The largest threshold that Python takes."""

INTERVAL: Final = 1.0
"""How often to see whether there is something to do, in seconds."""

DUE: Final = 10
"""Collections of the middle generation after which the old one is due; Python's own default."""

LATEST: Final = 60.0
"""How long a collection that is due waits for a quiet moment, in seconds."""

LEFT_BEHIND: Final = 20_000
"""Ended streams after which even what lasts is looked at: gRPC leaves five small objects of each in
a circle."""


def expect_growth() -> None:
    """Most of what is made from now on will last: do not look for garbage all the time."""
    gc.set_threshold(*GROWING)


def settle() -> None:
    """What is there now is left alone; what comes later is looked at as usual, but for what has
    proved to last, which waits for `Collector`.
    """
    gc.freeze()
    young, middle, _ = _USUAL
    gc.set_threshold(young, middle, NEVER)


class Collector:
    """Collects what grew old when *idle* says that nobody waits, and leaves alone what remains.

    So a collection costs what came since the last one, and not the mesh. *ended* counts streams
    that ended since the start.
    """

    def __init__(
        self,
        idle: Callable[[], bool],
        ended: Callable[[], int],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._idle: Final = idle
        self._ended: Final = ended
        self._clock: Final = clock
        self._due_since: float | None = None
        self._looked_at = 0

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            self.turn()

    def turn(self) -> None:
        """Collect, if it is time to and the moment is good."""
        now = self._clock()
        if gc.get_count()[2] < DUE:
            return
        if self._due_since is None:
            self._due_since = now
        if self._idle() or now - self._due_since >= LATEST:
            self._due_since = None
            self._collect()

    def _collect(self) -> None:
        started = self._clock()
        ended = self._ended()
        whole = ended - self._looked_at >= LEFT_BEHIND
        if whole:
            gc.unfreeze()
            self._looked_at = ended
        found = gc.collect()
        gc.freeze()
        log.debug("garbage_collected", seconds=self._clock() - started, found=found, whole=whole)


_USUAL: Final = gc.get_threshold()
