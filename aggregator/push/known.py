"""What a client of a type has been sent: an immutable state, shared by all streams that went the
same way.

Streams of one view that start alike and get the same responses hold the very same objects, so a
state costs memory once, a transition is computed once, and the response's bytes hang on the
transition.
"""

from collections.abc import Iterable, Mapping
from typing import ClassVar, Final
from weakref import WeakValueDictionary

from msgspec import Struct

from aggregator.generators.spec import Resource, content_hash
from aggregator.push.layered import changed

Changes = tuple[tuple[str, Resource | None], ...]
"""Names in order, each with the resource that is sent, or None for a removal."""

UNKNOWN_VERSION: Final = ""
"""Of what a client may or may not have."""


class Known:
    """Names and resources, with a nonce that stands for the way that led here."""

    EMPTY: ClassVar["Known"]

    __slots__ = ("__weakref__", "_clusters", "_next", "_version", "nonce", "resources")

    def __init__(self, resources: Mapping[str, Resource], nonce: str = "") -> None:
        self.resources: Final = resources
        self.nonce: Final = nonce
        self._next: WeakValueDictionary[Changes, Known] | None = None
        self._clusters: frozenset[str] | None = None
        self._version: str | None = None

    @classmethod
    def of(cls, resources: Mapping[str, Resource]) -> "Known":
        """A state of its own, copied."""
        return cls(dict(resources))

    def apply(self, changes: Changes) -> "Known":
        """The state after a response with these changes; the same object whenever it is asked again
        while in use.
        """
        if self._next is None:
            self._next = WeakValueDictionary()
        after = self._next.get(changes)
        if after is None:
            resources = changed(self.resources, changes)
            parts = (f"{name}={each.version if each else ''}".encode() for name, each in changes)
            after = Known(resources, content_hash(self.nonce.encode(), *parts))
            self._next[changes] = after
        return after

    def changes_to(self, other: "Known") -> Changes:
        """What takes a client from this state to another one."""
        names = sorted(self.resources.keys() | other.resources.keys())
        pairs = [(name, self.resources.get(name), other.resources.get(name)) for name in names]
        return tuple((name, after) for name, before, after in pairs if before is not after)

    def has(self, name: str) -> bool:
        """Whether the client certainly has some version of it."""
        resource = self.resources.get(name)
        return resource is not None and resource.version != UNKNOWN_VERSION

    def without(self, names: Iterable[str]) -> "Known":
        """The state after the client gave these names up by itself, or may have lost them."""
        gone = frozenset(names) & self.resources.keys()
        return self.apply(tuple((name, None) for name in sorted(gone))) if gone else self

    @property
    def clusters(self) -> frozenset[str]:
        """All upstream clusters that these resources send to."""
        if self._clusters is None:
            self._clusters = frozenset().union(*(each.clusters for each in self.resources.values()))
        return self._clusters

    @property
    def version(self) -> str:
        """The content's hash: `version_info` of a state-of-the-world response that holds all of
        it.
        """
        if self._version is None:
            items = sorted(self.resources.items())
            self._version = content_hash(
                *(f"{name}={each.version};".encode() for name, each in items)
            )
        return self._version


Known.EMPTY = Known({})


class Response(Struct, frozen=True, eq=False):
    """One message, ready to be written to any stream that is in the same state."""

    type_url: str
    nonce: str
    version: str
    payload: bytes
    changes: Changes
    before: Known
    after: Known
