"""A small model of an Envoy on ADS: applies what it is sent, asks for what that needs, drains.

Bodies are text, ``name|revision|routes|clusters``; what begins with ``bad`` after the name is
refused. Knows as much of Envoy as the order of sending depends on.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.service.discovery.v3 import discovery_pb2
from msgspec import Struct

from aggregator.generators.spec import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    VIRTUAL_HOST,
    ResourceType,
)
from aggregator.push.known import Response
from aggregator.xds.message import Request

WILDCARDS: Final = (CLUSTER, LISTENER, VIRTUAL_HOST)


class Body(Struct, frozen=True):
    """What a resource says, as far as the model reads it."""

    name: str
    revision: str = ""
    routes: frozenset[str] = frozenset()
    clusters: frozenset[str] = frozenset()
    version: str = ""

    @classmethod
    def parse(cls, raw: bytes, version: str = "") -> "Body":
        """The inverse of `str`; an assignment without endpoints is Envoy's own message."""
        if b"|" not in raw:
            return cls(endpoint_pb2.ClusterLoadAssignment.FromString(raw).cluster_name, "empty")
        name, revision, routes, clusters = raw.decode().split("|")
        return cls(name, revision, _words(routes), _words(clusters), version)

    def __str__(self) -> str:
        """The text on the wire."""
        lists = (",".join(sorted(self.routes)), ",".join(sorted(self.clusters)))
        return "|".join((self.name, self.revision, *lists))

    @property
    def bad(self) -> bool:
        """Whether Envoy refuses it."""
        return self.revision.startswith("bad")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split(",")) if text else frozenset()


class _Draining(Struct, frozen=True):
    listener: Body
    until: float


