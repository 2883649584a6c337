"""Notices writes that a client does not take. One timer for all streams, because nearly every write
takes microseconds, and a timer of its own would cost as much.
"""

import asyncio
from typing import Final
from typing import Protocol as Interface

from msgspec import Struct

from aggregator.xds.budget import Share


class Writer(Interface):
    """Whoever writes, one message at a time."""

    def stalled(self) -> None:
        """What it writes has not been taken for too long."""


class _Writing(Struct, eq=False):
    writer: Writer
    share: Share
    since: float


class StallWatch:
    """Takes their share of the budget from those that have been writing for longer than *patience*
    seconds, so that clients which read need not wait, and gives them up after *longest*.
    """

    def __init__(self, longest: float, patience: float) -> None:
        self.longest: Final = longest
        self._patience: Final = min(patience, longest)
        # Both in the order in which they began.
        self._writing: Final[dict[Writer, _Writing]] = {}
        self._late: Final[dict[Writer, _Writing]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, writer: Writer, share: Share) -> None:
        """It begins to write."""
        loop = asyncio.get_running_loop()
        self._writing[writer] = _Writing(writer, share, loop.time())
        if self._timer is None:
            self._timer = loop.call_later(self._patience, self._look, loop)

    def end(self, writer: Writer) -> None:
        """It writes no more."""
        if self._writing.pop(writer, None) is None:
            self._late.pop(writer, None)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to what is late, and come back when the next one would be."""
        self._timer = None
        now = loop.time()
        for each in _older(self._writing, now - self._patience):
            self._late[each.writer] = each
            each.share.give_back()
        for each in _older(self._late, now - self.longest):
            each.writer.stalled()
        dues = [each.since + self._patience for each in _first(self._writing)]
        dues += [each.since + self.longest for each in _first(self._late)]
        if dues:
            self._timer = loop.call_at(min(dues), self._look, loop)


def _first(writing: dict[Writer, _Writing]) -> list[_Writing]:
    return [next(iter(writing.values()))] if writing else []


def _older(writing: dict[Writer, _Writing], than: float) -> list[_Writing]:
    """Take out those that began no later."""
    found: list[_Writing] = []
    while (first := _first(writing)) and first[0].since <= than:
        found += first
        del writing[first[0].writer]
    return found
