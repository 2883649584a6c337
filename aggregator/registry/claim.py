"""Which service has a host that several of one registry would get by its template.

The oldest keeps it, or the first by name where ages are unknown: never whoever came first, so that
the outcome depends on content alone.
"""

from collections.abc import Iterable

from aggregator.model.registry import ServiceItem, ShardKey

Place = tuple[ShardKey, str, str]
"""Shard, namespace, and the host that is claimed."""


class Claims:
    """Claimed places, each with the claiming items by their own host."""

    def __init__(self) -> None:
        self._claims: dict[Place, dict[str, dict[str, float]]] = {}

    def claim(self, place: Place, item: ServiceItem, key: str, *, present: bool) -> Iterable[str]:
        """Begin or end a claim; the keys of items of whom another one now has the place."""
        before = self.holder(place)
        claims = self._claims.setdefault(place, {})
        if present:
            created = item.service.created if item.service is not None else 0.0
            claims.setdefault(item.host, {})[key] = created or float("inf")
        elif item.host in claims:
            claims[item.host].pop(key, None)
            if not claims[item.host]:
                del claims[item.host]
        if not claims:
            del self._claims[place]
        after = self.holder(place)
        if before == after:
            return ()
        return [each for host in (before, after) for each in claims.get(host, ())]

    def holder(self, place: Place) -> str:
        """The own host of whoever has the place, "" if nobody claims it."""
        claims = self._claims.get(place)
        if not claims:
            return ""
        return min(claims, key=lambda host: (min(claims[host].values()), host))
