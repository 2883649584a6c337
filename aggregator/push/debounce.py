"""When to push: at once for a lone change, in bundles while changes pour in. Takes times, does no
I/O.
"""

from typing import Final


class Debounce:
    """Paces pushes by what they cost.

    After a push that kept the process busy for t seconds the next one waits t seconds more, so that
    pushing takes at most about half of the time and what arrives meanwhile is taken along; never
    longer than `longest` after the first waiting change.
    """

    def __init__(self, longest: float) -> None:
        self.longest: Final = longest
        self._first: float | None = None
        self._free_at = 0.0

    @property
    def waiting(self) -> bool:
        """Whether a change waits to be pushed."""
        return self._first is not None

    def since(self, now: float) -> float:
        """When the first waiting change came in; *now* if none waits."""
        return now if self._first is None else self._first

    def changed(self, now: float) -> None:
        """Something changed."""
        if self._first is None:
            self._first = now

    def due(self) -> float | None:
        """When the next push may start; None while nothing waits."""
        if self._first is None:
            return None
        return min(max(self._first, self._free_at), self._first + self.longest)

    def pushed(self, started: float, ended: float) -> float:
        """A push that took what waited is over; returns how long its first change had waited, in
        seconds.
        """
        waited = started - self._first if self._first is not None else 0.0
        self._first = None
        self._free_at = ended + (ended - started)
        return waited
