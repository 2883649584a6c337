"""What one client is subscribed to of one type, has, and must get next. No I/O: takes requests
and times. Knows nothing of the other types; what holds between them is the session's.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from aggregator.generators.spec import (
    ENDPOINT,
    Resource,
    ResourceType,
)
from aggregator.push.known import UNKNOWN_VERSION, Changes, Known, Response
from aggregator.push.state import ViewState
from aggregator.xds.isolation import Isolation, Rejection
from aggregator.xds.message import (
    empty_assignment,
    unknown,
)

NOTHING: Final[frozenset[str]] = frozenset()
UNANSWERED: Final = 16
"""How many responses without an answer are told apart; a client may withhold answers for hours."""


class Sent(Struct, eq=False):
    """A response that is not acknowledged yet, without its bytes; the oldest may stand for all
    that went before it.
    """

    nonce: str
    version: str
    changes: Changes
    before: Known
    after: Known
    changed_at: float
    registries: frozenset[str]


class Subscription:
    """One type on one stream."""

    def __init__(self, kind: ResourceType, *, delta: bool, trial_seconds: float) -> None:
        self.kind: Final = kind
        self.delta: Final = delta
        self.wildcard = False
        self.names: frozenset[str] = NOTHING
        self.said: frozenset[str] = NOTHING
        self.known = Known.EMPTY
        self.taken = Known.EMPTY
        self.everything_dirty = False
        self.dirty: frozenset[str] = NOTHING
        self.forced: frozenset[str] = NOTHING
        self.owed = False
        # On state of the world no names mean everything only until the first name is given.
        self.has_named = False
        # Whether it once had all that there was: from then on it has traffic to protect.
        self.booted = False
        self.fresh = False
        self.changed_at = 0.0
        self.registries: frozenset[str] = NOTHING
        self.pending: Final[deque[Sent]] = deque()
        # What it rejected, and has not acknowledged since: it may have the one or the other.
        self.doubtful: frozenset[str] = NOTHING
        self.isolation: Final = Isolation(kind, delta=delta, trial_seconds=trial_seconds)
        # For people: what was sent and answered last.
        self.nonce_sent = ""
        self.nonce_acked = ""
        self.version_acked = ""
        self.sent_at = 0.0
        self.acked_at = 0.0
        self.last_error = ""
        self.nacks = 0

    @property
    def complete(self) -> bool:
        """Whether each response holds all that the client is to have."""
        return self.kind.full_state and not self.delta

    @property
    def has_work(self) -> bool:
        """Whether something may have to be sent."""
        return bool(self.everything_dirty or self.dirty or self.owed)

    @property
    def unacknowledged(self) -> bool:
        """Whether a response is still to be answered."""
        return bool(self.pending)

    def mark(self, names: frozenset[str], now: float, registries: frozenset[str] = NOTHING) -> None:
        """These may differ since *now*, by the word of *registries*."""
        self._note_change(now)
        if registries is not self.registries:
            self.registries = self.registries | registries if self.registries else registries
        self.dirty = self.dirty | names if self.dirty else names

    def mark_everything(self, now: float) -> None:
        """Anything may differ now."""
        self._note_change(now)
        self.everything_dirty = True

    def _note_change(self, now: float) -> None:
        if not self.fresh:
            self.fresh = True
            self.changed_at = now

    def wants(self, name: str) -> bool:
        """Whether the client asked for it."""
        return self.wildcard or name in self.names

    def wanted(self, view: ViewState, name: str) -> Resource | None:
        """What the view has for the client, if it asked."""
        if not self.wants(name):
            return None
        resource = view.resource(self.kind.type_url, name)
        if resource is None and self.kind is ENDPOINT and name in self.names:
            # One that it has stays as it is: its cluster goes away, but may still be in use.
            have = self.known.resources.get(name)
            known = have is not None and have.version != UNKNOWN_VERSION
            return have if known else empty_assignment(name)
        return resource

    def resume(self, known: Known) -> None:
        """The client said what it has."""
        self.known = self.taken = known
        self.booted = True

    def forget(self, names: Iterable[str]) -> None:
        """The client dropped these by itself."""
        gone = frozenset(names)
        self.known = self.known.without(gone)
        self.dirty -= gone
        self.forced -= gone
        self.isolation.forget(gone)

    def may_have_lost(self, names: Iterable[str], now: float) -> None:
        """The client may or may not have these: they are sent again, removals too."""
        last = self.taken.resources if self.complete else {}
        lost = tuple(
            (name, unknown(name, self._clusters_of(name), last.get(name))) for name in sorted(names)
        )
        if lost:
            self.known = self.known.apply(lost)
            self.mark(frozenset(name for name, _ in lost), now)

    def _clusters_of(self, name: str) -> frozenset[str]:
        """The clusters to which any version that the client may have of it sends requests."""
        states = (self.known, *(sent.before for sent in self.pending))
        found = (state.resources.get(name) for state in states)
        return frozenset[str]().union(*(each.clusters for each in found if each is not None))

    def note_sent(self, response: Response, now: float) -> None:
        """The response goes out; it waits for its answer."""
        sent = Sent(
            response.nonce,
            response.version,
            response.changes,
            response.before,
            response.after,
            self.changed_at,
            self.registries,
        )
        self.known = response.after
        self.pending.append(sent)
        self.nonce_sent, self.sent_at = response.nonce, now
        self.fresh = False
        self.registries = NOTHING
        if len(self.pending) > UNANSWERED:
            oldest, second = self.pending.popleft(), self.pending[0]
            second.changes = tuple((dict(oldest.changes) | dict(second.changes)).items())
            second.before, second.changed_at = oldest.before, oldest.changed_at
            second.registries |= oldest.registries
        if self.forced:
            self.forced -= {name for name, _ in response.changes}
        self.isolation.sent(response.changes, now)

    # Answers

    def acknowledge(self, nonce: str, now: float) -> tuple[Sent, ...] | None:
        """The client took this response, and so all before it; None if it is not one that waits."""
        done = self._answered(nonce)
        if not done:
            return None
        for sent in done:
            self.isolation.took(sent.changes)
            if self.doubtful:
                self.doubtful -= {name for name, _ in sent.changes}
        self.taken = done[-1].after
        if not self.pending and not self.dirty:
            self.booted = True
        self.nonce_acked, self.acked_at = nonce, now
        self.version_acked = done[-1].version
        if not self.isolation.active:
            self.last_error = ""
        return done

    def reject(self, nonce: str, error: str, now: float) -> tuple[Rejection, ...] | None:
        """The client refused this response, or a part of it; None if it is not one that waits.

        All that the response held counts as unknown until it is acknowledged, for a client applies
        a part of what it rejects.
        """
        sent = next((each for each in self.pending if each.nonce == nonce), None)
        if sent is None:
            return None
        self.nacks += 1
        self.last_error = error
        if self.complete:
            # It held everything, and so also what the client refused before.
            accepted, changes = self.taken, self.taken.changes_to(sent.after)
        else:
            accepted, changes = self.pending[0].before, sent.changes
        verdict = self.isolation.blame(accepted, changes, error)
        names = frozenset(name for name, _ in changes)
        if verdict.suspects:
            self.may_have_lost(names, now)
            self.doubtful |= names
        # Only now, for what went before tells which clusters may be in use.
        self._answered(nonce)
        return verdict.rejections

    def _answered(self, nonce: str) -> tuple[Sent, ...]:
        """Take off the response with that nonce and those before it; none if it is not there."""
        count = next((n for n, sent in enumerate(self.pending, 1) if sent.nonce == nonce), 0)
        return tuple(self.pending.popleft() for _ in range(count))

    def go_on_searching(self, now: float) -> None:
        """Take up what is to be tried now to find out what the client rejects."""
        due = self.isolation.due(now)
        if due:
            self.mark(due, now)

    @property
    def simple(self) -> bool:
        """Whether what to send follows from the view and the known state alone."""
        return not (self.forced or self.isolation.active)
