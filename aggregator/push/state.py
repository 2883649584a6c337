"""What every proxy of one view gets at this moment: resources by type, kept up to date unit by
unit.
"""

from collections.abc import Mapping
from typing import Final
from typing import Protocol as Interface

from msgspec import Struct

from aggregator.generators.spec import (
    GeneratorSpec,
    Resource,
    ResourceType,
    Unit,
    Whole,
    join,
)
from aggregator.push.known import Known
from aggregator.push.unit import Built
from aggregator.push.view import ViewKey

Place = tuple[GeneratorSpec, Unit]
"""Which generator's unit."""

ViewDiff = Mapping[str, frozenset[str]]
"""Names that changed, by type URL."""


class Cause(Struct, frozen=True):
    """Why a push happened: when its first change came in, and which registries told of it.

    `registries` is empty where settings changed, or a client asked.
    """

    at: float
    registries: frozenset[str] = frozenset()


class Subscriber(Interface):
    """A stream that follows a view."""

    def view_changed(self, diff: ViewDiff, cause: Cause) -> None:
        """These names differ now; called from the event loop, must only take note."""

    def view_moved(self, view: "ViewState") -> None:
        """The proxy belongs to another view from now on."""


Content = tuple[int, int]
"""Stands for the resources of one type: how many, and a sum over their names and versions."""

EMPTY_CONTENT: Final[Content] = (0, 0)
_SUM: Final = 2**128


def _print_of(resource: Resource) -> int:
    """128 bits that nobody outside this process can foresee.

    Of strings and not of pairs: the hash of a pair is so nearly a sum of its parts' that two
    resources which swap their versions would often leave the sum as it was.
    """
    name, version = resource.name, resource.version
    return hash(f"{name} {version}") << 64 ^ hash(f"{version} {name}")


class _TypeState:
    """The resources of one type, and who made each."""

    __slots__ = ("changed", "contested", "digest", "owners", "resources", "snapshot")

    def __init__(self) -> None:
        self.digest = 0
        self.resources: dict[str, Resource] = {}
        self.owners: dict[str, Place] = {}
        self.contested: dict[str, set[Place]] = {}
        self.changed: set[str] = set()
        self.snapshot: Known | None = None

    def copy(self) -> "_TypeState":
        """The same, to go its own way."""
        copy = _TypeState()
        copy.digest = self.digest
        copy.resources = dict(self.resources)
        copy.owners = dict(self.owners)
        copy.contested = {name: set(claims) for name, claims in self.contested.items()}
        copy.snapshot = self.snapshot
        return copy


class _Holdings:
    """All resources of a view, and those that are joined into wholes: heads by name, and parts by
    whole and name.
    """

    __slots__ = ("heads", "parts", "types")

    def __init__(self) -> None:
        self.types: dict[str, _TypeState] = {}
        self.heads: dict[str, Resource] = {}
        self.parts: dict[str, dict[str, Resource]] = {}

    def copy(self) -> "_Holdings":
        """The same, to go its own way."""
        copy = _Holdings()
        copy.types = {type_url: state.copy() for type_url, state in self.types.items()}
        copy.heads = dict(self.heads)
        copy.parts = {whole: dict(parts) for whole, parts in self.parts.items()}
        return copy


