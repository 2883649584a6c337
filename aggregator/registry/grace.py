"""Services that a listing lacked: they stay for a while without endpoints before they are gone.

So a registry that says "deleted" by leaving out does not take routes and clusters away at once.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from aggregator.model.registry import Item, ServiceItem, ShardKey


class Grace:
    """Since when each absent service has been lingering. *seconds* may change at any time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self._since: dict[ShardKey, dict[str, float]] = {}

    def remains(self, shard: ShardKey, key: str, item: Item, now: float) -> Item | None:
        """What is left of an item that is absent; None if nothing is, or not any more.

        Only what defines a service lingers: endpoints, workloads and rules just go.
        """
        if self.seconds <= 0 or not isinstance(item, ServiceItem) or item.service is None:
            return None
        since = self._since.setdefault(shard, {}).setdefault(key, now)
        if now - since >= self.seconds:
            self.forget(shard, (key,))
            return None
        return replace(item, endpoints=()) if item.endpoints else item

    def forget(self, shard: ShardKey, keys: Iterable[str] | None = None) -> None:
        """These are there again, or were deleted explicitly; without *keys*, the whole shard."""
        lingering = self._since.get(shard)
        if lingering is None:
            return
        for key in list(lingering) if keys is None else keys:
            lingering.pop(key, None)
        if not lingering:
            del self._since[shard]

    def due(self, now: float) -> list[tuple[ShardKey, str]]:
        """What has lingered long enough."""
        return [
            (shard, key)
            for shard, lingering in self._since.items()
            for key, since in lingering.items()
            if now - since >= self.seconds
        ]

    def __len__(self) -> int:
        """How many services linger."""
        return sum(len(lingering) for lingering in self._since.values())
