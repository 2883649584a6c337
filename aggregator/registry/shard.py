"""One generation of what a registry said: its shards, item by item, with their counts.

Turns listings into differences. Knows nothing of other registries, nor of what items mean together.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from aggregator.model.config import Config
from aggregator.model.errors import Origin, Problem
from aggregator.model.registry import Content, Item, ServiceItem, ShardKey
from aggregator.model.service import Health, Workload
from aggregator.registry.claim import Claims
from aggregator.registry.mapping import Mapper

T = TypeVar("T")


class Difference(Struct, frozen=True):
    """One item of one shard before and after; None is absence."""

    shard: ShardKey
    key: str
    old: Item | None
    new: Item | None


class Counts(Struct):
    """How much a registry holds."""

    services: int = 0
    endpoints: int = 0
    configs: int = 0
    workloads: int = 0

    def add(self, item: Item, sign: int) -> None:
        """Count an item in (1) or out (-1)."""
        match item:
            case ServiceItem():
                self.services += sign * (item.service is not None)
                self.endpoints += sign * len(item.endpoints)
            case Workload():
                self.workloads += sign
            case Config():
                self.configs += sign
            case _:
                pass


def weight_of(item: Item) -> int:
    """How many endpoints go with an item, as the loss guard counts: those that get traffic, because
    checks that fail everywhere at once are as suspect as a listing that lacks everything.
    """
    match item:
        case ServiceItem():
            return sum(each.health is Health.READY for each in item.endpoints)
        case Workload():
            return 1
        case Config(kind="WorkloadEntry"):
            return 1
        case Config(kind="ServiceEntry"):
            return len(item.spec.endpoints)
        case _:
            return 0


class Generation:
    """The shards that one set of settings has filled; a replacement fills a new one.

    `shards` is what is served, as the mapping rules make it. What was said is kept beside it where
    that differs, so that other rules can be applied without asking the registry again. `version`
    grows with every change of what was said.
    """

    def __init__(self, registry: str, mapper: Mapper | None = None) -> None:
        self.registry = registry
        self.mapper = mapper or Mapper()
        self.shards: dict[ShardKey, dict[str, Item]] = {}
        self.refused: dict[ShardKey, dict[str, str]] = {}
        self.problems: dict[str, tuple[Problem, ...]] = {}
        self.mentioned: set[str] = set()
        self.counts = Counts()
        self.weight = 0
        self.announcing: set[ShardKey] = set()
        self.revision = ""
        self.version = 0
        self._originals: dict[ShardKey, dict[str, Item]] = {}
        self._claims = Claims()

    def said(self, shard: ShardKey) -> Mapping[str, Item]:
        """The shard's items as the registry told them."""
        originals = self._originals.get(shard)
        served = self.shards.get(shard, {})
        return {**served, **originals} if originals else served

    def told(self, shard: ShardKey, key: str) -> Item | None:
        """One item as the registry told it."""
        original = self._originals.get(shard, {}).get(key)
        return original if original is not None else self.shards.get(shard, {}).get(key)

    def weight_at(self, shard: ShardKey, key: str) -> int:
        """How many endpoints go with the item of that key now."""
        item = self.shards.get(shard, {}).get(key)
        return weight_of(item) if item is not None else 0

    def mapped(self, shard: ShardKey, items: Mapping[str, Item]) -> Iterator[Item]:
        """What the rules leave of a listing, claims on hosts aside."""
        served = self.shards.get(shard, {})
        for key, item in items.items():
            known = self.told(shard, key)
            mapped = served.get(key) if known == item else self._attempt(item)
            if mapped is not None:
                yield mapped

    def weigh(self, item: Item | None) -> int:
        """How many endpoints would go with an item, once it is mapped."""
        mapped = self._attempt(item)
        return weight_of(mapped) if mapped is not None else 0

    def replace(self, shard: ShardKey, items: Mapping[str, Item]) -> list[Difference]:
        """Install a full listing."""
        gone = [key for key in self.said(shard) if key not in items]
        differences = [each for key in gone for each in self.put(shard, key, None)]
        for key, item in items.items():
            differences += self.put(shard, key, item)
        # A shard that was listed empty is known too: its scope is there.
        self.shards.setdefault(shard, {})
        if shard.content is Content.REGISTRIES:
            self.announcing.add(shard)
        return differences

    def put(self, shard: ShardKey, key: str, item: Item | None) -> list[Difference]:
        """Install or remove one item; nothing if it is there already."""
        if item is not None:
            item = stamp(item, self.registry)
        if self.mapper.idle and not self._originals:
            return self._serve(shard, key, item)
        if item == self.told(shard, key):
            return []
        return self._put_anew(shard, key, item)

    @property
    def excluded(self) -> int:
        """How many items the mapping rules leave out on purpose."""
        unserved = sum(
            key not in self.shards.get(shard, {})
            for shard, originals in self._originals.items()
            for key in originals
        )
        return unserved - sum(len(reasons) for reasons in self.refused.values())

    def all_problems(self) -> dict[str, tuple[Problem, ...]]:
        """By scope, what was reported, and what the mapping rules could not use."""
        if not self.refused:
            return self.problems
        found = {scope: list(problems) for scope, problems in self.problems.items()}
        for shard, reasons in self.refused.items():
            for key, reason in reasons.items():
                problem = _refusal(self.told(shard, key), reason)
                found.setdefault(shard.scope, []).append(problem)
        return {scope: tuple(problems) for scope, problems in found.items()}

    def remap(self, mapper: Mapper) -> list[Difference]:
        """Apply other rules to all that was said."""
        self.mapper = mapper
        self._claims = Claims()
        shards = dict.fromkeys((*self.shards, *self._originals))
        said = [(shard, key, item) for shard in shards for key, item in self.said(shard).items()]
        return [each for place in said for each in self._put_anew(*place)]

    def _put_anew(self, shard: ShardKey, key: str, item: Item | None) -> list[Difference]:
        """Map an item, whether that was done before or not."""
        if self.mapper.renames_hosts:
            return self._put_claimed(shard, key, item)
        return self._put_mapped(shard, key, item)

    def _put_claimed(self, shard: ShardKey, key: str, item: Item | None) -> list[Difference]:
        """Map an item whose new host another one may want, or have had so far."""
        old = self.told(shard, key)
        affected = dict.fromkeys([key])
        for each, present in ((old, False), (item, True)):
            host = self._new_host(each)
            if isinstance(each, ServiceItem) and host:
                place = (shard, each.namespace, host)
                affected |= dict.fromkeys(self._claims.claim(place, each, key, present=present))
        return [
            difference
            for other in affected
            for difference in self._put_mapped(
                shard, other, item if other == key else self.told(shard, other)
            )
        ]

    def _put_mapped(self, shard: ShardKey, key: str, item: Item | None) -> list[Difference]:
        served, reason = self._map(shard, item)
        self.version += 1
        _keep(self._originals, shard, key, item if served is not item else None)
        _keep(self.refused, shard, key, reason or None)
        return self._serve(shard, key, served)

    def _map(self, shard: ShardKey, item: Item | None) -> tuple[Item | None, str]:
        """What is served of an item, or why nothing is although the rules take it."""
        if item is None:
            return None, ""
        try:
            served = self.mapper.apply(item)
        except ValueError as error:
            return None, str(error)
        if self.mapper.renames_hosts and isinstance(item, ServiceItem) and served is not None:
            place = (shard, item.namespace, self._new_host(item))
            holder = self._claims.holder(place)
            if holder != item.host:
                return None, f"{item.host!r} would be {place[2]!r}, which {holder!r} is already"
        return served, ""

    def _new_host(self, item: Item | None) -> str:
        mapped = self._attempt(item)
        return mapped.host if isinstance(mapped, ServiceItem) else ""

    def _attempt(self, item: Item | None) -> Item | None:
        """What the rules make of an item; None, too, if that cannot be."""
        if item is None or self.mapper.idle:
            return item
        try:
            return self.mapper.apply(item)
        except ValueError:
            return None

    def _serve(self, shard: ShardKey, key: str, item: Item | None) -> list[Difference]:
        items = self.shards.get(shard)
        old = items.get(key) if items else None
        if old == item:
            return []
        self.version += 1
        if old is not None:
            self.counts.add(old, -1)
            self.weight -= weight_of(old)
        if item is None:
            if items:
                del items[key]
        else:
            self.counts.add(item, 1)
            self.weight += weight_of(item)
            self.shards.setdefault(shard, {})[key] = item
            if shard.content is Content.REGISTRIES:
                self.announcing.add(shard)
        return [Difference(shard, key, old, item)]

    def drop(self, shards: Iterable[ShardKey]) -> list[Difference]:
        """Remove shards with all their items."""
        differences = []
        for shard in shards:
            differences += self.replace(shard, {})
            self.shards.pop(shard, None)
            self.announcing.discard(shard)
        return differences

    def differences_to(self, new: "Generation") -> Iterator[Difference]:
        """All that changes if *new* takes this one's place."""
        for shard in {**self.shards, **new.shards}:
            before, after = self.shards.get(shard, {}), new.shards.get(shard, {})
            for key in {**before, **after}:
                old, item = before.get(key), after.get(key)
                if old != item:
                    yield Difference(shard, key, old, item)


def _keep(of: dict[ShardKey, dict[str, T]], shard: ShardKey, key: str, value: T | None) -> None:
    if value is not None:
        of.setdefault(shard, {})[key] = value
    elif shard in of and of[shard].pop(key, None) is not None and not of[shard]:
        del of[shard]


def _refusal(item: Item | None, reason: str) -> Problem:
    if not isinstance(item, ServiceItem):
        return Problem(Origin(), "", reason)
    origin = item.service.origin if item.service is not None else Origin()
    return Problem(origin, "", reason, subject=f"service {item.namespace}/{item.host}")


def stamp(item: Item, registry: str) -> Item:
    """Write the registry's name on endpoints that do not tell where they come from."""
    match item:
        case ServiceItem(endpoints=endpoints) if any(not each.registry for each in endpoints):
            return replace(
                item,
                endpoints=tuple(
                    each if each.registry else replace(each, registry=registry)
                    for each in endpoints
                ),
            )
        case Workload(endpoint=endpoint) if not endpoint.registry:
            return replace(item, endpoint=replace(endpoint, registry=registry))
        case _:
            return item
