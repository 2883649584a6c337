"""Keeps the event loop responsive: work in many pieces, for however many clients, takes it for a
few milliseconds at a time.
"""

import asyncio
from collections.abc import Callable
from typing import Final

TURN_SECONDS: Final = 0.01
"""How long all pieces together may hold the event loop before others have their turn."""


class Turn:
    """Shared by all who have much to do. Who comes when the present round of the event loop is
    spent goes on in the next one, in the order of coming.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock: Final = clock
        self._until: float | None = None

    async def breathe(self) -> None:
        """Call it between two pieces of work."""
        while self._is_spent():  # noqa: ASYNC110 - every round of the loop is what is waited for
            await asyncio.sleep(0)

    def _is_spent(self) -> bool:
        now = self._clock()
        if self._until is None:
            # The first in this round; the loop runs what is said now in the next one, before those
            # who come after us.
            self._until = now + TURN_SECONDS
            asyncio.get_running_loop().call_soon(self._end)
        return now > self._until

    def _end(self) -> None:
        self._until = None