class ViewState:
    """The resources of one view, with the units that they come from."""

    def __init__(
        self, key: ViewKey, specs: tuple[GeneratorSpec, ...], holds: _Holdings | None = None
    ) -> None:
        self.key: Final = key
        self.specs: Final = specs
        self.units: Final[dict[Place, Built]] = {}
        self.subscribers: Final[set[Subscriber]] = set()
        self.idle_since: float | None = None
        self._holds: Final = holds or _Holdings()
        # Where a client cannot take parts one by one: heads and parts, by the name of the whole.
        self._whole_of: Final = {
            spec.kind.type_url: spec for spec in specs if spec.part_of is not None and not key.vhds
        }
        self._wholes: Final = frozenset(
            spec.part_of.type_url for spec in self._whole_of.values() if spec.part_of is not None
        )
        self._wholes_changed: Final[set[str]] = set()

    def branch(self, key: ViewKey) -> "ViewState":
        """A view of another key that has all that this one has, and goes its own way."""
        view = ViewState(key, self.specs, self._holds.copy())
        view.units.update(self.units)
        for built in self.units.values():
            built.views.add(view)
        return view

    # What streams read

    def resource(self, type_url: str, name: str) -> Resource | None:
        """The present resource of that name."""
        state = self._holds.types.get(type_url)
        return state.resources.get(name) if state else None

    def content(self, type_url: str) -> Content:
        """Equal for views, at whatever time, that have the same resources of a type."""
        state = self._holds.types.get(type_url)
        return (len(state.resources), state.digest) if state else EMPTY_CONTENT

    def snapshot(self, type_url: str) -> Known:
        """All resources of a type as one immutable state, the same object until something
        changes.
        """
        state = self._holds.types.get(type_url)
        if state is None:
            return Known.EMPTY
        if state.snapshot is None:
            state.snapshot = Known.of(state.resources)
        return state.snapshot

    # What the engine writes

    def install(self, spec: GeneratorSpec, unit: Unit, built: Built | None) -> Built | None:
        """Put a built unit in the place of what was there, which is returned; None takes the unit
        away.
        """
        place = (spec, unit)
        old = self.units.pop(place, None)
        if built is not None:
            self.units[place] = built
            built.views.add(self)
        before: Mapping[str, Resource] = old.resources if old else {}
        after: Mapping[str, Resource] = built.resources if built else {}
        for name in before.keys() | after.keys():
            resource = after.get(name)
            if before.get(name) is not resource:
                self._set(spec.kind.type_url, name, place, resource)
        return old

    def finish(self) -> ViewDiff:
        """Join the wholes whose parts changed, and return what differs since the last call."""
        for spec in self._whole_of.values():
            if spec.part_of is not None:
                for name in self._wholes_changed:
                    self._store(spec.part_of.type_url, name, self._join(spec.part_of, spec, name))
        self._wholes_changed.clear()
        diff: dict[str, frozenset[str]] = {}
        for type_url, state in self._holds.types.items():
            if state.changed:
                diff[type_url] = frozenset(state.changed)
                state.changed = set()
                state.snapshot = None
        return diff

    def _set(self, type_url: str, name: str, place: Place, resource: Resource | None) -> None:
        """Give a unit its say on a name. Where several claim one, the first in their order has it,
        on every replica.
        """
        state = self._type(type_url)
        owner = state.owners.get(name)
        claims = state.contested.get(name)
        if claims is not None or owner not in (None, place):
            claims = (claims or ({owner} if owner else set())) - {place}
            if resource is not None:
                claims.add(place)
            if len(claims) > 1:
                state.contested[name] = claims
            else:
                state.contested.pop(name, None)
            winner = min(claims, key=self._claim_order, default=place)
            if winner != place:
                place, resource = winner, self.units[winner].resources[name]
        if resource is None:
            state.owners.pop(name, None)
        else:
            state.owners[name] = place
        self._route(type_url, name, resource)

    def _claim_order(self, place: Place) -> tuple[str, str, int]:
        spec, unit = place
        return (unit.root, unit.key, self.specs.index(spec))

    def _type(self, type_url: str) -> _TypeState:
        state = self._holds.types.get(type_url)
        if state is None:
            state = self._holds.types[type_url] = _TypeState()
        return state

    def _route(self, type_url: str, name: str, resource: Resource | None) -> None:
        if type_url in self._whole_of:
            group = name.rpartition("/")[0]
            parts = self._holds.parts.setdefault(group, {})
            if resource is None:
                parts.pop(name, None)
            else:
                parts[name] = resource
            if not parts:
                del self._holds.parts[group]
            self._wholes_changed.add(group)
        elif type_url in self._wholes:
            if resource is None:
                self._holds.heads.pop(name, None)
            else:
                self._holds.heads[name] = resource
            self._wholes_changed.add(name)
        else:
            self._store(type_url, name, resource)

    def _store(self, type_url: str, name: str, resource: Resource | None) -> None:
        state = self._type(type_url)
        before = state.resources.get(name)
        if resource is None:
            if before is None:
                return
            del state.resources[name]
        else:
            if before is not None and before.version == resource.version:
                return
            state.resources[name] = resource
            state.digest += _print_of(resource)
        if before is not None:
            state.digest -= _print_of(before)
        state.digest %= _SUM
        state.changed.add(name)

    def _join(self, whole: ResourceType, spec: GeneratorSpec, name: str) -> Resource | None:
        head = self._holds.heads.get(name)
        if head is None:
            return None
        parts = tuple(part for _, part in sorted(self._holds.parts.get(name, {}).items()))
        return join(whole, name, Whole(head, parts, spec.part_field))
