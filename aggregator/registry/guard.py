"""Judges full listings: a registry that suddenly lists far less is not believed at once.

Sees counts and a clock only. Explicit deletions never come here.
"""

from collections import defaultdict, deque

from msgspec import Struct


class Hold(Struct):
    """A listing that waits: how many endpoints there were, how many it would leave, since when."""

    before: int
    after: int
    since: float


class LossGuard:
    """Holds a listing that would take more than `share` of a registry's endpoints.

    Registries of at most `floor` endpoints are never held. What is held is let through by a similar
    listing at least `confirm` seconds later, or after `hold` seconds. Losses that were let through
    within the last `hold` seconds count too, so that a registry cannot fade away scope by scope.
    """

    def __init__(
        self,
        share: float = 0.5,
        floor: int = 20,
        *,
        hold: float = 60.0,
        confirm: float = 5.0,
    ) -> None:
        self._share = share
        self._floor = floor
        self._hold = hold
        self._confirm = confirm
        self._holds: dict[tuple[str, str], Hold] = {}
        self._losses: defaultdict[str, deque[tuple[float, int]]] = defaultdict(deque)

    def admits(self, registry: str, listing: str, before: int, after: int, now: float) -> bool:
        """Whether *listing*, which leaves *after* of *before* endpoints, takes effect now."""
        losses = self._losses[registry]
        while losses and now - losses[0][0] >= self._hold:
            losses.popleft()
        total = before + sum(lost for _, lost in losses)
        suspect = after < before and total > self._floor and total - after > self._share * total
        if suspect and not self._confirmed(registry, listing, before, after, now):
            return False
        self._holds.pop((registry, listing), None)
        if after < before and not suspect:
            losses.append((now, before - after))
        return True

    def _confirmed(self, registry: str, listing: str, before: int, after: int, now: float) -> bool:
        hold = self._holds.get((registry, listing))
        if hold is None:
            self._holds[registry, listing] = Hold(before, after, now)
            return False
        waited = now - hold.since
        similar = abs(after - hold.after) * 10 <= hold.before
        if waited >= self._hold or (similar and waited >= self._confirm):
            self._losses.pop(registry, None)
            return True
        hold.after = after
        return False

    def due(self, now: float) -> list[tuple[str, str]]:
        """The (registry, listing) pairs that have been held for long enough."""
        return [key for key, held in self._holds.items() if now - held.since >= self._hold]

    def held(self, registry: str) -> dict[str, Hold]:
        """What waits, by listing."""
        return {listing: hold for (name, listing), hold in self._holds.items() if name == registry}

    def release(self, registry: str, listing: str) -> None:
        """The listing took effect or is out of date."""
        self._holds.pop((registry, listing), None)

    def forget(self, registry: str) -> None:
        """The registry is gone."""
        self._losses.pop(registry, None)
        for key in [key for key in self._holds if key[0] == registry]:
            del self._holds[key]