class EnvoyModel:
    """One Envoy. Requests that it makes are put into `uplink`."""

    def __init__(self, *, delta: bool, drain: float, clock: Callable[[], float]) -> None:
        self.delta: Final = delta
        self.has: Final[dict[ResourceType, dict[str, Body]]] = {
            kind: {} for kind in (CLUSTER, ENDPOINT, LISTENER, ROUTE, VIRTUAL_HOST)
        }
        self.uplink: Final[deque[Request]] = deque()
        self.withholds = False
        self.nacks = 0
        # Routes that it was told to remove although a listener of its own used them.
        self.lost: Final[set[str]] = set()
        self._drain: Final = drain
        self._clock: Final = clock
        self.draining: list[_Draining] = []
        self._withheld: Final[list[Response]] = []
        self._asked: Final[dict[ResourceType, frozenset[str]]] = {}
        self._nonces: Final[dict[ResourceType, str]] = {}
        self._versions: Final[dict[ResourceType, str]] = {}

    def connect(self) -> None:
        """Begin a new stream: say what it has and what it wants."""
        self.uplink.clear()
        self._withheld.clear()
        self._nonces.clear()
        self._asked.clear()
        for kind in (CLUSTER, LISTENER):
            self._first(kind, frozenset())
        self._follow()
        if self.delta:
            self._first(VIRTUAL_HOST, frozenset())

    def _first(self, kind: ResourceType, names: frozenset[str]) -> None:
        self._asked[kind] = names
        versions = (
            {each.name: each.version for each in self.has[kind].values()} if self.delta else {}
        )
        version = "" if self.delta else self._versions.get(kind, "")
        self.uplink.append(Request(kind.type_url, names, versions=versions, version=version))

    # What it is sent

    def take(self, response: Response) -> None:
        """Apply a response, and answer it."""
        kind = next(each for each in self.has if each.type_url == response.type_url)
        good = self._apply_delta(kind, response) if self.delta else self._apply(kind, response)
        self._nonces[kind] = response.nonce
        self._lose_unneeded()
        if not good:
            self.nacks += 1
            self._answer(kind, response.nonce, "some of it is bad")
        elif kind is CLUSTER and self.withholds:
            self._withheld.append(response)
        else:
            self._versions[kind] = response.version
            self._answer(kind, response.nonce)
        self._follow()

    def _apply(self, kind: ResourceType, response: Response) -> bool:
        message = discovery_pb2.DiscoveryResponse.FromString(response.payload)
        bodies = [Body.parse(each.value, response.version) for each in message.resources]
        present = {body.name: body for body in bodies}
        assert len(present) == len(bodies), "a name twice"
        if any(body.bad for body in bodies) and kind not in (CLUSTER, LISTENER):
            return False
        gone = self.has[kind].keys() - present.keys() if kind.full_state else set()
        return self._set(kind, present.values(), gone)

    def _apply_delta(self, kind: ResourceType, response: Response) -> bool:
        message = discovery_pb2.DeltaDiscoveryResponse.FromString(response.payload)
        bodies = [Body.parse(each.resource.value, each.version) for each in message.resources]
        names = [*(body.name for body in bodies), *message.removed_resources]
        assert len(set(names)) == len(names), "a name twice"
        if any(body.bad for body in bodies) and kind not in (CLUSTER, LISTENER):
            return False
        return self._set(kind, bodies, message.removed_resources)

    def _set(self, kind: ResourceType, bodies: Iterable[Body], gone: Iterable[str]) -> bool:
        """Of clusters and listeners the good ones are applied, and the removals, even if some are
        bad.
        """
        has = self.has[kind]
        good = True
        for body in bodies:
            if body.bad:
                good = False
                continue
            before = has.get(body.name)
            if before is not None and before.revision != body.revision and kind is LISTENER:
                self.draining.append(_Draining(before, self._clock() + self._drain))
            if kind is VIRTUAL_HOST and body.name.partition("/")[0] not in self.has[ROUTE]:
                continue
            if kind is CLUSTER and before is not None and before.revision != body.revision:
                self._warm_anew(body.name)
            has[body.name] = body
        for name in tuple(gone):
            if kind is ROUTE and name in has and name in self._routes_needed():
                self.lost.add(name)
            before = has.pop(name, None)
            if before is not None and kind is LISTENER:
                self.draining.append(_Draining(before, self._clock() + self._drain))
        return good

    def _warm_anew(self, cluster: str) -> None:
        """A changed cluster has no endpoints; only on state of the world it is asked for them."""
        self.has[ENDPOINT].pop(cluster, None)
        if not self.delta and ENDPOINT in self._asked:
            self._answer(ENDPOINT, self._nonces.get(ENDPOINT, ""))

    # What it says

    def release(self) -> None:
        """Clusters are warm now: say so."""
        self.withholds = False
        if self._withheld:
            answers = self._withheld if self.delta else self._withheld[-1:]
            for response in answers:
                self._versions[CLUSTER] = response.version
                self._answer(CLUSTER, response.nonce)
            self._withheld.clear()

    def tick(self) -> None:
        """Time has passed: end what has drained."""
        self.draining = [each for each in self.draining if each.until > self._clock()]
        self._lose_unneeded()
        self._follow()

    def _answer(self, kind: ResourceType, nonce: str, error: str | None = None) -> None:
        names = frozenset() if self.delta else self._asked.get(kind, frozenset())
        self.uplink.append(Request(kind.type_url, names, nonce, error))

    def _follow(self) -> None:
        """Ask for the assignments of clusters and the routes of listeners, and no others."""
        self._want(ENDPOINT, frozenset(self.has[CLUSTER]))
        self._want(ROUTE, self._routes_needed())

    def _want(self, kind: ResourceType, names: frozenset[str]) -> None:
        before = self._asked.get(kind)
        if names == (before or frozenset()):
            return
        if before is None:
            self._first(kind, names)
        elif self.delta:
            self.uplink.append(Request(kind.type_url, names - before, unsubscribed=before - names))
        else:
            nonce = self._nonces.get(kind, "")
            self.uplink.append(Request(kind.type_url, names, nonce))
        self._asked[kind] = names

    def _routes_needed(self) -> frozenset[str]:
        return frozenset().union(*(each.routes for each in self._listening()))

    def _listening(self) -> list[Body]:
        return [*self.has[LISTENER].values(), *(each.listener for each in self.draining)]

    def _lose_unneeded(self) -> None:
        """Forget what nothing refers to any more."""
        for name in self.has[ENDPOINT].keys() - self.has[CLUSTER].keys():
            del self.has[ENDPOINT][name]
        for name in self.has[ROUTE].keys() - self._routes_needed():
            del self.has[ROUTE][name]
        hosts = self.has[VIRTUAL_HOST]
        for name in tuple(hosts):
            if name.partition("/")[0] not in self.has[ROUTE]:
                del hosts[name]

    # What would fail

    def wants(self, kind: ResourceType, name: str) -> bool:
        """Whether it has a use for a resource."""
        if kind is ENDPOINT:
            return name in self.has[CLUSTER]
        if kind is ROUTE:
            return name in self._routes_needed()
        return kind is not VIRTUAL_HOST or name.partition("/")[0] in self.has[ROUTE]

    def broken(self) -> set[str]:
        """Clusters that its listeners and routes send to, and that it does not have."""
        users = [*self._listening(), *self.has[ROUTE].values(), *self.has[VIRTUAL_HOST].values()]
        return set().union(*(each.clusters for each in users)) - self.has[CLUSTER].keys()
