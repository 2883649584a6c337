"""What becomes of losses that nobody ordered: expiry, absence, grace, and the guard's settings."""

import pytest
from msgspec.structs import replace

from aggregator.model.registry import Content, Item, RegistrySink, ServiceItem, ShardKey
from aggregator.model.service import ServiceKey
from aggregator.registry.aggregate import Aggregate
from aggregator.registry.guard import GuardSettings
from aggregator.registry.intake import EXPIRIES
from aggregator.registry.settings import Handling
from config.duration import Duration
from tests.support.builders import endpoint, service
from tests.support.clock import FakeClock

SHARD = ShardKey("kv", "all", Content.SERVICES)
GRACE = 600.0


def item(number: int, endpoints: int = 1) -> ServiceItem:
    """A service with so many endpoints."""
    host = f"s{number}.mesh"
    return ServiceItem(
        "shop",
        host,
        service(host, namespace="shop"),
        tuple(endpoint(f"10.{each}.0.{number}") for each in range(endpoints)),
    )


def many(count: int) -> dict[str, Item]:
    """Services of one endpoint each."""
    return {f"s{number}": item(number) for number in range(count)}


class Registry:
    """One registry of an aggregate, and the time."""

    def __init__(self, handling: Handling) -> None:
        self.clock = FakeClock()
        self.aggregate = Aggregate(lambda _changes: None, clock=self.clock)
        self.aggregate.configure("kv", handling)
        self.sink: RegistrySink = self.aggregate.sink("kv")

    def serving(self) -> set[str]:
        """The hosts that have endpoints."""
        keys = self.aggregate.service_keys()
        return {key.host for key in keys if self.aggregate.endpoints(key)}

    def defined(self) -> set[str]:
        """All hosts."""
        return {key.host for key in self.aggregate.service_keys()}

    def expire(self, *numbers: int) -> None:
        """The leases of these run out."""
        for number in numbers:
            self.sink.update(SHARD, f"s{number}", None, expired=True)

    def addresses(self, number: int) -> list[str]:
        """Where a service is served."""
        found = self.aggregate.endpoints(ServiceKey("shop", f"s{number}.mesh"))
        return [each.address for each in found]

    @property
    def held(self) -> list[str]:
        """What the guard holds."""
        return sorted(self.aggregate.summary("kv").held)

    def wait(self, seconds: float) -> None:
        """Let time pass, and what is due happen."""
        self.clock.now += seconds
        self.aggregate.release_due()


@pytest.fixture
def registry() -> Registry:
    """A registry that tells deletions, judged as by default."""
    return Registry(Handling())


@pytest.fixture
def listed() -> Registry:
    """A registry where absence is the only sign."""
    return Registry(Handling(deletion_grace=GRACE))


# Expiry


def test_one_expiry_is_believed_at_once(registry: Registry) -> None:
    """A crashed instance must not be served until some time is over."""
    registry.sink.replace(SHARD, many(50))

    registry.expire(7)

    assert len(registry.serving()) == 49
    assert registry.held == []


def test_mass_expiry_is_held_and_what_went_before_it_comes_back(registry: Registry) -> None:
    """A registry that lost touch with all instances says nothing about them."""
    registry.sink.replace(SHARD, many(50))

    registry.expire(*range(40))

    assert len(registry.serving()) == 50
    assert registry.held == [EXPIRIES]
    hold = registry.aggregate.summary("kv").held[EXPIRIES]
    assert (hold.before, hold.after) == (50, 10)


def test_a_held_expiry_takes_effect_after_its_time(registry: Registry) -> None:
    """Instances that are really gone go in the end, and only these."""
    registry.sink.replace(SHARD, many(50))
    registry.expire(*range(40))
    registry.sink.update(SHARD, "s3", item(3))

    registry.wait(59)
    assert len(registry.serving()) == 50
    registry.wait(1)

    assert registry.serving() == {"s3.mesh"} | {f"s{number}.mesh" for number in range(40, 50)}
    assert registry.held == []


