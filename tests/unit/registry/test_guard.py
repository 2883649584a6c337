"""What the loss guard believes at once, and what only later."""

from aggregator.registry.guard import GuardSettings, LossGuard
from config.duration import Duration


def test_a_loss_of_most_endpoints_is_held() -> None:
    """A registry that comes back half empty must not take the mesh's endpoints with it."""
    guard = LossGuard(GuardSettings(share=0.5, floor=20))

    assert not guard.admits("east", "services", before=100, after=49, now=0)
    assert list(guard.held("east")) == ["services"]


def test_a_loss_within_the_share_is_believed() -> None:
    """Ordinary scaling down goes out at once."""
    assert LossGuard(GuardSettings(share=0.5)).admits(
        "east", "services", before=100, after=50, now=0
    )


def test_small_registries_are_never_held() -> None:
    """Someone with five VMs may remove all of them."""
    assert LossGuard(GuardSettings(floor=20)).admits("vms", "services", before=20, after=0, now=0)


def test_a_similar_listing_confirms_after_a_while() -> None:
    """A registry that insists is believed before the bound."""
    guard = LossGuard(GuardSettings(confirm=Duration(5), hold=Duration(60)))
    guard.admits("east", "services", 100, 0, now=0)

    assert not guard.admits("east", "services", 100, 3, now=1)
    assert guard.admits("east", "services", 100, 5, now=6)
    assert not guard.held("east")


def test_a_different_listing_does_not_confirm() -> None:
    """A registry that flaps is not believed because it flapped twice."""
    guard = LossGuard(GuardSettings(confirm=Duration(5), hold=Duration(60)))
    guard.admits("east", "services", 100, 0, now=0)

    assert not guard.admits("east", "services", 100, 40, now=10)


def test_a_full_listing_ends_the_hold() -> None:
    """Once the registry has recovered, a later loss starts anew."""
    guard = LossGuard(GuardSettings(confirm=Duration(5)))
    guard.admits("east", "services", 100, 0, now=0)
    assert guard.admits("east", "services", 100, 100, now=2)

    assert not guard.admits("east", "services", 100, 0, now=10)


def test_holds_are_due_after_their_bound() -> None:
    """A loss that is real takes effect in the end, whether the registry lists again or not."""
    guard = LossGuard(GuardSettings(hold=Duration(60)))
    guard.admits("east", "services", 100, 0, now=0)

    assert guard.due(now=59) == []
    assert guard.due(now=60) == [("east", "services")]


def test_a_registry_cannot_fade_away_scope_by_scope() -> None:
    """Namespaces that are relisted empty one by one add up to the same loss."""
    guard = LossGuard(GuardSettings(share=0.5, floor=20, hold=Duration(60)))
    admitted = [
        guard.admits(
            "east", f"ns{scope}", before=100 - 10 * scope, after=90 - 10 * scope, now=scope
        )
        for scope in range(6)
    ]

    assert admitted == [True, True, True, True, True, False]


def test_old_losses_are_forgotten() -> None:
    """Slow shrinking over hours is no loss."""
    guard = LossGuard(GuardSettings(hold=Duration(60)))
    assert guard.admits("east", "a", 100, 60, now=0)
    assert guard.admits("east", "b", 60, 40, now=61)


def test_forgetting_a_registry_drops_its_holds() -> None:
    """A registry that is out of the settings waits for nothing."""
    guard = LossGuard()
    guard.admits("east", "services", 100, 0, now=0)
    guard.forget("east")

    assert guard.due(now=1000) == []
