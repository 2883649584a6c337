"""Feeds the mesh with what keys hold, each as a whole, and remembers what was fed."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from msgspec import Struct

from adapters.etcd.decode import Read, content_of
from aggregator.model.errors import Problem
from aggregator.model.registry import RegistrySink, ShardKey


class _Known(Struct, frozen=True):
    digest: bytes
    lease: int
    name: str


class Ledger:
    """What one run of the adapter has told, over all connections that it had.

    Each key is a scope of its own, so that a bad one keeps what it said last, also if that was said
    by an earlier run.
    """

    def __init__(self, sink: RegistrySink, registry: str) -> None:
        self._sink: Final = sink
        self._registry: Final = registry
        self._known: dict[str, _Known] = {}
        self._remarked: set[str] = set()
        self._synced = False

    def has(self, scope: str, digest: bytes) -> bool:
        """Whether this was told already."""
        known = self._known.get(scope)
        return known is not None and known.digest == digest

    def lease_of(self, scope: str) -> int:
        """The lease that the key had; 0 for none."""
        known = self._known.get(scope)
        return known.lease if known else 0

    def put(self, read: Read, revision: int, *, changed: bool) -> None:
        """A key has this value; *changed* says that somebody wrote it just now."""
        name = read.name
        if read.item is None:
            # What it said before stays.
            known = self._known.get(read.scope)
            name = known.name if known else ""
        else:
            items = {read.name: read.item}
            shard = self._shard(read.scope)
            self._sink.replace(shard, items, revision=str(revision), explicit=changed)
        self._known[read.scope] = _Known(read.digest, read.lease, name)
        self._sink.report(read.scope, read.problems)

    def delete(self, scope: str, *, expired: bool) -> None:
        """A key is gone: somebody deleted it, or its lease ran out."""
        known = self._known.pop(scope, None)
        if expired and known is not None and known.name:
            self._sink.update(self._shard(scope), known.name, None, expired=True)
        else:
            self._sink.drop(self._shard(scope))
        self._sink.report(scope, ())

    def listed(self, scopes: Collection[str], remarks: Mapping[str, Sequence[Problem]]) -> None:
        """All keys were read, but for what *remarks* say; what could not be read stays as it was.

        Remarks are by folder, which ends in a slash, or by any name that is no key.
        """
        for place in self._remarked - remarks.keys():
            self._sink.report(place, ())
        for place, problems in remarks.items():
            self._sink.report(place, problems)
        self._remarked = set(remarks)
        if self._synced:
            self._sink.retain({*scopes, *remarks})
        else:
            self._synced = True
            self._sink.synced()
        for scope in self._known.keys() - scopes:
            if not scope.startswith(tuple(remarks)):
                del self._known[scope]

    def _shard(self, scope: str) -> ShardKey:
        return ShardKey(self._registry, scope, content_of(scope))
