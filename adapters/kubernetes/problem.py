"""Collects what is wrong with single objects and tells it scope by scope, not object by object."""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Final

from aggregator.model.errors import Problem
from aggregator.model.registry import RegistrySink

GATHER_SECONDS: Final = 0.3
"""How long problems are gathered; what ends meanwhile (an EndpointSlice that was there before its
Service) is never told.
"""


class ProblemBook:
    """The present problems of one registry, by scope and object."""

    def __init__(self, sink: RegistrySink) -> None:
        self._sink: Final = sink
        self._problems: defaultdict[str, dict[str, tuple[Problem, ...]]] = defaultdict(dict)
        self._dirty: set[str] = set()
        self._changed: Final = asyncio.Event()

    def put(self, scope: str, key: str, problems: Sequence[Problem] = ()) -> None:
        """What is wrong with one object now; nothing clears it."""
        known = self._problems.get(scope, {}).get(key, ())
        found = tuple(problems)
        if known == found:
            return
        if found:
            self._problems[scope][key] = found
        else:
            del self._problems[scope][key]
        self._dirty.add(scope)
        self._changed.set()

    def retain(self, plural: str, namespace: str, prefix: str, kept: Collection[str]) -> None:
        """Of the objects of a kind, in one namespace or (without a name) in all, forget those whose
        key begins with *prefix*, unless ``scope key`` is in *kept*.
        """
        for scope in list(self._problems):
            kind, _, where = scope.partition("/")
            if kind == plural and (not namespace or where == namespace):
                for key in list(self._problems[scope]):
                    if key.startswith(prefix) and f"{scope} {key}" not in kept:
                        self.put(scope, key)

    def drop(self, plural: str) -> None:
        """Forget a kind."""
        for scope in list(self._problems):
            if scope.partition("/")[0] == plural:
                for key in list(self._problems[scope]):
                    self.put(scope, key)

    def flush(self) -> None:
        """Tell what changed."""
        for scope in sorted(self._dirty):
            found = self._problems.get(scope, {})
            self._sink.report(scope, [each for key in sorted(found) for each in found[key]])
        self._dirty.clear()

    async def run(self) -> None:
        """Tell changes soon after they come up, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            await asyncio.sleep(GATHER_SECONDS)
            self.flush()
