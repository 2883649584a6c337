"""Tells one registry's adapter the secrets that another registry gives. Knows no platform."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from aggregator.model.registry import Content, Item, OnSecrets, ShardKey
from aggregator.model.secret import Secret
from aggregator.registry.shard import Difference


class Follower:
    """Who wants to know the secrets of one registry, and what he was told last."""

    def __init__(self, alive: Callable[[], bool], on_secrets: OnSecrets) -> None:
        self.alive: Final = alive
        self._on_secrets: Final = on_secrets
        self._told: dict[str, Secret] | None = None

    def tell(
        self, shards: Mapping[ShardKey, Mapping[str, Item]], explicit: Iterable[Difference] = ()
    ) -> None:
        """Say what there is if it is something else than before.

        While no listing of secrets is there nothing is said: that none are known is no empty list.
        """
        listings = [items for shard, items in shards.items() if shard.content is Content.SECRETS]
        gone = {_key(each.old) for each in explicit if isinstance(each.old, Secret)}
        if not self.alive() or not (listings or gone):
            return
        secrets = {
            _key(item): item
            for items in listings
            for item in items.values()
            if isinstance(item, Secret)
        }
        if secrets != self._told:
            self._told = secrets
            self._on_secrets(secrets, gone - secrets.keys())


def _key(secret: Secret) -> str:
    return f"{secret.namespace}/{secret.name}"
