"""Whatever a registry says, loses and takes back, what is served follows the failure model.

A reference keeps the last word alone: what is there, or since when it has been absent. Without the
guard the aggregate is that at every moment; with it, within the guard's bounds.
"""

from typing import Final

import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from structlog.testing import LogCapture

from aggregator.model.registry import (
    Content,
    Item,
    RegistryContext,
    RegistrySink,
    ServiceItem,
    ShardKey,
)
from aggregator.model.service import ServiceKey
from aggregator.registry.aggregate import Aggregate
from aggregator.registry.guard import GuardSettings
from aggregator.registry.settings import Handling
from config.duration import Duration
from tests.support.builders import endpoint, service
from tests.support.clock import FakeClock

SCOPES: Final = ("dc1", "dc2")
KEYS: Final = tuple(f"s{number}" for number in range(6))
GRACE: Final = 50.0
HOLD: Final = 30.0
NEVER: Final = Duration(1_000_000)
Place = tuple[str, str]
Content_ = dict[str, int]
"""Endpoints by key."""


class Listing(Struct, frozen=True):
    """All that is in a scope, by somebody's edit or not."""

    scope: str
    content: Content_
    explicit: bool = False


class Update(Struct, frozen=True):
    """One service; None is its end. It may have run out by itself."""

    scope: str
    key: str
    endpoints: int | None
    expired: bool = False


class Drop(Struct, frozen=True):
    """A scope is deleted."""

    scope: str


class Retain(Struct, frozen=True):
    """All scopes that there are."""

    scopes: tuple[str, ...]


class Restart(Struct, frozen=True):
    """The adapter failed and was started again; it may fail again before it has listed all."""

    listings: tuple[Listing, ...]
    synced: bool


class Wait(Struct, frozen=True):
    """Time passes."""

    seconds: float


Step = Listing | Update | Drop | Retain | Restart | Wait


def item(scope: str, key: str, endpoints: int) -> ServiceItem:
    """A service with so many endpoints."""
    host = f"{key}.{scope}"
    told = tuple(endpoint(f"10.0.0.{number}") for number in range(endpoints))
    return ServiceItem("shop", host, service(host, namespace="shop"), told)


