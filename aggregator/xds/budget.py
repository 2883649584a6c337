"""Bounds the bytes that are being written at once, because gRPC copies what it is given."""

import asyncio
from collections import deque
from typing import Final


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

    async def take(self, size: int) -> None:
        """Wait for *size* bytes of the budget; whoever has them gives them back."""
        size = min(size, self._limit)
        if not self._queue and self._used + size <= self._limit:
            self._used += size
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(size)
            raise

    def give_back(self, size: int) -> None:
        """The bytes were written, or never will be."""
        self._used -= min(size, self._limit)
        while self._queue:
            wanted, turn = self._queue[0]
            if turn.cancelled():
                self._queue.popleft()
            elif self._used + wanted <= self._limit:
                self._queue.popleft()
                self._used += wanted
                turn.set_result(None)
            else:
                break
