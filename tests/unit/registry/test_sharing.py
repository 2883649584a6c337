"""Which policy holds for a host."""

from aggregator.model.policy import UNION, MergeMode, MergePolicy
from aggregator.registry.sharing import MergeRule, resolve_policy

RULES = (
    MergeRule(("a.shop.mesh",), MergeMode.UNION),
    MergeRule(("*.shop.mesh", "x.y"), MergeMode.WEIGHTS, shares=(("east", 90), ("west", 10))),
    MergeRule(("*",), MergeMode.FAILOVER, registries=("west",)),
)
PRECEDENCE = ("east", "west", "south")


def test_the_first_entry_that_covers_the_host_holds() -> None:
    """As its author reads them, from above."""
    modes = {
        host: resolve_policy(RULES, host, PRECEDENCE).mode
        for host in ("a.shop.mesh", "b.shop.mesh", "x.y", "c.d")
    }

    assert modes == {
        "a.shop.mesh": MergeMode.UNION,
        "b.shop.mesh": MergeMode.WEIGHTS,
        "x.y": MergeMode.WEIGHTS,
        "c.d": MergeMode.FAILOVER,
    }


def test_without_an_entry_registries_are_united() -> None:
    """What most services want."""
    assert resolve_policy((), "a.shop.mesh", PRECEDENCE) == UNION
    assert resolve_policy(RULES[:2], "c.d", PRECEDENCE) == UNION


def test_the_order_is_the_entrys_and_then_the_declared_one() -> None:
    """Somebody who names one registry means that one first, not that one only."""
    found = resolve_policy(RULES, "c.d", PRECEDENCE)

    assert found == MergePolicy(MergeMode.FAILOVER, ("west", "east", "south"))


def test_shares_do_not_depend_on_which_registries_there_are() -> None:
    """A registry that comes or goes must not touch hosts that it has no part in."""
    assert resolve_policy(RULES, "x.y", PRECEDENCE) == resolve_policy(RULES, "x.y", ())
