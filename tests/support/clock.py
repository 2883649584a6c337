"""Time that passes only when a test says so."""

import asyncio
import heapq
from itertools import count


class FakeClock:
    """A clock and its sleep. `advance` wakes sleepers in order and lets the loop run after each."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = count()

    def __call__(self) -> float:
        """The present time."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Wait until the test has advanced that far."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._order), waiter))
        await waiter

    async def advance(self, seconds: float) -> None:
        """Let *seconds* pass."""
        end = self.now + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            self.now, _, waiter = heapq.heappop(self._sleepers)
            if not waiter.done():
                waiter.set_result(None)
            await settle()
        self.now = end
        await settle()


async def settle(rounds: int = 10) -> None:
    """Let everything run that can."""
    for _ in range(rounds):
        await asyncio.sleep(0)
