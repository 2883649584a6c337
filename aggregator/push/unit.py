"""Built units, who shares them, and what they read: the memory of all work done.

A unit built for one view serves every other view that would answer its questions alike; a change
invalidates exactly the built units that read one of the touched facts.
"""

from collections import Counter
from collections.abc import Iterable
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import structlog
from msgspec import Struct

from aggregator.generators.spec import GeneratorSpec, Resource, Unit
from aggregator.model.errors import GenerationError, Origin, Problem, Severity
from aggregator.push.view import RecordingView, ViewKey
from aggregator.push.world import Fact, World

if TYPE_CHECKING:
    from aggregator.push.state import ViewState

log = structlog.get_logger()


Asked = tuple[tuple[tuple[str, Any], Any], ...]
"""Questions to the proxies, each with its argument and the answer."""

ASKED_KEPT: Final = 10_000
"""So many different ones are told apart; in most meshes a hundred are."""


class Readers:
    """All built units that read one fact. Units refer to it, because a mesh has few facts and many
    that read them.
    """

    __slots__ = ("built", "fact")

    def __init__(self, fact: Fact) -> None:
        self.fact: Final = fact
        self.built: Final[set[Built]] = set()


class Built:
    """What one generator made for one unit, with all that it read to make it.

    What could not be made is what the view of the key *only_for* had before, and nobody else's.
    """

    __slots__ = (
        "asked",
        "only_for",
        "problems",
        "readers",
        "resources",
        "spec",
        "unit",
        "views",
    )

    def __init__(
        self,
        spec: GeneratorSpec,
        unit: Unit,
        resources: dict[str, Resource],
        view: RecordingView,
        only_for: ViewKey | None = None,
    ) -> None:
        self.only_for: Final = only_for
        self.spec: Final = spec
        self.unit: Final = unit
        self.resources: Final = resources
        self.readers: tuple[Readers, ...] = ()
        self.asked: Asked = tuple(view.asked.items())
        self.problems: Final = tuple(view.problems)
        self.views: Final[set[ViewState]] = set()

    def serves(self, key: ViewKey) -> bool:
        """Whether a view of that key would have been built the same."""
        if self.only_for is not None:
            return self.only_for == key
        return all(key.answer(*question) == answer for question, answer in self.asked)

    def asks(self, questions: frozenset[str]) -> bool:
        """Whether the answer to one of *questions* went into it."""
        return self.only_for is not None or any(each in questions for (each, _), _ in self.asked)


class Work(Struct):
    """What one type has cost since the start: units, and seconds of building them."""

    units: int = 0
    seconds: float = 0.0


class UnitStore:
    """All built units, found by what they are and by what they read."""

    def __init__(self, world: World) -> None:
        self._world: Final = world
        self._variants: Final[dict[tuple[GeneratorSpec, Unit], list[Built]]] = {}
        self._readers: Final[dict[Fact, Readers]] = {}
        self._asked: Final[dict[Asked, Asked]] = {}
        self.units_built: int = 0
        self.work_of_type: Final[dict[str, Work]] = {}
        self.failures: int = 0
        self._failing: Final[set[tuple[GeneratorSpec, Unit]]] = set()
        self.problems: Final[Counter[Problem]] = Counter()
        self._problem_changes: set[Problem] = set()

    def invalidate(self, facts: Iterable[Fact]) -> set[Built]:
        """Forget every unit that read one of *facts*; returns them, still installed in their
        views.
        """
        stale: set[Built] = set()
        for fact in facts:
            readers = self._readers.get(fact)
            if readers is not None:
                stale |= readers.built
        for built in stale:
            self._forget(built)
        return stale

    def obtain(self, spec: GeneratorSpec, unit: Unit, key: ViewKey, old: Built | None) -> Built:
        """The unit as a view of *key* gets it: shared if an equal one is there, else built now.

        Resources that come out with the version they had in *old* stay the same objects, so that
        nothing is sent for them.
        """
        for built in self._variants.get((spec, unit), ()):
            if built.serves(key):
                return built
        built = self._build(spec, unit, key, old)
        self._variants.setdefault((spec, unit), []).append(built)
        self.problems.update(built.problems)
        self._problem_changes.update(built.problems)
        return built

    def release(self, built: Built, view: "ViewState") -> None:
        """The view no longer uses it; the last one to go takes it along."""
        built.views.discard(view)
        if not built.views:
            self._forget(built)

    def take_problem_changes(self) -> set[Problem]:
        """The problems that came or went since the last call, or are reported again."""
        changes, self._problem_changes = self._problem_changes, set()
        return changes

    def __len__(self) -> int:
        """Built units in memory."""
        return sum(len(variants) for variants in self._variants.values())

    def _build(self, spec: GeneratorSpec, unit: Unit, key: ViewKey, old: Built | None) -> Built:
        started = perf_counter()
        try:
            return self._make(spec, unit, key, old)
        finally:
            work = self.work_of_type.get(spec.kind.label)
            if work is None:
                work = self.work_of_type[spec.kind.label] = Work()
            work.units += 1
            work.seconds += perf_counter() - started

    def _make(self, spec: GeneratorSpec, unit: Unit, key: ViewKey, old: Built | None) -> Built:
        view = RecordingView(self._world, key, spec)
        self.units_built += 1
        previous: dict[str, Resource] = old.resources if old else {}
        resources: dict[str, Resource] = {}
        try:
            for resource in spec.build(view, unit):
                before = previous.get(resource.name)
                same = before is not None and before.version == resource.version
                resources[resource.name] = before if same and before is not None else resource
        except GenerationError as error:
            reason = str(error)
        except Exception as error:
            # A mistake of ours in one unit must not stop the pushing of all the others.
            reason = f"internal error: {error!r}"
            self.failures += 1
            if (spec, unit) not in self._failing:
                self._failing.add((spec, unit))
                log.exception("generator_failed", type=spec.kind.short, unit=unit.key)
        else:
            self._failing.discard((spec, unit))
            return self._enlist(Built(spec, unit, resources, view), view)
        # The unit keeps what it last had: what cannot be made must not take working things away.
        subject = f"{spec.kind.short} {unit.key}".rstrip()
        view.report(Origin(), subject, reason, severity=Severity.ERROR)
        return self._enlist(Built(spec, unit, dict(previous), view, only_for=key), view)

    def _enlist(self, built: Built, view: RecordingView) -> Built:
        """Have the unit found by what it read, and share with the others what it has in common."""
        readers = []
        for fact in view.facts:
            found = self._readers.get(fact)
            if found is None:
                found = self._readers[fact] = Readers(fact)
            found.built.add(built)
            readers.append(found)
        built.readers = tuple(readers)
        if len(self._asked) > ASKED_KEPT:
            self._asked.clear()
        built.asked = self._asked.setdefault(built.asked, built.asked)
        return built

    def _forget(self, built: Built) -> None:
        key = (built.spec, built.unit)
        variants = self._variants.get(key)
        if variants is None or built not in variants:
            return
        variants.remove(built)
        for problem in built.problems:
            self.problems[problem] -= 1
            if not self.problems[problem]:
                del self.problems[problem]
        self._problem_changes.update(built.problems)
        if not variants:
            del self._variants[key]
        for readers in built.readers:
            readers.built.discard(built)
            if not readers.built:
                del self._readers[readers.fact]