def test_instances_that_return_end_the_hold(registry: Registry) -> None:
    """The few that do not return were ordinary losses."""
    registry.sink.replace(SHARD, many(50))
    registry.expire(*range(40))

    for number in range(5, 40):
        registry.sink.update(SHARD, f"s{number}", item(number))

    assert registry.held == []
    assert registry.serving() == {f"s{number}.mesh" for number in range(5, 50)}


def test_a_deletion_during_a_hold_is_believed(registry: Registry) -> None:
    """Somebody ordered it; it is neither held nor taken back."""
    registry.sink.replace(SHARD, many(50))
    registry.expire(1)
    registry.sink.update(SHARD, "s1", None)
    registry.expire(*range(10, 45))

    registry.sink.update(SHARD, "s10", None)

    assert registry.held == [EXPIRIES]
    assert registry.defined() == {f"s{number}.mesh" for number in range(50)} - {
        "s1.mesh",
        "s10.mesh",
    }


def test_old_expiries_are_not_taken_back(registry: Registry) -> None:
    """What went an hour ago has another cause."""
    registry.sink.replace(SHARD, many(100))
    registry.expire(1)
    registry.wait(3600)

    registry.expire(*range(10, 90))

    assert registry.held == [EXPIRIES]
    assert registry.defined() == {f"s{number}.mesh" for number in range(100)} - {"s1.mesh"}


def test_failing_checks_count_by_endpoints(registry: Registry) -> None:
    """Where instances come as one service, the loss is in what the service has left."""
    registry.sink.replace(SHARD, {"s1": item(1, 60)})

    registry.sink.update(SHARD, "s1", item(1, 50), expired=True)
    assert len(registry.addresses(1)) == 50
    registry.sink.update(SHARD, "s1", item(1, 2), expired=True)

    assert len(registry.addresses(1)) == 60
    registry.wait(60)
    assert len(registry.addresses(1)) == 2


def test_an_expired_update_that_loses_nothing_is_an_update(registry: Registry) -> None:
    """A check that recovers is not delayed by others that failed."""
    registry.sink.replace(SHARD, many(50))
    registry.expire(*range(40))

    registry.sink.update(SHARD, "s45", item(45, 3), expired=True)

    assert len(registry.addresses(45)) == 3


def test_a_listing_outdates_held_expiries(registry: Registry) -> None:
    """What the registry lists now is the newer word."""
    registry.sink.replace(SHARD, many(50))
    registry.expire(*range(40))

    registry.sink.replace(SHARD, many(50))
    registry.wait(60)

    assert len(registry.serving()) == 50


def test_a_listing_that_confirms_the_expiry_is_judged_itself(registry: Registry) -> None:
    """A second sign of the same fault is no second reading."""
    registry.sink.replace(SHARD, many(50))
    registry.expire(*range(40))

    registry.sink.replace(SHARD, {f"s{number}": item(number) for number in range(40, 50)})
    assert len(registry.serving()) == 50
    registry.wait(60)

    assert len(registry.serving()) == 10


# Listings that are held


def test_a_held_listing_still_adds(registry: Registry) -> None:
    """What came while we were away must not wait for what went."""
    registry.sink.replace(SHARD, many(50))

    registry.sink.replace(SHARD, {"s0": item(0, 2), "s99": item(99)})

    assert len(registry.serving()) == 51
    assert len(registry.addresses(0)) == 2
    registry.wait(60)
    assert registry.serving() == {"s0.mesh", "s99.mesh"}


# Grace


def test_an_absent_service_loses_its_endpoints_first(listed: Registry) -> None:
    """Routes and clusters stay until it is clear that the service is gone."""
    listed.sink.replace(SHARD, many(3))

    listed.sink.replace(SHARD, many(2))

    assert listed.serving() == {"s0.mesh", "s1.mesh"}
    assert listed.defined() == {"s0.mesh", "s1.mesh", "s2.mesh"}
    assert listed.aggregate.summary("kv").lingering == 1
    listed.wait(GRACE - 1)
    assert len(listed.defined()) == 3
    listed.wait(1)
    assert len(listed.defined()) == 2
    assert listed.aggregate.summary("kv").lingering == 0


