"""Bounds the bytes that are being written at once, because gRPC copies what it is given."""

import asyncio
from collections import deque
from typing import Final


class Share:
    """A part of the budget, until it is given back, which may be done more than once."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: "Budget", size: int) -> None:
        self._budget = budget
        self._size = size

    def give_back(self) -> None:
        """The bytes were written, or must not keep others waiting."""
        size, self._size = self._size, 0
        if size:
            self._budget.take_back(size)


class Budget:
    """First come, first served, in bytes. A message larger than the whole budget goes alone."""

    def __init__(self, limit: int) -> None:
        self._limit: Final = limit
        self._used = 0
        self._queue: Final[deque[tuple[int, asyncio.Future[None]]]] = deque()

    @property
    def used(self) -> int:
        """Bytes in flight."""
        return self._used

    async def take(self, size: int) -> Share:
        """Wait for *size* bytes of the budget."""
        size = min(size, self._limit)
        if not self._queue and self._used + size <= self._limit:
            self._used += size
            return Share(self, size)
        turn = asyncio.get_running_loop().create_future()
        self._queue.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            # Either it was given its share at the same moment, or those behind it may fit now.
            self.take_back(0 if turn.cancelled() else size)
            raise
        return Share(self, size)

    def take_back(self, size: int) -> None:
        """Shares call this; whose turn it is now goes on."""
        self._used -= size
        while self._queue:
            wanted, turn = self._queue[0]
            if not turn.cancelled():
                if self._used + wanted > self._limit:
                    break
                self._used += wanted
                turn.set_result(None)
            self._queue.popleft()
