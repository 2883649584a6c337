"""The parts that one registry is read in, each of which may fail by itself.

A part that fails is told of and tried again, while the others go on; if none is left that works,
the whole registry has failed, which is the supervisor's to handle. Knows nothing of Consul.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection

import structlog
from structlog.typing import FilteringBoundLogger

from adapters.consul.pace import backoff
from aggregator.model.errors import (
    AdapterError,
    AdapterRejectedError,
    AdapterUnavailableError,
    Origin,
    Problem,
)
from aggregator.model.registry import RegistrySink

Follow = Callable[[Callable[[], None]], Awaitable[None]]
"""Follows a part for good; calls what it is given once everything was read."""

PATIENCE = 5.0
"""How many seconds the first full listing waits for a part that fails."""


class Part:
    """One part: its scope as problems name it, and how it fares."""

    def __init__(self, board: "Board", scope: str, title: str) -> None:
        self.scope = scope
        self.settled = False
        self.fault: AdapterError | None = None
        self._board = board
        self._title = title
        self._problems: tuple[Problem, ...] = ()

    def report(self, problems: tuple[Problem, ...]) -> None:
        """What is wrong with its content."""
        self._problems = problems
        self.tell()

    def tell(self) -> None:
        """Say all that is wrong: with its content, and with reading it."""
        problems = self._problems
        if self.fault is not None:
            message = f"{self._title} is not read, what it said last stays: {self.fault}"
            problems = (Problem(Origin(self._board.registry), "", message), *problems)
        self._board.sink.report(self.scope, problems)


class Board:
    """All parts of one run."""

    def __init__(
        self,
        sink: RegistrySink,
        registry: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        log: FilteringBoundLogger | None = None,
    ) -> None:
        self.sink = sink
        self.registry = registry
        self._clock = clock
        self._sleep = sleep
        bare: FilteringBoundLogger = log or structlog.get_logger(__name__)
        self._log = bare.bind(adapter=registry)
        self._parts: dict[str, Part] = {}
        self._remarks: set[str] = set()
        self._synced = False

    def add(self, scope: str, title: str) -> Part:
        """One more part, which the first full listing waits for."""
        self._parts[scope] = part = Part(self, scope, title)
        return part

    def remove(self, scope: str) -> None:
        """The part is not there any more."""
        self._parts.pop(scope, None)
        self.retain()
        self._settle()

    def remark(self, scope: str, problem: Problem | None) -> None:
        """What is wrong with something that gives no content, in a scope of its own."""
        self._remarks.add(scope)
        self.sink.report(scope, (problem,) if problem is not None else ())

    def retain(self, others: Collection[str] = (), *, instead_of: str = "") -> None:
        """Say which scopes there are: those of the parts, of one of them *others* in place of its
        own.
        """
        scopes = {scope for scope in self._parts if scope != instead_of}
        self.sink.retain(scopes | self._remarks | set(others))

    async def keep(self, part: Part, follow: Follow) -> None:
        """Follow a part, again and again.

        Raises the AdapterError with which the last of all parts fails.
        """
        failures = 0
        began = self._clock()

        def listed() -> None:
            nonlocal failures
            failures = 0
            if part.fault is not None:
                self._log.info("part_recovered", scope=part.scope)
            part.fault = None
            part.tell()
            part.settled = True
            self._settle()

        while True:
            error = await _failure(follow(listed))
            if part.fault is None or str(part.fault) != str(error):
                self._log.warning("part_failed", scope=part.scope, error=str(error))
            part.fault = error
            part.tell()
            if all(each.fault is not None for each in self._parts.values()):
                raise error
            if self._clock() - began >= PATIENCE:
                part.settled = True
                self._settle()
            failures += 1
            await self._sleep(backoff(failures))

    def _settle(self) -> None:
        if not self._synced and all(part.settled for part in self._parts.values()):
            self._synced = True
            self.sink.synced()


async def _failure(following: Awaitable[None]) -> AdapterError:
    """What it ended with."""
    try:
        await following
    except (AdapterError, ExceptionGroup) as raised:
        return _cause(raised)
    return AdapterUnavailableError("it ended by itself")


def _cause(raised: AdapterError | ExceptionGroup[Exception]) -> AdapterError:
    """The adapter's own error, rejections first. Anything else in a group is raised as it is."""
    if isinstance(raised, AdapterError):
        return raised
    known, others = raised.split(AdapterError)
    if others is not None or known is None:
        raise raised
    leaves = list(_leaves(known))
    rejected = [leaf for leaf in leaves if isinstance(leaf, AdapterRejectedError)]
    return (rejected or leaves)[0]


def _leaves(group: ExceptionGroup[AdapterError]) -> list[AdapterError]:
    found: list[AdapterError] = []
    for each in group.exceptions:
        found += _leaves(each) if isinstance(each, ExceptionGroup) else [each]
    return found
