"""One client: its subscriptions, and the order between them, in either protocol variant. No I/O.

The order of sending (make, warm, switch, drain, break) lives here; what a real Envoy does, and so
why, is in docs/xds.md.
"""

import math
from collections.abc import Mapping, Set
from typing import Final

from msgspec import Struct

from aggregator.generators.spec import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    VIRTUAL_HOST,
    Resource,
    ResourceType,
)
from aggregator.model.errors import StreamError
from aggregator.push.known import Changes, Known, Response
from aggregator.push.state import Cause, ViewDiff, ViewState
from aggregator.xds.cache import Plan, PlanCache
from aggregator.xds.isolation import Rejection
from aggregator.xds.message import (
    Request,
    announced,
    encode_response,
)
from aggregator.xds.subscription import NOTHING, Sent, Subscription

WILDCARD: Final = "*"
SENDS_TO_CLUSTERS: Final = (LISTENER, ROUTE, VIRTUAL_HOST)


class Waits(Struct, frozen=True):
    """Bounds of waiting, in seconds: for a new cluster to be warm, between streams that cannot be
    ordered, for a trial's answer.
    """

    warm: float = 15.0
    separate: float = 1.0
    trial: float = 1.0


class Converged(Struct, frozen=True):
    """An acknowledged response: how many seconds after the first change in it, and which registries
    told of one.
    """

    kind: ResourceType
    seconds: float
    registries: frozenset[str]


