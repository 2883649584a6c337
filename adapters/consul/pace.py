"""How fast Consul is asked. Times come from a clock, so that nothing here waits by itself."""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from typing import Final

Key = tuple[str, str]
"""Scope and name of a service."""

BACKOFF_FIRST: Final = 0.5
BACKOFF_LONGEST: Final = 10.0


class Pace:
    """Lets *burst* things happen at once, and *rate* a second in the long run."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._left = burst
        self._at = clock()

    def delay(self) -> float:
        """How many seconds until the next thing may happen; 0 if it may now."""
        self._fill()
        return max(0.0, (1 - self._left) / self._rate)

    def take(self) -> float:
        """Count one thing; how many seconds to wait with it."""
        wait = self.delay()
        self._left -= 1
        return wait

    def _fill(self) -> None:
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now


class Slots:
    """Which things get one of few watches: those that changed last.

    A watch that lost its place is not broken off, because Consul keeps its connection, and counts
    it, until the question would have been answered anyway; `permits` bounds those that are open.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._hot: OrderedDict[Key, None] = OrderedDict()
        self.permits: Final = asyncio.Semaphore(most)

    def touch(self, key: Key) -> None:
        """It has changed just now."""
        self._hot[key] = None
        self._hot.move_to_end(key)
        if len(self._hot) > self._most:
            self._hot.popitem(last=False)

    def offer(self, key: Key) -> None:
        """It is there; it gets a place that nobody else wants."""
        if key not in self._hot and len(self._hot) < self._most:
            self._hot[key] = None
            self._hot.move_to_end(key, last=False)

    def forget(self, key: Key) -> None:
        """It is gone."""
        self._hot.pop(key, None)

    def __contains__(self, key: Key) -> bool:
        """Whether it is among those to watch."""
        return key in self._hot

    def of(self, scope: str) -> list[str]:
        """The names to watch in one scope."""
        return [name for where, name in self._hot if where == scope]


class SweepQueue:
    """Names to look at: urgent ones at once, the rest at a pace. Each is queued once."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._urgent: dict[str, None] = {}
        self._rest: dict[str, None] = {}
        self._news = asyncio.Event()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._urgent) + len(self._rest)

    def hurry(self, name: str) -> None:
        """Something about it has changed."""
        self._rest.pop(name, None)
        self._urgent[name] = None
        self._news.set()

    def add(self, name: str) -> None:
        """Something may have changed."""
        if name not in self._urgent:
            self._rest.setdefault(name)
            self._news.set()

    def drop(self, name: str) -> None:
        """It is not there any more."""
        self._urgent.pop(name, None)
        self._rest.pop(name, None)

    async def next(self) -> str:
        """The next name, as soon as it is due."""
        while True:
            if self._urgent:
                return _pop(self._urgent)
            wait = self._pace.delay() if self._rest else None
            if wait == 0:
                self._pace.take()
                return _pop(self._rest)
            self._news.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._news.wait()
            except TimeoutError:
                continue


def _pop(names: dict[str, None]) -> str:
    name = next(iter(names))
    del names[name]
    return name


def backoff(failures: int, jitter: Callable[[], float] = random.random) -> float:
    """Seconds to wait after so many failures in a row, with full jitter above the first step."""
    longest = min(BACKOFF_LONGEST, BACKOFF_FIRST * float(1 << min(failures, 10)))
    return BACKOFF_FIRST + jitter() * (longest - BACKOFF_FIRST)


class Cursor:
    """Where a watch has got to. `ask` is the index to wait from; 0 asks for an answer at once.

    An index that goes back says that a datacenter was restored, and counts anew; waiting from the
    old one would be in vain. The restored server itself first answers early, with nothing new.
    """

    def __init__(self, wait: float, index: int = 0) -> None:
        self.ask = index
        self._wait = wait
        self._index = index

    def take(self, answered: int, took: float) -> "Step":
        """Go on to the index of an answer that *took* so many seconds; what that means."""
        step = Step.BACK if answered < self._index else Step.MOVED
        if answered == self._index:
            step = Step.STAYED
        early = step is Step.STAYED and took < self._wait * 0.9
        self._index = answered
        self.ask = 0 if early or step is Step.BACK else answered
        return step


class Step(Enum):
    """What became of an index."""

    STAYED = 0
    MOVED = 1
    BACK = 2
