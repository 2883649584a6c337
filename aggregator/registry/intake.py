"""Takes in what one registry says, and doubts losses that nobody ordered.

Every call returns what that changes at once. Knows nothing of merging, of runs or of I/O; other
registries only by the weight that they have in a listing that announces them.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from structlog.typing import FilteringBoundLogger

from aggregator.model.registry import Item, ServiceItem, ShardKey
from aggregator.model.service import ServiceKey
from aggregator.registry.expiry import Expiries, Expiry
from aggregator.registry.grace import Grace
from aggregator.registry.guard import LossGuard
from aggregator.registry.shard import Difference, Generation

SCOPES: Final = "scopes"
EXPIRIES: Final = "expiries"

Weigh = Callable[[Iterable[Item]], int]
"""How many endpoints go with items, those of announced registries included."""

Owned = Callable[[ServiceKey], int]
"""How many endpoints a service has that only this registry defines; 0 if others do too."""


class Intake:
    """The generation that is served, with what waits to be believed beside it."""

    def __init__(
        self,
        live: Generation,
        deletion_grace: float,
        guard: LossGuard,
        *,
        clock: Callable[[], float],
        weigh: Weigh,
        owned: Owned,
        log: FilteringBoundLogger,
    ) -> None:
        self.live = live
        self.absent: set[str] = set()
        self.grace: Final = Grace(deletion_grace)
        self._pending: dict[ShardKey, Mapping[str, Item]] = {}
        self._expiries: Final = Expiries()
        self._guard: Final = guard
        self._clock: Final = clock
        self._weigh: Final = weigh
        self._owned: Final = owned
        self._log: Final = log

    @property
    def name(self) -> str:
        """The registry's name."""
        return self.live.registry

    def take_listing(
        self, shard: ShardKey, items: Mapping[str, Item], *, explicit: bool
    ) -> list[Difference]:
        """A shard's full listing, which brings its scope back if that was gone."""
        if shard.scope in self.absent:
            self.absent.discard(shard.scope)
            if not self.absent:
                self._guard.release(self.name, SCOPES)
        if not explicit:
            listed = list(self.live.mapped(shard, items))
            known = self.live.shards.get(shard, {}).values()
            old = self._weigh(known) + self._bereft(known, listed)
            new = self._weigh(listed)
            before = self.weight()
            if new < old and not self.admits(str(shard), before, before - old + new):
                self._pending[shard] = items
                return self._install_gains(shard, items)
        return self._install(shard, items, explicit=explicit)

    def take_item(
        self, shard: ShardKey, key: str, item: Item | None, *, expired: bool
    ) -> list[Difference]:
        """One item, explicitly unless it expired."""
        if shard.scope in self.absent:
            # One item does not bring back the others of a scope that is held to be gone.
            self._pending.setdefault(shard, {})
        if shard in self._pending:
            others = {name: each for name, each in self._pending[shard].items() if name != key}
            self._pending[shard] = others if item is None else others | {key: item}
        if item is not None or not expired:
            self.grace.forget(shard, (key,))
        lost = self.live.weight_at(shard, key) - self.live.weigh(item)
        if expired and (lost > 0 or item is None):
            return self._take_expiry(shard, key, item, lost)
        differences = self.live.put(shard, key, item)
        self._expiries.forget([(shard, key)])
        return differences + self._judge_expiries()

    def take_drop(self, shard: ShardKey) -> list[Difference]:
        """A whole scope's content, explicitly deleted."""
        self._outdate(shard)
        self.grace.forget(shard)
        return self.live.drop([shard]) + self._judge_expiries()

    def take_scopes(self, gone: Collection[ShardKey]) -> list[Difference]:
        """A full listing of scopes, in which these are missing."""
        before = self.weight()
        after = before - sum(self._weigh(self.live.shards[shard].values()) for shard in gone)
        self.absent = {shard.scope for shard in gone}
        for shard in gone:
            self._outdate(shard)
        if gone and not self.admits(SCOPES, before, after):
            return []
        self._guard.release(self.name, SCOPES)
        return self._drop_absent()

    def believe(self, listing: str) -> list[Difference]:
        """Let through what the guard has held for long enough."""
        self._guard.release(self.name, listing)
        if listing == SCOPES:
            return self._drop_absent()
        if listing == EXPIRIES:
            return self._believe_expiries()
        return [
            each
            for shard in [shard for shard in self._pending if str(shard) == listing]
            for each in self._install(shard, self._pending[shard], explicit=False)
        ]

    def end_grace(self) -> list[Difference]:
        """Remove services that have lingered for long enough."""
        differences: list[Difference] = []
        for shard, key in self.grace.due(self._clock()):
            self.grace.forget(shard, (key,))
            differences += self.live.put(shard, key, None)
        return differences

    def weight(self) -> int:
        """All endpoints that the registry gives, with those of registries that it announces."""
        announced = (self.live.shards[shard].values() for shard in self.live.announcing)
        return self.live.weight + sum(self._weigh(items) for items in announced)

    # Listings

    def admits(self, listing: str, before: int, after: int, *, confirms: bool = True) -> bool:
        """Whether the guard believes that *after* of *before* endpoints are left."""
        first = listing not in self._guard.held(self.name)
        admitted = self._guard.admits(
            self.name, listing, before, after, self._clock(), confirms=confirms
        )
        if not admitted and first:
            self._log.error(
                "loss_held", adapter=self.name, listing=listing, before=before, after=after
            )
        return admitted

    def _bereft(self, known: Iterable[Item], listed: Iterable[Item]) -> int:
        """Endpoints in other listings of the registry that go with the definitions of their
        services, which this listing lacks.
        """
        kept = {
            ServiceKey(item.namespace, item.host)
            for item in listed
            if isinstance(item, ServiceItem) and item.service is not None
        }
        total = 0
        for item in known:
            if isinstance(item, ServiceItem) and item.service is not None:
                key = ServiceKey(item.namespace, item.host)
                if key not in kept:
                    total += max(0, self._owned(key) - len(item.endpoints))
        return total

    def _install(
        self, shard: ShardKey, items: Mapping[str, Item], *, explicit: bool
    ) -> list[Difference]:
        """Have a full listing take effect; what it lacks lingers, unless it lacks it on purpose."""
        self._outdate(shard)
        self.grace.forget(shard, None if explicit else items)
        remains = {} if explicit else self._remains(shard, items)
        differences = self.live.replace(shard, {**remains, **items} if remains else items)
        return differences + self._judge_expiries()

    def _install_gains(self, shard: ShardKey, items: Mapping[str, Item]) -> list[Difference]:
        """Take of a listing that is held what takes nothing away."""
        gains = {
            key: item
            for key, item in items.items()
            if self.live.weigh(item) >= self.live.weight_at(shard, key)
        }
        self.grace.forget(shard, gains)
        self._expiries.forget([(shard, key) for key in gains])
        differences = [each for key in gains for each in self.live.put(shard, key, gains[key])]
        return differences + self._judge_expiries()

    def _drop_absent(self) -> list[Difference]:
        """Let go of scopes that are gone; what they define lingers."""
        gone = [shard for shard in self.live.shards if shard.scope in self.absent]
        self.absent = set()
        differences: list[Difference] = []
        for shard in gone:
            updated = self._pending.get(shard, {})
            self._outdate(shard)
            left = {**self._remains(shard, updated), **updated}
            if left:
                differences += self.live.replace(shard, left)
            else:
                differences += self.live.drop([shard])
        return differences + self._judge_expiries()

    def _outdate(self, shard: ShardKey) -> None:
        """There is a newer word on the whole shard than what is held of it."""
        self._guard.release(self.name, str(shard))
        self._pending.pop(shard, None)
        self._expiries.forget_shard(shard)

    def _remains(self, shard: ShardKey, items: Mapping[str, Item]) -> dict[str, Item]:
        """What is left for a while of those that a listing lacks."""
        now = self._clock()
        absent = ((key, old) for key, old in self.live.said(shard).items() if key not in items)
        left = {key: self.grace.remains(shard, key, old, now) for key, old in absent}
        return {key: item for key, item in left.items() if item is not None}

    # Expiry

    def _take_expiry(
        self, shard: ShardKey, key: str, item: Item | None, lost: int
    ) -> list[Difference]:
        """Believe that an item ran out, unless that befalls many.

        The guard sees one after the other. Once they are too many, those that were believed before
        have probably the same cause, and are taken back.
        """
        first = EXPIRIES not in self._guard.held(self.name)
        self._expiries.hold((shard, key), item, lost)
        differences = self._judge_expiries()
        if first and EXPIRIES in self._guard.held(self.name):
            differences += self._take_back()
        return differences

    def _judge_expiries(self) -> list[Difference]:
        if not self._expiries.held:
            self._guard.release(self.name, EXPIRIES)
            return []
        before = self.weight()
        after = before - self._expiries.loss
        if self.admits(EXPIRIES, before, after, confirms=False):
            return self._believe_expiries()
        return []

    def _believe_expiries(self) -> list[Difference]:
        now = self._clock()
        within = self._guard.hold_of(self.name)
        differences: list[Difference] = []
        for (shard, key), item in self._expiries.release().items():
            old = self.live.told(shard, key)
            if old is None:
                continue
            new = item if item is not None else self.grace.remains(shard, key, old, now)
            weight = self.live.weight_at(shard, key)
            differences += self.live.put(shard, key, new)
            lost = weight - self.live.weight_at(shard, key)
            self._expiries.believed((shard, key), Expiry(now, old, new, lost), within)
        self._guard.release(self.name, EXPIRIES)
        return differences

    def _take_back(self) -> list[Difference]:
        now = self._clock()
        differences: list[Difference] = []
        given_back = 0
        expiries = self._expiries
        for place, each in expiries.take_back(now, self._guard.hold_of(self.name)).items():
            shard, key = place
            differences += self.live.put(shard, key, each.old)
            self.grace.forget(shard, (key,))
            latest = expiries.held.get(place, each.new)
            expiries.hold(place, latest, self.live.weigh(each.old) - self.live.weigh(latest))
            given_back += each.lost
        self._guard.amend(self.name, EXPIRIES, given_back, now)
        return differences
