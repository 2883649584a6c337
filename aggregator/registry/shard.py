"""One generation of what a registry said: its shards, item by item, with their counts.

Turns listings into differences. Knows nothing of other registries, nor of what items mean together.
"""

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from aggregator.model.config import Config
from aggregator.model.errors import Problem
from aggregator.model.registry import Content, Item, ServiceItem, ShardKey
from aggregator.model.service import Workload


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
    """How many endpoints go with an item, as the loss guard counts."""
    match item:
        case ServiceItem():
            return len(item.endpoints)
        case Workload():
            return 1
        case Config(kind="WorkloadEntry"):
            return 1
        case Config(kind="ServiceEntry"):
            return len(item.spec.endpoints)
        case _:
            return 0


class Generation:
    """The shards that one set of settings has filled; a replacement fills a new one."""

    def __init__(self, registry: str) -> None:
        self.registry = registry
        self.shards: dict[ShardKey, dict[str, Item]] = {}
        self.problems: dict[str, tuple[Problem, ...]] = {}
        self.mentioned: set[str] = set()
        self.counts = Counts()
        self.weight = 0
        self.announcing: set[ShardKey] = set()
        self.revision = ""

    def said(self, shard: ShardKey) -> Mapping[str, Item]:
        """The shard's items."""
        return self.shards.get(shard, {})

    def weight_at(self, shard: ShardKey, key: str) -> int:
        """How many endpoints go with the item of that key now."""
        item = self.said(shard).get(key)
        return weight_of(item) if item is not None else 0

    def replace(self, shard: ShardKey, items: Mapping[str, Item]) -> list[Difference]:
        """Install a full listing."""
        old = self.shards.get(shard, {})
        gone = [key for key in old if key not in items]
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
        items = self.shards.get(shard)
        old = items.get(key) if items else None
        if item is not None:
            item = stamp(item, self.registry)
        if old == item:
            return []
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
