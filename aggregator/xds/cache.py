"""Responses that a whole class of streams gets, kept as long as they may be of use to the next
one.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

from msgspec import Struct

from aggregator.push.known import Known, Response

CACHE_BYTES: Final = 64 * 1024 * 1024
NAME_SETS: Final = 1024
_NAME_BYTES: Final = 64


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
        if len(self._names) >= NAME_SETS:
            self._names.clear()
        return self._names.setdefault(names, names)


def _size(plan: Plan) -> int:
    """Its own bytes, and those of the states that nobody else may be in any more."""
    size = 1024 + _NAME_BYTES * len(plan.known.resources)
    if plan.response is not None:
        size += len(plan.response.payload) + _NAME_BYTES * len(plan.response.after.resources)
    return size