class Session:
    """One stream: its subscriptions, and the order between them."""

    def __init__(
        self,
        types: Mapping[str, ResourceType],
        *,
        delta: bool,
        aggregated: bool,
        waits: Waits,
        cache: PlanCache,
        chunk: int,
    ) -> None:
        self._types: Final = types
        self.delta: Final = delta
        self.aggregated: Final = aggregated
        self._waits: Final = waits
        self._cache: Final = cache
        self._chunk: Final = chunk
        self._drain = 0.0
        self.view: ViewState | None = None
        self.subscriptions: Final[dict[str, Subscription]] = {}
        self._order: list[Subscription] = []
        self._cold: Final[dict[str, float]] = {}
        self._lingering: Final[dict[str, float]] = {}
        self._unsure_until = 0.0
        self._held_since: Final[dict[tuple[str, str], float]] = {}
        self._retry_at = math.inf
        self._looked_back = False
        # Whether this client ever rejected anything: only then is there something to find out.
        self._searching = False
        self._converged: list[Converged] = []
        self._expired: list[ResourceType] = []
        self.carried_over: dict[str, frozenset[str]] = {}

    def begin(self, *, drain: float) -> None:
        """The client said who it is: its listeners drain for so many seconds."""
        self._drain = drain

    def kind(self, type_url: str) -> ResourceType | None:
        """The row of the table of types."""
        return self._types.get(type_url)

    def take_converged(self) -> list[Converged]:
        """What was acknowledged since the last call."""
        converged, self._converged = self._converged, []
        return converged

    def take_expired(self) -> list[ResourceType]:
        """The types of requests since the last call that answered nothing which still counts."""
        expired, self._expired = self._expired, []
        return expired

    # Requests

    def receive(self, request: Request, now: float) -> tuple[Rejection, ...]:
        """Take a request in; returns what it rejects. Raises StreamError for a type that we do not
        have.
        """
        kind = self._types.get(request.type_url)
        if kind is None:
            message = f"unknown resource type {request.type_url!r}"
            raise StreamError(message)
        subscription = self.subscriptions.get(request.type_url)
        if subscription is None:
            subscription = Subscription(kind, delta=self.delta, trial_seconds=self._waits.trial)
            self.subscriptions[request.type_url] = subscription
            self._order = sorted(self.subscriptions.values(), key=lambda each: each.kind.order)
            self._begin(subscription, request, now)
            return ()
        rejections, stale = self._answer(subscription, request, now)
        if self.delta:
            # Most requests only acknowledge; copying thousands of names for each would cost most.
            if request.names or request.unsubscribed:
                self._change_names(subscription, request, now)
        elif request.names is not subscription.said:
            # What it asked for before it saw the newest response it says again with its answer;
            # what it gave up meanwhile it may ask for anew by then.
            said = subscription.said & request.names if stale else request.names
            self._replace_names(subscription, said, now)
        return rejections

    def _answer(
        self, subscription: Subscription, request: Request, now: float
    ) -> tuple[tuple[Rejection, ...], bool]:
        """Handle the nonce; the second value says that it is not the newest one."""
        if not request.nonce:
            return (), False
        stale = request.nonce != subscription.nonce_sent
        if request.error is not None:
            self._searching = True
            rejections = subscription.reject(request.nonce, request.error, now)
            if rejections is None:
                self._expired.append(subscription.kind)
            for rejection in rejections or ():
                # It will not get warm; what it had of it is.
                self._cold.pop(rejection.name, None)
            return rejections or (), stale
        done = subscription.acknowledge(request.nonce, now)
        if done is None:
            if stale:
                self._expired.append(subscription.kind)
            return (), stale
        for sent in done:
            seconds = now - sent.changed_at
            self._converged.append(Converged(subscription.kind, seconds, sent.registries))
            self._acknowledged(subscription, sent, now)
        return (), stale

    def _begin(self, subscription: Subscription, request: Request, now: float) -> None:
        kind = subscription.kind
        subscription.said = request.names
        subscription.has_named = bool(request.names)
        subscription.names = self._cache.names(request.names - {WILDCARD})
        subscription.wildcard = WILDCARD in request.names or (
            not request.names and (self.delta or kind.full_state)
        )
        subscription.mark_everything(now)
        subscription.owed = not request.versions
        if request.versions or request.version:
            # Its listeners may be draining since before.
            self._unsure_until = now + self._drain
        if request.versions:
            self._resume(subscription, request.versions)
        elif request.version and kind.full_state and subscription.wildcard:
            self._resume_full_state(subscription, request.version)
        lost = self.carried_over.pop(kind.type_url, NOTHING)
        if lost:
            subscription.may_have_lost(lost, now)

    def _resume(self, subscription: Subscription, versions: Mapping[str, str]) -> None:
        """A delta client came back and says what it has; equal versions are equal resources."""
        view = self._view()
        kind = subscription.kind
        # What it has in other versions may send to any cluster that it has.
        clusters = self.subscriptions.get(CLUSTER.type_url) if kind in SENDS_TO_CLUSTERS else None
        may_use = frozenset(clusters.known.resources) if clusters is not None else NOTHING
        resources: dict[str, Resource] = {}
        for name, version in versions.items():
            mine = subscription.wanted(view, name)
            same = mine is not None and mine.version == version
            resources[name] = (
                mine if same and mine is not None else announced(name, version, may_use)
            )
        subscription.resume(Known.of(resources))

    def _resume_full_state(self, subscription: Subscription, version: str) -> None:
        """A state-of-the-world client came back with exactly what it would get."""
        snapshot = self._view().snapshot(subscription.kind.type_url)
        if snapshot.version == version:
            subscription.resume(snapshot)
            subscription.owed = False
            subscription.everything_dirty = False

    def _change_names(self, subscription: Subscription, request: Request, now: float) -> None:
        """A delta client asks for more, or for less."""
        asked, given_up = request.names - {WILDCARD}, request.unsubscribed - {WILDCARD}
        before = subscription.names
        subscription.names = self._cache.changed_names(before, asked, given_up)
        self._set_wildcard(
            subscription,
            WILDCARD not in request.unsubscribed
            and (subscription.wildcard or WILDCARD in request.names),
            now,
        )
        if asked:
            # Asked again means needed again, whatever was sent before.
            subscription.may_have_lost(asked & subscription.known.resources.keys(), now)
            subscription.mark(asked, now)
            subscription.owed = True
        if subscription.wildcard:
            # It cannot know whether it still gets these, and so is told.
            subscription.may_have_lost(given_up & before, now)
        elif given_up:
            self._dropped(subscription, given_up)

    def _replace_names(self, subscription: Subscription, said: frozenset[str], now: float) -> None:
        """A state-of-the-world client lists all that it wants."""
        before = subscription.names
        subscription.said = said
        names = said - {WILDCARD}
        everything = subscription.wildcard and not before and not subscription.has_named
        subscription.has_named = subscription.has_named or bool(said)
        subscription.names = self._cache.names(names)
        self._set_wildcard(subscription, WILDCARD in said or (everything and not said), now)
        if names - before:
            subscription.mark(names - before, now)
            subscription.owed = True
        if before - names and not subscription.wildcard:
            self._dropped(subscription, before - names)

    def _set_wildcard(self, subscription: Subscription, wildcard: bool, now: float) -> None:
        if wildcard and not subscription.wildcard:
            subscription.wildcard = True
            subscription.owed = True
            subscription.mark_everything(now)
        elif subscription.wildcard and not wildcard:
            subscription.wildcard = False
            self._dropped(subscription, subscription.known.resources.keys() - subscription.names)

    def _dropped(self, subscription: Subscription, names: Set[str]) -> None:
        """The client needs these no more, and so perhaps not the clusters behind them."""
        subscription.forget(names)
        if subscription.kind is ROUTE:
            virtual_hosts = self.subscriptions.get(VIRTUAL_HOST.type_url)
            if virtual_hosts is not None:
                virtual_hosts.forget(
                    each for each in virtual_hosts.known.resources if _route_of(each) in names
                )

    # The view

    def view_changed(self, diff: ViewDiff, cause: Cause) -> None:
        """These names differ now."""
        for type_url, names in diff.items():
            subscription = self.subscriptions.get(type_url)
            if subscription is None:
                continue
            if not subscription.wildcard:
                names &= subscription.names
            if names:
                subscription.mark(names, cause.at, cause.registries)
        if ROUTE.type_url in diff:
            self._take_back(diff[ROUTE.type_url], cause.at)

    def _take_back(self, names: frozenset[str], now: float) -> None:
        """A route that comes back may still have virtual hosts from before it went, which stayed
        only because it was gone.
        """
        routes = self.subscriptions.get(ROUTE.type_url)
        virtual_hosts = self.subscriptions.get(VIRTUAL_HOST.type_url)
        if routes is None or virtual_hosts is None:
            return
        back = names & routes.known.resources.keys()
        if back:
            kept = virtual_hosts.known.resources
            virtual_hosts.mark(
                frozenset(name for name in kept if name.rpartition("/")[0] in back), now
            )

    def view_moved(self, view: ViewState, now: float) -> None:
        """Everything may differ now."""
        self.view = view
        for subscription in self._order:
            subscription.mark_everything(now)

    def _view(self) -> ViewState:
        if self.view is None:
            message = "the stream has no view yet"
            raise RuntimeError(message)
        return self.view

    # Sending

    def next_response(self, now: float) -> Response | None:
        """What is to be written now; it counts as sent."""
        self._retry_at = math.inf
        while self._cold and (first := next(iter(self._cold.items())))[1] <= now:
            del self._cold[first[0]]
        for subscription in self._order:
            if self._searching:
                subscription.go_on_searching(now)
            if subscription.has_work:
                response = self._respond(subscription, now)
                if response is not None:
                    self._sent(subscription, response, now)
                    return response
        return None

    @property
    def has_work(self) -> bool:
        """Whether `next_response` may have something now."""
        return self._searching or any(each.has_work for each in self._order)

    def wake_at(self) -> float:
        """When `next_response` is to be asked again though nothing happens; infinity for never."""
        if not self._searching:
            return self._retry_at
        trials = (each.isolation.trial_until for each in self._order)
        return min(self._retry_at, *trials, math.inf)

    def _respond(self, subscription: Subscription, now: float) -> Response | None:
        view = self._view()
        plan: Plan | None = None
        if subscription.simple and not self._order_matters(subscription):
            key = (
                view.content(subscription.kind.type_url),
                subscription.kind.type_url,
                self.delta,
                subscription.booted,
                id(subscription.known),
                None if subscription.wildcard else subscription.names,
                None if subscription.everything_dirty else subscription.dirty,
                subscription.owed,
            )
            plan = self._cache.get(key)
            if plan is None:
                self._looked_back = False
                plan = self._plan(subscription, view, now)
                if not self._looked_back:
                    self._cache.put(key, plan)
        else:
            plan = self._plan(subscription, view, now)
        subscription.everything_dirty = False
        subscription.dirty = plan.rest
        unanswered = plan.response is None and bool(plan.rest)
        subscription.owed = subscription.owed and (plan.cut or unanswered)
        return plan.response

    def _order_matters(self, subscription: Subscription) -> bool:
        """Whether this stream's own history may decide what goes now.

        Where a resource goes away it may too, which the plan itself finds out.
        """
        if subscription.kind in SENDS_TO_CLUSTERS:
            return bool(self._cold) or not self.aggregated
        return False

    def _plan(self, subscription: Subscription, view: ViewState, now: float) -> Plan:
        """The next response, if any, and the names that must wait."""
        known = subscription.known.resources
        changes: list[tuple[str, Resource | None]] = []
        waiting: set[str] = set()
        late: set[str] = set()
        size = 0
        cut = False
        names = self._candidates(subscription, view)
        for position, name in enumerate(names):
            have = known.get(name)
            settled, want = self._choose(subscription, view, name)
            if not settled:
                continue
            if want is None:
                if have is None and not (
                    self.delta and subscription.owed and name in subscription.names
                ):
                    continue
                if have is not None and self._must_keep(subscription, view, name, now):
                    waiting.add(name)
                    continue
                if have is not None and self._orphaned(subscription, view, name):
                    continue
            elif have is not None and _suffices(have, want, forced=name in subscription.forced):
                continue
            elif self._must_wait(subscription, name, have, want, now):
                waiting.add(name)
                if have is None:
                    late.add(name)
                continue
            elif self.delta and size and size + len(want.any_field) > self._chunk:
                # The rest is looked at when its turn comes: a large mesh must not be walked anew
                # for each chunk.
                waiting.update(names[position:])
                cut = True
                break
            changes.append((name, want))
            size += len(want.any_field) if want else 0
        if late:
            held = _replaced_by(subscription.kind, late, changes)
            changes = [change for change in changes if change[0] not in held]
            waiting |= held
        if self._held_since:
            self._end_holds(subscription.kind, waiting)
        rest = frozenset(waiting)
        if not changes and not (subscription.owed and not waiting):
            return Plan(subscription.known, None, rest)
        return Plan(subscription.known, self._encode(subscription, tuple(changes)), rest, cut)

    def _encode(self, subscription: Subscription, changes: Changes) -> Response:
        """The bytes: the same object for every stream that goes this way from the same state."""
        kind = subscription.kind
        key = (kind.type_url, self.delta, id(subscription.known), changes)
        plan = self._cache.get(key)
        if plan is not None and plan.response is not None:
            return plan.response
        response = encode_response(
            kind.type_url,
            subscription.known,
            changes,
            delta=self.delta,
            full_state=kind.full_state,
        )
        self._cache.put(key, Plan(subscription.known, response, NOTHING))
        return response

    def _candidates(self, subscription: Subscription, view: ViewState) -> list[str]:
        type_url = subscription.kind.type_url
        if subscription.everything_dirty:
            found: set[str] = set(subscription.names)
            found.update(subscription.known.resources)
            if subscription.wildcard:
                found.update(view.snapshot(type_url).resources)
            names = sorted(found)
        else:
            names = sorted(subscription.dirty)
        if self.delta and subscription.booted and subscription.kind in (LISTENER, VIRTUAL_HOST):
            # What goes makes room for what may come in a later chunk: an address, a domain.
            names.sort(key=lambda name: view.resource(type_url, name) is not None)
        return names

    def _choose(
        self, subscription: Subscription, view: ViewState, name: str
    ) -> tuple[bool, Resource | None]:
        """What the client should have, given what it rejected; the first value is False if it is
        left as it is.
        """
        want = subscription.wanted(view, name)
        if want is None:
            subscription.isolation.forget((name,))
        if want is None or subscription.simple:
            return True, want
        return subscription.isolation.choose(want)

    def _must_keep(
        self, subscription: Subscription, view: ViewState, name: str, now: float
    ) -> bool:
        """Whether a cluster may still be in use: by a route or listener that the client has, or
        while listeners drain.
        """
        if subscription.kind is not CLUSTER or view.resource(CLUSTER.type_url, name) is not None:
            return False
        self._looked_back = True
        if not self.aggregated:
            return self._hold(CLUSTER.type_url, name, now, self._drain)
        for kind in SENDS_TO_CLUSTERS:
            other = self.subscriptions.get(kind.type_url)
            if other is not None and (
                name in other.known.clusters
                or any(name in sent.before.clusters for sent in other.pending)
            ):
                return True
        until = max(self._lingering.get(name, 0.0), self._unsure_until)
        if now < until:
            self._retry_at = min(self._retry_at, until)
            return True
        return False

    def _orphaned(self, subscription: Subscription, view: ViewState, name: str) -> bool:
        """Whether a route lost its listener, which may still be draining on it: it stays until the
        client gives it up.
        """
        if subscription.kind is ROUTE:
            return name in subscription.names
        if subscription.kind is VIRTUAL_HOST:
            self._looked_back = True
            group = _route_of(name)
            routes = self.subscriptions.get(ROUTE.type_url)
            return (
                routes is not None
                and group in routes.known.resources
                and view.resource(ROUTE.type_url, group) is None
            )
        return False

    def _must_wait(
        self,
        subscription: Subscription,
        name: str,
        have: Resource | None,
        want: Resource,
        now: float,
    ) -> bool:
        """Whether it would send requests to a cluster that the client does not have warm."""
        if subscription.kind not in SENDS_TO_CLUSTERS:
            return False
        if not self.aggregated:
            unasked = subscription.wildcard and subscription.booted
            added = want.clusters - (have.clusters if have is not None else NOTHING)
            if not added or (have is None and not unasked):
                return False
            return self._hold(subscription.kind.type_url, name, now, self._waits.separate)
        if not self._cold:
            return False
        until = max((self._cold.get(each, 0.0) for each in want.clusters), default=0.0)
        if now < until:
            self._retry_at = min(self._retry_at, until)
            return True
        return False

    def _hold(self, type_url: str, name: str, now: float, seconds: float) -> bool:
        """Wait so long from the first time that this is asked."""
        until = self._held_since.setdefault((type_url, name), now) + seconds
        if now < until:
            self._retry_at = min(self._retry_at, until)
            return True
        return False

    def _end_holds(self, kind: ResourceType, waiting: Set[str]) -> None:
        """What waits no longer will wait anew the next time."""
        for key in tuple(self._held_since):
            if key[0] == kind.type_url and key[1] not in waiting:
                del self._held_since[key]

    def _sent(self, subscription: Subscription, response: Response, now: float) -> None:
        """Note what follows from a response for the other types."""
        before = subscription.known
        subscription.note_sent(response, now)
        if subscription.kind is CLUSTER:
            self._clusters_sent(subscription, before, response, now)
        elif subscription.kind is ROUTE:
            self._routes_sent(before, response.changes, now)

    def _clusters_sent(
        self, subscription: Subscription, before: Known, response: Response, now: float
    ) -> None:
        assignments = self.subscriptions.get(ENDPOINT.type_url)
        has_endpoints = assignments.known.resources if assignments is not None else {}
        if not subscription.booted and not has_endpoints and not self._lingering:
            return
        again: set[str] = set()
        for name, resource in response.changes:
            if resource is None:
                self._lingering.pop(name, None)
                continue
            if subscription.booted and not before.has(name):
                # Taken out first, so that those whose time is over first come first.
                self._cold.pop(name, None)
                self._cold[name] = now + self._waits.warm
            if name in has_endpoints:
                again.add(name)
        if assignments is not None and again:
            # A changed cluster warms anew and needs its endpoints, though they are the same and a
            # delta client does not ask.
            assignments.forced |= again
            assignments.mark(frozenset(again), now)

    def _routes_sent(self, before: Known, changes: Changes, now: float) -> None:
        virtual_hosts = self.subscriptions.get(VIRTUAL_HOST.type_url)
        if virtual_hosts is None:
            return
        fresh = {name for name, each in changes if each is not None and not before.has(name)}
        if fresh:
            # Envoy ignored the virtual hosts of a route that it did not have, and does not ask for
            # them.
            present = self._view().snapshot(VIRTUAL_HOST.type_url).resources
            has = virtual_hosts.known.resources
            again = frozenset(name for name in (*present, *has) if _route_of(name) in fresh)
            virtual_hosts.may_have_lost(again & has.keys(), now)
            virtual_hosts.mark(again, now)

    def _acknowledged(self, subscription: Subscription, sent: Sent, now: float) -> None:
        if subscription.kind is CLUSTER:
            if self._cold:
                for name, _ in sent.changes:
                    self._cold.pop(name, None)
        elif subscription.kind is LISTENER:
            for cluster in _dropped_clusters(sent):
                self._lingering[cluster] = now + self._drain

    def left_unknown(self) -> dict[str, frozenset[str]]:
        """Names that this client may or may not have, by type: its next stream must not believe
        their versions.
        """
        doubtful = {
            type_url: subscription.doubtful for type_url, subscription in self.subscriptions.items()
        }
        return {
            type_url: names for type_url, names in (self.carried_over | doubtful).items() if names
        }


