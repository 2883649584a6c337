"""Which registries' endpoints serve a cluster, in which order, and with which shares.

Decided for each cluster on its own, so that a port or a subset which only one registry has is
served by that one. Knows no Envoy message.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import gcd, lcm
from typing import assert_never

from msgspec.structs import replace

from aggregator.model.policy import MergeMode, MergePolicy
from aggregator.model.service import Endpoint, Health


def share(policy: MergePolicy, endpoints: Sequence[Endpoint]) -> list[Sequence[Endpoint]]:
    """The endpoints in tiers, each of which takes over from those before it; none is empty."""
    match policy.mode:
        case MergeMode.UNION:
            tiers = [endpoints]
        case MergeMode.PRIORITY:
            tiers = _by_registry(policy, endpoints)
            tiers = ([tier for tier in tiers if _is_healthy(tier)] or tiers)[:1]
        case MergeMode.FAILOVER:
            tiers = _by_registry(policy, endpoints)
        case MergeMode.WEIGHTS:
            tiers = [_weighed(dict(policy.shares), endpoints)]
        case _:
            assert_never(policy.mode)
    return [tier for tier in tiers if tier]


def _by_registry(policy: MergePolicy, endpoints: Sequence[Endpoint]) -> list[Sequence[Endpoint]]:
    rank = {name: index for index, name in enumerate(policy.order)}
    tiers: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        tiers.setdefault(endpoint.registry, []).append(endpoint)
    return [
        tiers[name] for name in sorted(tiers, key=lambda name: (rank.get(name, len(rank)), name))
    ]


def _is_healthy(tier: Sequence[Endpoint]) -> bool:
    return any(each.health is Health.READY for each in tier)


def _weighed(shares: Mapping[str, int], endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """Weights such that each registry has its share of their sum, and its endpoints keep their
    proportions. The share of a registry without endpoints goes to the others.
    """
    serving = [each for each in endpoints if shares.get(each.registry, 0)]
    totals: Counter[str] = Counter()
    for each in serving:
        totals[each.registry] += each.weight
    if len(totals) < 2:
        return serving
    whole = lcm(*totals.values())
    factors = {name: shares[name] * whole // total for name, total in totals.items()}
    common = gcd(*(each.weight * factors[each.registry] for each in serving))
    return [
        replace(each, weight=each.weight * factors[each.registry] // common) for each in serving
    ]
