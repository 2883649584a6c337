"""A client that does what it is told ends with what its view has, whatever happens in between."""

import math
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.generators.spec import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    VIRTUAL_HOST,
    ResourceType,
)
from aggregator.push.known import Response
from aggregator.push.state import Cause
from aggregator.xds.cache import PlanCache
from aggregator.xds.session import Session, Waits
from tests.support.envoy_model import Body, EnvoyModel
from tests.support.session import TYPES, Content

CLUSTERS: Final = ("c0", "c1", "c2", "c3")
ROUTES: Final = ("r0", "r1", "r2")
LISTENERS: Final = ("l0", "l1", "l2")
DRAIN: Final = 3.0
NONE: Final[frozenset[str]] = frozenset()


class Play:
    """A content that changes, one session, one Envoy, and the messages between them."""

    def __init__(self, *, delta: bool, chunk: int = 256 * 1024) -> None:
        self.now = 100.0
        self.content: Final = Content()
        self.delta: Final = delta
        self.envoy: Final = EnvoyModel(delta=delta, drain=DRAIN, clock=lambda: self.now)
        self.downlink: Final[deque[Response]] = deque()
        self.in_doubt = False
        self.refused: Final[set[str]] = set()
        self._chunk: Final = chunk
        self._cache: Final = PlanCache()
        self._bodies: Final[dict[tuple[ResourceType, str], Body]] = {}
        self._revision = 0
        self._unsettled: dict[str, frozenset[str]] = {}
        self.session = self._new_session()
        self.envoy.connect()

    def _new_session(self) -> Session:
        session = Session(
            TYPES,
            delta=self.delta,
            aggregated=True,
            waits=Waits(),
            cache=self._cache,
            chunk=self._chunk,
        )
        session.begin(drain=DRAIN)
        session.view = self.content.view
        session.carried_over.update(self._unsettled)
        return session

    # The world

    def listener(self, name: str, routes: frozenset[str], clusters: frozenset[str]) -> None:
        """A listener that uses these; with none it is removed."""
        self._put(LISTENER, name, routes=routes, clusters=clusters, gone=not routes | clusters)

    def route(self, name: str, clusters: frozenset[str]) -> None:
        """A route table's head."""
        self._put(ROUTE, name, clusters=clusters)

    def virtual_host(self, route: str, name: str, clusters: frozenset[str]) -> None:
        """A virtual host; without clusters it is removed."""
        self._put(VIRTUAL_HOST, f"{route}/{name}", clusters=clusters, gone=not clusters)

    def change(self, kind: ResourceType, name: str) -> None:
        """Another revision of what is there."""
        body = self._bodies.get((kind, name))
        if body is not None:
            self._put(kind, name, routes=body.routes, clusters=body.clusters)

    def spoil(self, kind: ResourceType, name: str) -> None:
        """A revision that Envoy refuses."""
        body = self._bodies.get((kind, name))
        if body is not None:
            self._put(kind, name, routes=body.routes, clusters=body.clusters, word="bad")
            if kind is CLUSTER:
                self.refused.add(name)

    def _put(
        self,
        kind: ResourceType,
        name: str,
        *,
        routes: frozenset[str] = NONE,
        clusters: frozenset[str] = NONE,
        gone: bool = False,
        word: str = "good",
    ) -> None:
        if gone:
            self._bodies.pop((kind, name), None)
        else:
            self._revision += 1
            self._bodies[kind, name] = Body(name, f"{word} {self._revision}", routes, clusters)

    def push(self) -> None:
        """Make the view consistent, as generators do, and tell the session."""
        bodies = self._bodies
        listeners = [body for (kind, _), body in bodies.items() if kind is LISTENER]
        in_use = set().union(*(body.routes for body in listeners))
        for kind, name in tuple(bodies):
            orphan = kind in (ROUTE, VIRTUAL_HOST) and name.partition("/")[0] not in in_use
            if orphan or (kind is VIRTUAL_HOST and not self.delta):
                del bodies[kind, name]
        for name in in_use:
            bodies.setdefault((ROUTE, name), Body(name, "good 0"))
        needed = set().union(*(each.clusters for each in bodies.values()))
        for name in CLUSTERS:
            for kind in (CLUSTER, ENDPOINT):
                if name in needed:
                    bodies.setdefault((kind, name), Body(name, "good 0"))
                else:
                    bodies.pop((kind, name), None)
        for kind, names in _NAMES.items():
            for name in names:
                body = bodies.get((kind, name))
                if body is None:
                    self.content.remove(kind, name)
                else:
                    self.content.put(kind, name, str(body), body.clusters)
        diff = self.content.view.finish()
        if diff:
            self.session.view_changed(diff, Cause(self.now))

    # The messages

    def send(self, count: int) -> None:
        """The server writes."""
        for _ in range(count):
            response = self.session.next_response(self.now)
            if response is None:
                return
            self.downlink.append(response)

    def deliver(self, count: int) -> None:
        """The client reads."""
        while self.downlink and count:
            self.envoy.take(self.downlink.popleft())
            count -= 1
            # On state of the world what is only suspected is left out, and so removed.
            if not self.in_doubt and (self.delta or not self.envoy.nacks):
                assert self.envoy.broken() <= self.refused
                assert not self.envoy.lost

    def answer(self, count: int) -> None:
        """The server reads."""
        while self.envoy.uplink and count:
            self.session.receive(self.envoy.uplink.popleft(), self.now)
            count -= 1

    def later(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        self.envoy.tick()

    def reconnect(self) -> None:
        """The stream breaks, and the client comes back."""
        self._unsettled = self.session.left_unknown()
        self.downlink.clear()
        self.session = self._new_session()
        self.envoy.connect()
        # An Envoy says all that it wants at once.
        self.answer(100)
        # On state of the world a server cannot know what a client has, and so cannot keep it.
        self.in_doubt = not self.delta

    def settle(self) -> None:
        """Let everything come to rest."""
        self.envoy.release()
        self.push()
        for _ in range(200):
            self.answer(100)
            self.send(100)
            if not self.downlink and not self.envoy.uplink:
                if self.session.wake_at() == math.inf and not self.envoy.draining:
                    return
                self.later(5)
            self.deliver(100)
        pytest.fail("it never comes to rest")

    # What there is in the end

    def expected(self) -> dict[ResourceType, dict[str, str]]:
        """What the view has for the client, by type and name."""
        wanted: dict[ResourceType, dict[str, str]] = {kind: {} for kind in _NAMES}
        for (kind, name), body in self._bodies.items():
            wanted[kind][name] = body.revision
        return wanted

    def found(self) -> dict[ResourceType, dict[str, str]]:
        """What the client has."""
        return {
            kind: {name: body.revision for name, body in has.items()}
            for kind, has in self.envoy.has.items()
        }

    def good_expected(self) -> dict[ResourceType, dict[str, str]]:
        """Of this all that the client has a use for, and does not refuse."""
        return {
            kind: {
                name: revision
                for name, revision in wanted.items()
                if not revision.startswith("bad") and self.envoy.wants(kind, name)
            }
            for kind, wanted in self.expected().items()
        }

    def good_found(self) -> dict[ResourceType, dict[str, str]]:
        """What the client has of that."""
        good = self.good_expected()
        return {
            kind: {name: each for name, each in has.items() if name in good[kind]}
            for kind, has in self.found().items()
        }


_NAMES: Final = {
    CLUSTER: CLUSTERS,
    ENDPOINT: CLUSTERS,
    LISTENER: LISTENERS,
    ROUTE: ROUTES,
    VIRTUAL_HOST: tuple(f"{route}/{name}" for route in ROUTES for name in ("a", "b")),
}

Op = tuple[Any, ...]
some_clusters = st.frozensets(st.sampled_from(CLUSTERS), max_size=2)
changes = st.one_of(
    st.tuples(
        st.just("listener"),
        st.sampled_from(LISTENERS),
        st.frozensets(st.sampled_from(ROUTES), max_size=2),
        some_clusters,
    ),
    st.tuples(st.just("route"), st.sampled_from(ROUTES), some_clusters),
    st.tuples(
        st.just("virtual_host"), st.sampled_from(ROUTES), st.sampled_from(["a", "b"]), some_clusters
    ),
    st.sampled_from([(kind, name) for kind, names in _NAMES.items() for name in names]).map(
        lambda at: ("change", *at)
    ),
)
spoilings = st.sampled_from(
    [(kind, name) for kind, names in _NAMES.items() if kind is not ENDPOINT for name in names]
).map(lambda at: ("spoil", *at))
few = st.integers(1, 4)
traffic = st.one_of(
    st.tuples(st.just("send"), few),
    st.tuples(st.just("send"), few),
    st.tuples(st.just("deliver"), few),
    st.tuples(st.just("deliver"), few),
    st.tuples(st.just("answer"), few),
    st.tuples(st.just("answer"), few),
    st.tuples(st.just("later"), st.sampled_from([0.5, 2.0, 20.0])),
    st.sampled_from([("withhold",), ("release",)]),
)
BASE: Final[list[Op]] = [
    ("listener", "l0", frozenset({"r0"}), frozenset()),
    ("listener", "l1", frozenset({"r1"}), frozenset({"c1"})),
    ("route", "r0", frozenset({"c0"})),
    ("virtual_host", "r0", "a", frozenset({"c1"})),
    ("settle",),
]


def rounds(change: st.SearchStrategy[Op], *others: Op) -> st.SearchStrategy[list[Op]]:
    """Some changes at once, then some messages, again and again; now and then all comes to rest."""
    end = st.sampled_from([("send", 0), ("settle",), *others])
    one = st.tuples(st.lists(change, min_size=1, max_size=4), st.lists(traffic, max_size=12), end)
    several = st.lists(one, min_size=1, max_size=4)
    return several.map(
        lambda each: [
            op for changed, moved, ended in each for op in (*changed, ("push",), *moved, ended)
        ]
    )


def run(play: Play, ops: Sequence[Op]) -> None:
    """Do all of it, and come to rest."""
    for name, *arguments in (*BASE, *ops):
        if name == "withhold":
            play.envoy.withholds = True
        elif name == "release":
            play.envoy.release()
        else:
            getattr(play, name)(*arguments)
    play.settle()


@pytest.mark.parametrize("delta", [True, False])
@pytest.mark.parametrize("chunk", [1, 256 * 1024])
def test_client_ends_with_what_its_view_has(delta: bool, chunk: int) -> None:
    """A lost update would stay lost until the next change of that very resource."""

    @settings(max_examples=50, deadline=None)
    @given(ops=rounds(changes))
    def check(ops: list[Op]) -> None:
        play = Play(delta=delta, chunk=chunk)
        run(play, ops)
        assert play.found() == play.expected()

    check()


@pytest.mark.parametrize("delta", [True, False])
def test_client_that_comes_back_ends_with_what_its_view_has(delta: bool) -> None:
    """What a client says that it has is believed, and so must be made right."""

    @settings(max_examples=60, deadline=None)
    @given(ops=rounds(changes, ("reconnect",)))
    def check(ops: list[Op]) -> None:
        play = Play(delta=delta)
        run(play, ops)
        assert play.found() == play.expected()

    check()


@pytest.mark.parametrize("delta", [True, False])
def test_client_that_rejects_ends_with_all_that_is_good(delta: bool) -> None:
    """What is bad costs nothing but itself, however its discovery meets other changes."""

    @settings(max_examples=80, deadline=None)
    @given(ops=rounds(st.one_of(changes, spoilings), ("reconnect",)))
    def check(ops: list[Op]) -> None:
        play = Play(delta=delta)
        run(play, ops)
        assert play.good_found() == play.good_expected()
        assert play.envoy.has[LISTENER].keys() <= play.expected()[LISTENER].keys()

    check()
