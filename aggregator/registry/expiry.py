"""What ran out by itself in one registry: what waits to be believed, what was believed lately."""

from collections.abc import Iterable

from msgspec import Struct

from aggregator.model.registry import Item, ShardKey

Place = tuple[ShardKey, str]
"""A shard and the adapter's own key in it."""


class Expiry(Struct, frozen=True):
    """An item that ran out: what it was, what took its place, how many endpoints that took."""

    at: float
    old: Item
    new: Item | None
    lost: int


class Expiries:
    """Held expiries by place, and those of the last seconds, which may have to be taken back."""

    def __init__(self) -> None:
        self.held: dict[Place, Item | None] = {}
        self.loss = 0
        self._losses: dict[Place, int] = {}
        self._recent: dict[Place, Expiry] = {}

    def hold(self, place: Place, item: Item | None, loss: int) -> None:
        """Remember the latest word on a place, which would take *loss* endpoints."""
        self.loss += loss - self._losses.get(place, 0)
        self._losses[place] = loss
        self.held[place] = item

    def forget(self, places: Iterable[Place]) -> None:
        """There is a newer word on these."""
        for place in places:
            self._recent.pop(place, None)
            if place in self.held:
                del self.held[place]
                self.loss -= self._losses.pop(place)

    def forget_shard(self, shard: ShardKey) -> None:
        """There is a newer word on the whole shard."""
        self.forget([place for place in (*self.held, *self._recent) if place[0] == shard])

    def release(self) -> dict[Place, Item | None]:
        """What was held, which is believed now."""
        held, self.held = self.held, {}
        self._losses.clear()
        self.loss = 0
        return held

    def believed(self, place: Place, expiry: Expiry, within: float) -> None:
        """Remember for *within* seconds that this took effect."""
        while self._recent:
            oldest = next(iter(self._recent))
            if expiry.at - self._recent[oldest].at < within:
                break
            del self._recent[oldest]
        known = self._recent.pop(place, None)
        if known is not None:
            lost = known.lost + expiry.lost
            expiry = Expiry(expiry.at, known.old, expiry.new, lost)
        self._recent[place] = expiry

    def take_back(self, now: float, within: float) -> dict[Place, Expiry]:
        """What was believed within the last seconds; forgotten here."""
        recent, self._recent = self._recent, {}
        return {place: each for place, each in recent.items() if now - each.at < within}

    def clear(self) -> None:
        """All of it is out of date."""
        self.release()
        self._recent.clear()
