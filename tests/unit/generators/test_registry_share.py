"""Who of several registries serves, in which order, with which share."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from aggregator.generators.registry_share import share
from aggregator.model.policy import UNION, MergeMode, MergePolicy
from aggregator.model.service import Endpoint, Health
from tests.support.builders import endpoint

PRIORITY: Final = MergePolicy(MergeMode.PRIORITY, ("east", "west"))
FAILOVER: Final = MergePolicy(MergeMode.FAILOVER, ("east", "west"))


def of(registry: str, *weights: int, health: Health = Health.READY) -> list[Endpoint]:
    """Endpoints of a registry, one for each weight."""
    return [
        replace(endpoint(f"{registry}-{n}", weight=weight, health=health), registry=registry)
        for n, weight in enumerate(weights)
    ]


def weights(shares: dict[str, int]) -> MergePolicy:
    return MergePolicy(MergeMode.WEIGHTS, shares=tuple(shares.items()))


def registries(tiers: list[Sequence[Endpoint]]) -> list[list[str]]:
    return [sorted({each.registry for each in tier}) for tier in tiers]


def test_union_takes_all_alike() -> None:
    """What holds unless somebody says otherwise."""
    assert registries(share(UNION, [*of("west", 1), *of("east", 1)])) == [["east", "west"]]


def test_priority_takes_the_first_that_has_a_healthy_endpoint() -> None:
    """Registries behind it serve only once nothing of it is left."""
    east, west = of("east", 1), of("west", 1)

    assert registries(share(PRIORITY, [*west, *east])) == [["east"]]
    assert registries(share(PRIORITY, west)) == [["west"]]
    sick = of("east", 1, health=Health.NOT_READY)
    assert registries(share(PRIORITY, [*west, *sick])) == [["west"]]
    assert registries(share(PRIORITY, sick)) == [["east"]]


def test_failover_keeps_all_in_order() -> None:
    """Envoy goes on to the next one by itself, without waiting for the registry to notice."""
    assert registries(share(FAILOVER, [*of("west", 1), *of("east", 1)])) == [["east"], ["west"]]


def test_registries_that_the_order_lacks_come_last_by_name() -> None:
    """Announced ones come and go; replicas must agree all the same."""
    endpoints = [*of("zulu", 1), *of("alpha", 1), *of("west", 1)]

    assert registries(share(FAILOVER, endpoints)) == [["west"], ["alpha"], ["zulu"]]


def test_weights_hold_between_registries_whatever_they_weigh_by_themselves() -> None:
    """Nine in Consul and one in Kubernetes still share 50 to 50."""
    [tier] = share(weights({"east": 50, "west": 50}), [*of("east", *[1] * 9), *of("west", 1)])

    assert [each.weight for each in tier] == [1] * 9 + [9]


def test_a_registry_with_no_share_gets_nothing() -> None:
    """The end of a migration, and whoever the policy does not name."""
    endpoints = [*of("east", 1), *of("west", 3), *of("other", 1)]

    assert registries(share(weights({"east": 0, "west": 100}), endpoints)) == [["west"]]
    assert share(weights({"east": 100}), of("west", 1)) == []


def test_the_share_of_a_registry_without_endpoints_goes_to_the_others() -> None:
    """A registry that has lost everything must not take requests with it."""
    [tier] = share(weights({"east": 90, "west": 10}), of("west", 2, 3))

    assert [each.weight for each in tier] == [2, 3]


@pytest.mark.parametrize("mode", MergeMode)
def test_nothing_comes_of_nothing(mode: MergeMode) -> None:
    """A service without endpoints has an empty assignment under every policy."""
    assert share(MergePolicy(mode), []) == []


@given(
    st.dictionaries(
        st.sampled_from("abcd"),
        st.tuples(st.integers(1, 100), st.lists(st.integers(1, 1000), min_size=1, max_size=5)),
        min_size=1,
    )
)
def test_shares_are_exact_and_proportions_stay(
    drawn: dict[str, tuple[int, list[int]]],
) -> None:
    """Each registry's part of the sum is its share, each endpoint's part of that its weight."""
    policy = weights({name: percent for name, (percent, _) in drawn.items()})
    [tier] = share(policy, [each for name, (_, own) in drawn.items() for each in of(name, *own)])

    whole = sum(each.weight for each in tier)
    percents = sum(percent for percent, _ in drawn.values())
    found = {each.address: Fraction(each.weight, whole) for each in tier}
    assert found == {
        f"{name}-{n}": Fraction(percent, percents) * Fraction(weight, sum(own))
        for name, (percent, own) in drawn.items()
        for n, weight in enumerate(own)
    }
