"""Two sources of scopes as one registry: what one lists says nothing of the other's scopes."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from aggregator.model.errors import Problem
from aggregator.model.registry import Item, OnSecrets, RegistrySink, ShardKey


class Part:
    """A sink for one source, whose scopes are below *prefix*; a prefix ends in a slash.

    *waiting*, which all parts share, holds the prefixes of those without a first listing.
    """

    def __init__(
        self,
        sink: RegistrySink,
        prefix: str,
        others: Collection[str],
        waiting: set[str],
    ) -> None:
        self._sink: Final = sink
        self._prefix: Final = prefix
        self._others: Final = others
        self._waiting: Final = waiting

    def replace(
        self,
        shard: ShardKey,
        items: Mapping[str, Item],
        *,
        revision: str = "",
        explicit: bool = False,
    ) -> None:
        """Install a full listing of one of the source's shards."""
        self._sink.replace(self._own(shard), items, revision=revision, explicit=explicit)

    def update(
        self, shard: ShardKey, key: str, item: Item | None, *, expired: bool = False
    ) -> None:
        """Install or delete one item."""
        self._sink.update(self._own(shard), key, item, expired=expired)

    def drop(self, shard: ShardKey) -> None:
        """Delete a shard."""
        self._sink.drop(self._own(shard))

    def retain(self, scopes: Collection[str]) -> None:
        """Install a full listing of the source's scopes; the other sources' stay."""
        self._sink.retain({*(self._prefix + scope for scope in scopes), *self._others})

    def report(self, scope: str, problems: Sequence[Problem]) -> None:
        """Install a scope's problems."""
        self._sink.report(self._prefix + scope, problems)

    def follow_secrets(self, registry: str, on_secrets: OnSecrets) -> None:
        """Follow another registry's secrets."""
        self._sink.follow_secrets(registry, on_secrets)

    def synced(self) -> None:
        """The source's first listing is in; that of the registry, once all sources' are."""
        self._waiting.discard(self._prefix)
        if not self._waiting:
            self._sink.synced()

    def _own(self, shard: ShardKey) -> ShardKey:
        return replace(shard, scope=self._prefix + shard.scope)
