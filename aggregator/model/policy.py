"""How the registries that serve one host share its traffic."""

from enum import StrEnum

from msgspec import Struct


class MergeMode(StrEnum):
    """Who of several registries serves.

    `UNION`: all alike. `PRIORITY`: the first that has a healthy endpoint. `FAILOVER`: the first,
    and the next ones as far as its endpoints fail. `WEIGHTS`: each its share.
    """

    UNION = "union"
    PRIORITY = "priority"
    FAILOVER = "failover"
    WEIGHTS = "weights"


class MergePolicy(Struct, frozen=True):
    """A mode with the order of registries; those that it lacks come after it, by name.

    `shares` are percents by registry, for `WEIGHTS` only; whom they lack gets nothing.
    """

    mode: MergeMode = MergeMode.UNION
    order: tuple[str, ...] = ()
    shares: tuple[tuple[str, int], ...] = ()


UNION = MergePolicy()
