"""Notices writes that a client does not take. One timer for all streams, because nearly every write
takes microseconds, and a timer of its own would cost as much.
"""

import asyncio
from typing import Any, Final

from msgspec import Struct

from aggregator.xds.budget import Share


class _Writing(Struct, eq=False):
    task: asyncio.Task[Any]
    share: Share
    since: float


class StallWatch:
    """Takes their share of the budget from tasks that have been writing for longer than *patience*
    seconds, so that clients which read need not wait, and cancels them after *longest*.
    """

    def __init__(self, longest: float, patience: float) -> None:
        self.longest: Final = longest
        self._patience: Final = min(patience, longest)
        # Both in the order in which they began.
        self._writing: Final[dict[asyncio.Task[Any], _Writing]] = {}
        self._late: Final[dict[asyncio.Task[Any], _Writing]] = {}
        self._stalled: Final[set[asyncio.Task[Any]]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, task: asyncio.Task[Any], share: Share) -> None:
        """The task begins to write."""
        loop = task.get_loop()
        self._writing[task] = _Writing(task, share, loop.time())
        if self._timer is None:
            self._timer = loop.call_later(self._patience, self._look, loop)

    def end(self, task: asyncio.Task[Any]) -> bool:
        """The task writes no more; whether that is because it took too long."""
        if self._writing.pop(task, None) is None:
            self._late.pop(task, None)
        if task not in self._stalled:
            return False
        self._stalled.discard(task)
        return True

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to what is late, and come back when the next one would be."""
        self._timer = None
        now = loop.time()
        for each in _older(self._writing, now - self._patience):
            self._late[each.task] = each
            each.share.give_back()
        for each in _older(self._late, now - self.longest):
            self._stalled.add(each.task)
            each.task.cancel()
        dues = [each.since + self._patience for each in _first(self._writing)]
        dues += [each.since + self.longest for each in _first(self._late)]
        if dues:
            self._timer = loop.call_at(min(dues), self._look, loop)


def _first(writing: dict[asyncio.Task[Any], _Writing]) -> list[_Writing]:
    return [next(iter(writing.values()))] if writing else []


def _older(writing: dict[asyncio.Task[Any], _Writing], than: float) -> list[_Writing]:
    """Take out those that began no later."""
    found: list[_Writing] = []
    while (first := _first(writing)) and first[0].since <= than:
        found += first
        del writing[first[0].task]
    return found
