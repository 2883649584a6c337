"""Notices writes that a client does not take. One timer for all streams, because nearly every write
takes microseconds, and a timer of its own would cost as much.
"""

import asyncio
from typing import Any, Final


class StallWatch:
    """Cancels tasks that have been writing for longer than so many seconds."""

    def __init__(self, longest: float) -> None:
        self.longest: Final = longest
        # In the order in which they began.
        self._writing: Final[dict[asyncio.Task[Any], float]] = {}
        self._stalled: Final[set[asyncio.Task[Any]]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, task: asyncio.Task[Any]) -> None:
        """The task begins to write."""
        loop = task.get_loop()
        self._writing[task] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self.longest, self._look, loop)

    def end(self, task: asyncio.Task[Any]) -> bool:
        """The task writes no more; whether that is because it took too long."""
        self._writing.pop(task, None)
        if task not in self._stalled:
            return False
        self._stalled.discard(task)
        return True

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give up on what is too old, and come back when the next one would be."""
        self._timer = None
        for task, since in list(self._writing.items()):
            left = since + self.longest - loop.time()
            if left > 0:
                self._timer = loop.call_later(left, self._look, loop)
                break
            del self._writing[task]
            self._stalled.add(task)
            task.cancel()