class Reference:
    """The last word: how many endpoints, or since when something has been absent."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self.there: dict[Place, int] = {}
        self.absent: dict[Place, float] = {}
        self.vanished: set[str] = set()
        self._mentioned: set[str] = set()

    def take(self, step: Step, now: float) -> None:
        """Take in a step, at its end."""
        self.absent = {
            place: since for place, since in self.absent.items() if now - since < self._grace
        }
        match step:
            case Listing(scope, content, explicit):
                self._mentioned.add(scope)
                self.vanished.discard(scope)
                self._lose(self._of(scope, but=content), now, told=explicit)
                for key, endpoints in content.items():
                    self._put((scope, key), endpoints)
                if explicit:
                    self.absent = {at: since for at, since in self.absent.items() if at[0] != scope}
            case Update(scope, key, endpoints, expired):
                self._mentioned.add(scope)
                if endpoints is not None:
                    self._put((scope, key), endpoints)
                else:
                    self._lose([(scope, key)], now, told=not expired)
            case Drop(scope):
                self._lose([*self._of(scope), *self.absent], now, told=True, only=scope)
            case Retain(scopes):
                self.vanished = set(SCOPES) - set(scopes)
                gone = [place for place in self.there if place[0] not in scopes]
                self._lose(gone, now, told=False)
            case Restart(listings, synced):
                self._mentioned = set()
                for each in listings:
                    self.take(each, now)
                if synced:
                    self.take(Retain(tuple(self._mentioned)), now)
            case Wait():
                pass

    def _of(self, scope: str, but: Content_ | None = None) -> list[Place]:
        return [place for place in self.there if place[0] == scope and place[1] not in (but or {})]

    def _put(self, place: Place, endpoints: int) -> None:
        self.there[place] = endpoints
        self.absent.pop(place, None)

    def _lose(self, places: list[Place], now: float, *, told: bool, only: str = "") -> None:
        for place in places:
            if only and place[0] != only:
                continue
            known = self.there.pop(place, None) is not None or place in self.absent
            if told or not self._grace:
                self.absent.pop(place, None)
            elif known:
                self.absent.setdefault(place, now)


class Subject:
    """The aggregate under test, beside the reference."""

    def __init__(self, handling: Handling) -> None:
        self.clock = FakeClock()
        self.aggregate = Aggregate(
            lambda _changes: None,
            clock=self.clock,
            log=structlog.wrap_logger(None, processors=[LogCapture()]),
        )
        self.aggregate.configure("r", handling)
        self.sink: RegistrySink = self.aggregate.sink("r")
        self.reference = Reference(handling.deletion_grace)

    def take(self, step: Step) -> None:
        """Do it to both."""
        match step:
            case Restart(listings, synced):
                self.sink = self.aggregate.sink("r")
                for each in listings:
                    self._do(each)
                if synced:
                    self.sink.synced()
            case Wait(seconds):
                self.clock.now += seconds
                self.aggregate.release_due()
            case _:
                self._do(step)
        self.reference.take(step, self.clock.now)

    def _do(self, step: Step) -> None:
        match step:
            case Listing(scope, content, explicit):
                items: dict[str, Item] = {
                    key: item(scope, key, count) for key, count in content.items()
                }
                self.sink.replace(_shard(scope), items, explicit=explicit)
            case Update(scope, key, endpoints, expired):
                told = None if endpoints is None else item(scope, key, endpoints)
                self.sink.update(_shard(scope), key, told, expired=expired)
            case Drop(scope):
                self.sink.drop(_shard(scope))
            case Retain(scopes):
                self.sink.retain(scopes)
            case _:
                raise AssertionError(step)

    def serving(self) -> dict[Place, int]:
        """What has endpoints, and how many."""
        served = {
            _place(key): len(self.aggregate.endpoints(key)) for key in self.aggregate.service_keys()
        }
        return {place: count for place, count in served.items() if count}

    def defined(self) -> set[Place]:
        """All services."""
        return {_place(key) for key in self.aggregate.service_keys()}

    def total(self) -> int:
        """All endpoints."""
        return sum(self.serving().values())


def _shard(scope: str) -> ShardKey:
    return ShardKey("r", scope, Content.SERVICES)


def _place(key: ServiceKey) -> Place:
    name, _, scope = key.host.partition(".")
    return (scope, name)


def listings() -> st.SearchStrategy[Listing]:
    """A scope with some services."""
    content = st.dictionaries(st.sampled_from(KEYS), st.integers(0, 9), max_size=len(KEYS))
    return st.builds(
        Listing, st.sampled_from(SCOPES), content, st.sampled_from([False] * 4 + [True])
    )


def steps() -> st.SearchStrategy[Step]:
    """Anything that may happen to a registry."""
    key = st.sampled_from(KEYS)
    scope = st.sampled_from(SCOPES)
    expiry = st.builds(
        Update, scope, key, st.one_of(st.none(), st.integers(0, 9)), st.just(value=True)
    )
    return st.one_of(
        listings(),
        st.builds(Update, scope, key, st.one_of(st.none(), st.integers(0, 9))),
        expiry,
        expiry,
        st.builds(Drop, scope),
        st.builds(Retain, st.sampled_from([("dc1",), ("dc2",), SCOPES, ()])),
        st.builds(Restart, st.lists(listings(), max_size=3).map(tuple), st.booleans()),
        st.builds(Wait, st.sampled_from([1.0, 10.0, HOLD, GRACE])),
    )


def served_last_word(subject: Subject) -> None:
    """What is served is the last word, with what lingers."""
    reference = subject.reference
    there = {place: count for place, count in reference.there.items() if count}
    assert subject.serving() == there
    assert subject.defined() == {*reference.there, *reference.absent}


@settings(max_examples=200, deadline=None)
@given(st.lists(steps(), max_size=30), st.sampled_from([0.0, GRACE]))
def test_without_the_guard_the_last_word_is_served(history: list[Step], grace: float) -> None:
    """Errors and restarts take nothing away; absence takes endpoints at once, services later."""
    subject = Subject(Handling(guard=GuardSettings(enabled=False), deletion_grace=grace))
    for step in history:
        subject.take(step)
        served_last_word(subject)


@settings(max_examples=200, deadline=None)
@given(st.lists(steps(), max_size=30), st.sampled_from([0.0, GRACE]))
def test_with_the_guard_the_last_word_is_served_within_its_bounds(
    history: list[Step], grace: float
) -> None:
    """No step that nobody ordered takes more than the share, what is ordered and what is new takes
    effect at once, and after the time of the guard nothing is out of date.
    """
    guard = GuardSettings(share=0.5, floor=5, hold=Duration(HOLD), confirm=NEVER)
    subject = Subject(Handling(guard=guard, deletion_grace=grace))
    for step in history:
        if isinstance(step, Retain) and subject.reference.vanished & {*step.scopes}:
            continue  # A scope that is there again has to be listed first.
        before = subject.total()
        subject.take(step)
        lost = before - subject.total()
        match step:
            case Listing(explicit=False) | Update(expired=True) | Retain():
                assert lost <= guard.share * before or before <= guard.floor
            case Update(scope, key, endpoints):
                assert subject.serving().get((scope, key)) == (endpoints or None)
                assert endpoints is not None or (scope, key) not in subject.defined()
            case Listing(scope, content, explicit=True):
                mine = {at: count for at, count in subject.serving().items() if at[0] == scope}
                assert mine == {(scope, key): count for key, count in content.items() if count}
            case Drop(scope):
                assert scope not in {place[0] for place in subject.defined()}
            case _:
                pass
        for place, endpoints in subject.reference.there.items():
            assert subject.serving().get(place, 0) >= endpoints
    subject.take(Wait(HOLD))
    there = {place: count for place, count in subject.reference.there.items() if count}
    assert subject.serving() == there
    subject.take(Wait(GRACE))
    assert subject.defined() == set(subject.reference.there)


@settings(max_examples=100, deadline=None)
@given(st.lists(steps(), max_size=20), st.lists(steps(), max_size=10))
def test_a_process_that_begins_with_saved_state_goes_on_as_if_it_had_not_ended(
    before: list[Step], after: list[Step]
) -> None:
    """What was held or lingered is judged anew, and that is all that is forgotten."""
    handling = Handling(guard=GuardSettings(enabled=False))
    subject = Subject(handling)
    for step in before:
        subject.take(step)
    subject.take(Restart((), synced=False))
    subject.sink.synced()
    subject.reference.take(Restart((), synced=True), subject.clock.now)
    for step in before:
        subject.take(step)
    said = subject.aggregate.said("r")
    assert said is not None

    again = Subject(handling)
    again.aggregate.restore("r", RegistryContext(name="r", cluster_id="r"), said.shards)
    again.sink = again.aggregate.sink("r")
    again.clock.now = subject.clock.now
    again.reference = subject.reference
    served_last_word(again)
    for step in after:
        again.take(step)
        served_last_word(again)
