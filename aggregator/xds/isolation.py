"""Finds out what a client rejects, and what it gets instead, piece by piece.

A piece is a resource, or a part of one that was joined from parts (a virtual host in a route
table). Envoy seldom names the piece that it refuses, so groups of suspects are tried again by
halves; what is good gets through on the way.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping, Set
from typing import Final

from msgspec import Struct

from aggregator.generators.spec import Resource, ResourceType, Whole, join
from aggregator.push.known import UNKNOWN_VERSION, Changes, Known
from aggregator.xds.nack import named_culprits


class Rejection(Struct, frozen=True):
    """A piece that the client did not take, with its words."""

    type_url: str
    name: str
    version: str
    error: str
    origins: tuple[str, ...]


class Verdict(Struct, frozen=True):
    """What a rejection led to: the culprits found, and whether anything can be tried again."""

    rejections: tuple[Rejection, ...]
    suspects: bool


class Isolation:
    """What one client has rejected of one type, and what is still under suspicion."""

    def __init__(self, kind: ResourceType, *, delta: bool, trial_seconds: float) -> None:
        self.rejected: Final[dict[str, dict[str, Rejection]]] = {}
        self.trial_until = math.inf
        self._kind: Final = kind
        self._delta: Final = delta
        self._trial_seconds: Final = trial_seconds
        self._fallback: Final[dict[str, Resource | None]] = {}
        self._groups: Final[deque[frozenset[str]]] = deque()
        self._owners: Final[dict[str, str]] = {}
        self._due: frozenset[str] = frozenset()

    @property
    def active(self) -> bool:
        """Whether this client gets anything else than the view has."""
        return bool(self.rejected or self._groups)

    # What the client says

    def blame(self, accepted: Known, changes: Changes, error: str) -> Verdict:
        """The client refused a response with these changes to what it had *accepted*.

        Guilty is what the error names, what was found guilty before, or who is suspected alone;
        otherwise the suspects are halved.
        """
        suspects = self._suspects(accepted, changes)
        convicted = {
            name for name, piece in suspects.items() if piece.version in self.rejected.get(name, {})
        }
        culprits = convicted.union(named_culprits(self._kind, suspects, error))
        if not culprits and len(suspects) == 1:
            culprits = set(suspects)
        rejections: list[Rejection] = []
        for name in sorted(culprits - convicted):
            piece = suspects[name]
            rejection = Rejection(self._kind.type_url, name, piece.version, error, piece.origins)
            self.rejected.setdefault(name, {})[piece.version] = rejection
            rejections.append(rejection)
        self._divide(suspects, culprits)
        return Verdict(tuple(rejections), bool(suspects))

    def took(self, changes: Changes) -> None:
        """The client took these."""
        if not self._fallback and not self._groups:
            return
        taken: set[str] = set()
        for name, resource in changes:
            if resource is None:
                if self._fallback.get(name) is not None:
                    self._clear(name)
                continue
            for piece, content in pieces_of(resource).items():
                taken.add(piece)
                self._well_again(piece, content)
        if self._groups and self._groups[0] & taken:
            self._next_trial()

    def sent(self, changes: Changes, now: float) -> None:
        """A response went out; if it holds the group on trial, its time runs."""
        if self._groups and any(
            not self._groups[0].isdisjoint(pieces_of(resource))
            for _, resource in changes
            if resource is not None
        ):
            self.trial_until = now + self._trial_seconds

    def due(self, now: float) -> frozenset[str]:
        """The resources that are to be tried now.

        A trial that was not refused in time counts as taken: refusals come at once,
        acknowledgements may wait for warmth.
        """
        if self._groups and now >= self.trial_until:
            self._next_trial()
        due, self._due = self._due, frozenset()
        return due

    def forget(self, names: Iterable[str]) -> None:
        """These resources are gone, or the client has no use for them any more."""
        if self._owners:
            gone = frozenset(names)
            self._forget({piece for piece, owner in self._owners.items() if owner in gone})

    # What the client gets

    def choose(self, want: Resource) -> tuple[bool, Resource | None]:
        """What the client should have instead of *want*; the first value is False if it is left as
        it is.
        """
        whole = want.whole
        if whole is None:
            return self._settle(want, self._pick(want.name, want))
        head = self._pick(want.name, whole.head)
        if head is None or not head.any_field:
            return self._settle(want, head)
        if self._owners:
            present = {want.name, *(part.name for part in whole.parts)}
            owners = self._owners.items()
            self._forget({piece for piece, owner in owners if owner == want.name} - present)
        picked = (self._pick(part.name, part) for part in whole.parts)
        parts = tuple(part for part in picked if part is not None)
        if head is whole.head and parts == whole.parts:
            return True, want
        return True, join(self._kind, want.name, Whole(head, parts, whole.field))

    def _settle(self, want: Resource, picked: Resource | None) -> tuple[bool, Resource | None]:
        if picked is not None and picked.any_field:
            return True, picked
        # A state-of-the-world response leaves out what has no accepted version, and so removes it.
        # On delta a client keeps what it had before this stream. It may be told to remove what it
        # refused; what is only suspected is left as it is.
        refused = picked is None and want.name in self.rejected
        return self._kind.full_state and (refused or not self._delta), None

    def _pick(self, name: str, piece: Resource) -> Resource | None:
        trial = self._on_trial(name)
        refused = piece.version in self.rejected.get(name, {})
        if trial is True or (trial is None and not refused):
            return piece
        return self._fallback.get(name)

    # The search

    def _suspects(self, accepted: Known, changes: Changes) -> dict[str, Resource]:
        """The pieces that differ from what the client had accepted, which is noted as what it gets
        instead.
        """
        suspects: dict[str, Resource] = {}
        for name, resource in changes:
            if resource is None or resource.version == UNKNOWN_VERSION:
                continue
            last = accepted.resources.get(name)
            before = pieces_of(last) if last is not None else {}
            for piece, content in pieces_of(resource).items():
                good = self._fallback[piece] if piece in self._fallback else before.get(piece)
                if good is None or good.version != content.version:
                    suspects[piece] = content
                    self._fallback[piece] = good
                    self._owners[piece] = name
        return suspects

    def _divide(self, suspects: Mapping[str, Resource], culprits: set[str]) -> None:
        """Put unnamed suspects into groups that are tried one after the other."""
        groups = [group - suspects.keys() for group in self._groups]
        self._groups.clear()
        if not culprits and suspects:
            names = sorted(suspects)
            middle = (len(names) + 1) // 2
            groups[:0] = [frozenset(names[:middle]), frozenset(names[middle:])]
        self._groups.extend(group for group in groups if group)
        self._begin_trial()

    def _begin_trial(self) -> None:
        self.trial_until = math.inf
        if self._groups:
            self._due |= {self._owners[piece] for piece in self._groups[0]}

    def _next_trial(self) -> None:
        self._groups.popleft()
        self._begin_trial()

    def _forget(self, pieces: Set[str]) -> None:
        """Drop pieces from the search; a trial that waited for them alone is over."""
        if not pieces:
            return
        for piece in pieces:
            self._clear(piece)
            del self._owners[piece]
        if self._groups:
            on_trial = self._groups[0]
            left = [group - pieces for group in self._groups]
            self._groups.clear()
            self._groups.extend(group for group in left if group)
            if not on_trial - pieces:
                self._begin_trial()

    def _on_trial(self, piece: str) -> bool | None:
        """Whether a piece under suspicion has its turn; None if it is not under suspicion."""
        for position, group in enumerate(self._groups):
            if piece in group:
                return position == 0
        return None

    def _well_again(self, piece: str, content: Resource) -> None:
        """A piece was taken: if it is not just what stands in for a refused version, it needs no
        stand-in.
        """
        if piece not in self._fallback:
            return
        stand_in = self._fallback[piece]
        if stand_in is not None and stand_in.version == content.version:
            return
        trial = self._on_trial(piece)
        if trial is None:
            self.rejected.pop(piece, None)
        if trial is not False:
            del self._fallback[piece]

    def _clear(self, piece: str) -> None:
        self.rejected.pop(piece, None)
        self._fallback.pop(piece, None)


def pieces_of(resource: Resource) -> dict[str, Resource]:
    """The pieces that a client may refuse apart, by name; the head of a whole has the whole's
    name.
    """
    if resource.whole is None:
        return {resource.name: resource}
    return {resource.name: resource.whole.head} | {each.name: each for each in resource.whole.parts}