def test_grace_begins_with_the_first_absence(listed: Registry) -> None:
    """Listings that go on without it do not prolong it."""
    listed.sink.replace(SHARD, many(3))
    for _ in range(11):
        listed.sink.replace(SHARD, many(2))
        listed.wait(60)

    assert len(listed.defined()) == 2


def test_a_service_that_returns_serves_at_once(listed: Registry) -> None:
    """And has a whole grace again the next time."""
    listed.sink.replace(SHARD, many(3))
    listed.sink.replace(SHARD, many(2))
    listed.wait(GRACE - 1)
    listed.sink.replace(SHARD, many(3))
    assert len(listed.serving()) == 3

    listed.sink.replace(SHARD, many(2))
    listed.wait(GRACE - 1)

    assert len(listed.defined()) == 3


def test_an_absent_scope_lingers_too(listed: Registry) -> None:
    """A datacenter that drops out of the list is absence like any other."""
    other = replace(SHARD, scope="dc2")
    listed.sink.replace(SHARD, {"s1": item(1)})
    listed.sink.replace(other, {"s2": item(2)})

    listed.sink.retain([SHARD.scope])

    assert (listed.serving(), len(listed.defined())) == ({"s1.mesh"}, 2)
    listed.wait(GRACE)
    assert listed.defined() == {"s1.mesh"}


def test_deletion_knows_no_grace(listed: Registry) -> None:
    """Where the registry says it, there is nothing to wait for."""
    listed.sink.replace(SHARD, many(5))

    listed.sink.update(SHARD, "s1", None)
    listed.sink.replace(SHARD, {"s2": item(2), "s3": item(3)}, explicit=True)

    assert listed.defined() == {"s2.mesh", "s3.mesh"}
    listed.sink.drop(SHARD)
    assert listed.defined() == set()


def test_an_expired_service_lingers(listed: Registry) -> None:
    """Nobody deleted it."""
    listed.sink.replace(SHARD, many(3))
    listed.expire(1)

    assert (len(listed.serving()), len(listed.defined())) == (2, 3)
    listed.wait(GRACE)
    assert len(listed.defined()) == 2


def test_removal_from_the_settings_knows_no_grace(listed: Registry) -> None:
    """Who takes a registry out wants it gone."""
    listed.sink.replace(SHARD, many(3))
    listed.sink.replace(SHARD, many(2))

    listed.aggregate.remove_registry("kv")

    assert listed.defined() == set()


def test_a_held_listing_lingers_after_its_hold(listed: Registry) -> None:
    """First it is doubted, then it takes the endpoints, then the services."""
    listed.sink.replace(SHARD, many(50))
    listed.sink.replace(SHARD, many(1))
    assert len(listed.serving()) == 50

    listed.wait(60)
    assert (len(listed.serving()), len(listed.defined())) == (1, 50)
    listed.wait(GRACE)
    assert len(listed.defined()) == 1


# Settings


def test_settings_of_the_guard_are_the_registry_s_own() -> None:
    """What is a loss depends on who tells it."""
    strict = Registry(Handling(guard=GuardSettings(share=0.1, floor=5, hold=Duration(7))))
    strict.sink.replace(SHARD, many(20))
    strict.sink.replace(SHARD, many(17))
    assert len(strict.serving()) == 20
    strict.wait(7)

    assert len(strict.serving()) == 17


def test_turning_the_guard_off_lets_go(registry: Registry) -> None:
    """It is turned off because of what it holds."""
    registry.sink.replace(SHARD, many(50))
    registry.sink.replace(SHARD, many(1))

    registry.aggregate.configure("kv", Handling(guard=GuardSettings(enabled=False)))
    registry.wait(0)

    assert len(registry.serving()) == 1


def test_a_shorter_grace_counts_for_what_lingers(listed: Registry) -> None:
    """Settings are hot."""
    listed.sink.replace(SHARD, many(3))
    listed.sink.replace(SHARD, many(2))

    listed.aggregate.configure("kv", Handling(deletion_grace=10))
    listed.wait(10)

    assert len(listed.defined()) == 2