def _suffices(have: Resource, want: Resource, *, forced: bool) -> bool:
    """Whether nothing need be sent. What was only announced is sent again once it is wanted, to
    know what it leads to.
    """
    if forced:
        return not want.any_field
    return have is want or (have.version == want.version and bool(have.any_field))


def _route_of(virtual_host: str) -> str:
    return virtual_host.rpartition("/")[0]


def _place(kind: ResourceType, name: str) -> str:
    """Within what a resource's address or domains must be its own."""
    return _route_of(name) if kind is VIRTUAL_HOST else ""


def _replaced_by(
    kind: ResourceType, late: set[str], changes: list[tuple[str, Resource | None]]
) -> set[str]:
    """Removals that wait for what may take their place: a listener at the same address, a virtual
    host with the same domains. In between nobody would be served.
    """
    if kind is ROUTE:
        return set()
    places = {_place(kind, name) for name in late}
    return {name for name, want in changes if want is None and _place(kind, name) in places}


def _dropped_clusters(sent: Sent) -> set[str]:
    """Clusters that listeners referred to and, with what was sent, do not any more."""
    dropped: set[str] = set()
    for name, resource in sent.changes:
        old = sent.before.resources.get(name)
        if old is not None:
            dropped |= old.clusters - (resource.clusters if resource else NOTHING)
    return dropped
