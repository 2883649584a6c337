"""Responses that a whole class of streams gets, kept as long as they may be of use to the next
one.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

from msgspec import Struct

from aggregator.push.known import Known, Response
from aggregator.push.layered import entries_held

CACHE_BYTES: Final = 64 * 1024 * 1024
_NAME_BYTES: Final = 64
NAMES: Final = 2_000_000
"""So many names may be in all the sets that are kept, some 100 MB of them."""


class Plan(Struct, frozen=True):
    """What to send from a known state, and the names that wait for later.

    `cut` says that the response would have been too large, and more of it comes next. `known` is
    held so that its identity, which is part of the key, stays its own.
    """

    known: Known
    response: Response | None
    rest: frozenset[str]
    cut: bool = False


class PlanCache:
    """Least recently used plans within a bound of bytes; and one object for each equal set of
    names.
    """

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit: Final = limit
        self._plans: Final[OrderedDict[Hashable, Plan]] = OrderedDict()
        self._names: Final[dict[frozenset[str], frozenset[str]]] = {}
        self._changed: Final[dict[tuple[frozenset[str], ...], frozenset[str]]] = {}
        self._names_kept = 0
        self.bytes = 0
        self.hits = 0
        self.misses = 0

    def get(self, key: Hashable) -> Plan | None:
        """A plan that another stream made."""
        plan = self._plans.get(key)
        if plan is None:
            self.misses += 1
            return None
        self.hits += 1
        self._plans.move_to_end(key)
        return plan

    def put(self, key: Hashable, plan: Plan) -> None:
        """Keep a plan for others."""
        self._plans[key] = plan
        self.bytes += _size(plan)
        while self.bytes > self._limit and len(self._plans) > 1:
            _, old = self._plans.popitem(last=False)
            self.bytes -= _size(old)

    def names(self, names: frozenset[str]) -> frozenset[str]:
        """The one object that stands for equal sets, so that comparing them costs nothing."""
        found = self._names.get(names)
        if found is None:
            if self._names_kept > NAMES:
                self._names.clear()
                self._changed.clear()
                self._names_kept = 0
            found = self._names[names] = names
            self._names_kept += len(names) + 1
        return found

    def changed_names(
        self, names: frozenset[str], added: frozenset[str], gone: frozenset[str]
    ) -> frozenset[str]:
        """The one object for *names* with some more and some less, worked out once for all streams
        that say the same.
        """
        key = (names, added, gone)
        found = self._changed.get(key)
        if found is None:
            found = self.names((names | added) - gone)
            self._changed[key] = found
            self._names_kept += len(added) + len(gone) + 1
        return found


def _size(plan: Plan) -> int:
    """Its own bytes, and those of the states that nobody else may be in any more."""
    size = 1024 + _NAME_BYTES * entries_held(plan.known.resources)
    if plan.response is not None:
        after = entries_held(plan.response.after.resources)
        size += len(plan.response.payload) + _NAME_BYTES * after
    return size
