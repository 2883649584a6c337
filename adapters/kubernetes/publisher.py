"""Hands items to the sink and knows what was handed, so that only differences go."""

from collections.abc import Iterable, Mapping
from typing import Final

from aggregator.model.registry import Content, Item, RegistrySink, ShardKey


class Publisher:
    """The shards of one run of the adapter. A scope is a plural name and a namespace."""

    def __init__(self, sink: RegistrySink, registry: str) -> None:
        self._sink: Final = sink
        self._registry: Final = registry
        self._items: Final[dict[ShardKey, dict[str, Item]]] = {}

    def put(
        self, plural: str, namespace: str, content: Content, key: str, item: Item | None
    ) -> None:
        """One item; None says that it was deleted."""
        shard = self._shard(plural, namespace, content)
        known = self._items.get(shard, {})
        if item == known.get(key):
            return
        if item is None:
            del known[key]
        else:
            self._items.setdefault(shard, known)[key] = item
        self._sink.update(shard, key, item)

    def replace(
        self, plural: str, namespace: str, content: Content, items: Mapping[str, Item]
    ) -> None:
        """A full listing; the first one is told even if it is empty."""
        shard = self._shard(plural, namespace, content)
        if self._items.get(shard) != items:
            self._items[shard] = dict(items)
            self._sink.replace(shard, items)

    def known(self, plural: str, namespace: str, content: Content, key: str) -> Item | None:
        """What was told of an item last."""
        return self._items.get(self._shard(plural, namespace, content), {}).get(key)

    def keys(self, plural: str, namespace: str, content: Content) -> tuple[str, ...]:
        """What was told of a shard."""
        return tuple(self._items.get(self._shard(plural, namespace, content), ()))

    def namespaces(self, plural: str) -> set[str]:
        """The namespaces of which something was told."""
        return {shard.scope.partition("/")[2] for shard in self._below(plural)}

    def drop(self, plural: str) -> None:
        """The server does not have the kind any more."""
        for shard in list(self._below(plural)):
            del self._items[shard]
            self._sink.drop(shard)

    def _below(self, plural: str) -> Iterable[ShardKey]:
        return (shard for shard in self._items if shard.scope.partition("/")[0] == plural)

    def _shard(self, plural: str, namespace: str, content: Content) -> ShardKey:
        return ShardKey(self._registry, f"{plural}/{namespace}", content)
