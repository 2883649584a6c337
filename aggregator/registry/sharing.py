"""Which policy holds for a host that several registries serve. Pure."""

from collections.abc import Sequence

from msgspec import Struct

from aggregator.model.policy import UNION, MergeMode, MergePolicy
from config.host import host_matches


class MergeRule(Struct, frozen=True):
    """A policy for hosts: names, or wildcards such as ``*.shop.mesh``.

    `registries` come first in the order of `PRIORITY` and `FAILOVER`, before the rest of them in
    the order of precedence.
    """

    hosts: tuple[str, ...]
    mode: MergeMode
    registries: tuple[str, ...] = ()
    shares: tuple[tuple[str, int], ...] = ()


def resolve_policy(rules: Sequence[MergeRule], host: str, precedence: Sequence[str]) -> MergePolicy:
    """What the first rule for the host says."""
    for rule in rules:
        if any(host_matches(pattern, host) for pattern in rule.hosts):
            match rule.mode:
                case MergeMode.UNION:
                    return UNION
                case MergeMode.WEIGHTS:
                    return MergePolicy(rule.mode, shares=rule.shares)
                case MergeMode.PRIORITY | MergeMode.FAILOVER:
                    order = dict.fromkeys((*rule.registries, *precedence))
                    return MergePolicy(rule.mode, order=tuple(order))
    return UNION
