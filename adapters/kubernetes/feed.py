"""What a reflector reads, decoded and handed to who keeps it; what is wrong with it is told."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from msgspec import Raw

from adapters.kubernetes.client import ApiError
from adapters.kubernetes.decode import Decode, Decoded, decode_metadata
from adapters.kubernetes.problem import ProblemBook
from adapters.kubernetes.publisher import Publisher
from adapters.kubernetes.resource import Resource
from adapters.kubernetes.table import Name, Taker
from aggregator.model.errors import Origin, Problem, Severity
from aggregator.model.registry import Content, Item, Namespace

T = TypeVar("T")
_OBJECT: Final = "object "
_KIND: Final = "kind"


def _is_broken(decoded: Decoded[T]) -> bool:
    """Whether an object cannot be used, which is not the same as being of no concern."""
    return decoded.object is None and any(
        each.severity is Severity.ERROR for each in decoded.problems
    )


class ObjectFeed(Generic[T]):
    """Decodes the objects of one resource for *taker*; a broken one stays what it was."""

    def __init__(
        self,
        registry: str,
        resource: Resource,
        decode: Decode[T],
        taker: Taker[T],
        problems: ProblemBook,
    ) -> None:
        self._registry: Final = registry
        self._resource: Final = resource
        self._decode: Final = decode
        self._taker: Final = taker
        self._problems: Final = problems
        self._found: dict[Name, T] = {}
        self._faulty: set[str] = set()

    def begin(self) -> None:
        """A listing starts."""
        self._found = {}
        self._faulty = set()

    def page(self, items: Sequence[Raw]) -> None:
        """A part of it."""
        for raw in items:
            decoded = self._decode(raw)
            scope, key = self._place(decoded.namespace, decoded.name)
            if decoded.problems:
                self._faulty.add(f"{scope} {key}")
                self._problems.put(scope, key, decoded.problems)
            name = (decoded.namespace, decoded.name)
            found = self._taker.known(name) if _is_broken(decoded) else decoded.object
            if found is not None:
                self._found[name] = found

    async def end(self) -> None:
        """All of it."""
        found, self._found = self._found, {}
        resource = self._resource
        self._problems.retain(resource.plural, resource.namespace, _OBJECT, self._faulty)
        await self._taker.list(resource.namespace, found)

    def changed(self, raw: Raw, *, deleted: bool) -> None:
        """One object."""
        if deleted:
            metadata = decode_metadata(raw)
            name = (metadata.namespace, metadata.name)
            self._problems.put(*self._place(*name))
            self._taker.put(name, None)
            return
        decoded = self._decode(raw)
        name = (decoded.namespace, decoded.name)
        self._problems.put(*self._place(*name), decoded.problems)
        if not _is_broken(decoded):
            self._taker.put(name, decoded.object)

    def refused(self, error: ApiError | None) -> None:
        """Why the resource cannot be read at present."""
        resource = self._resource
        problems: list[Problem] = []
        if error is not None:
            where = f" of namespace {resource.namespace}" if resource.namespace else ""
            message = f"the {resource.plural}{where} cannot be read: {error}"
            if error.forbidden:
                message += f"; {resource.permission}"
            problems.append(Problem(Origin(self._registry), "", message, subject=resource.kind))
        self._problems.put(resource.scope, f"{_KIND} {resource.field_selector}", problems)

    def _place(self, namespace: str, name: str) -> tuple[str, str]:
        return f"{self._resource.plural}/{namespace}", f"{_OBJECT}{name}"


class ItemTaker:
    """Takes objects that are items themselves, such as rules."""

    def __init__(self, publisher: Publisher, plural: str, content: Content) -> None:
        self._publisher: Final = publisher
        self._plural: Final = plural
        self._content: Final = content

    async def list(self, namespace: str, found: Mapping[Name, Item]) -> None:
        """All of a namespace, or of all."""
        listed: dict[str, dict[str, Item]] = {namespace: {}} if namespace else {}
        if not namespace:
            listed = {each: {} for each in self._publisher.namespaces(self._plural)}
        for (where, name), item in found.items():
            listed.setdefault(where, {})[name] = item
        for where in sorted(listed):
            self._publisher.replace(self._plural, where, self._content, listed[where])

    def put(self, name: Name, value: Item | None) -> None:
        """One object."""
        self._publisher.put(self._plural, name[0], self._content, name[1], value)

    def known(self, name: Name) -> Item | None:
        """What was told of an object last."""
        return self._publisher.known(self._plural, name[0], self._content, name[1])


class OneNamespace:
    """Takes the one Namespace that a watch was narrowed to."""

    def __init__(self, name: str, taker: Taker[Namespace]) -> None:
        self._name: Final[Name] = ("", name)
        self._taker: Final = taker

    async def list(self, namespace: str, found: Mapping[Name, Namespace]) -> None:
        """It is there or not."""
        self.put(self._name, found.get(self._name))

    def put(self, name: Name, value: Namespace | None) -> None:
        """It changed."""
        self._taker.put(name, value)

    def known(self, name: Name) -> Namespace | None:
        """What it was."""
        return self._taker.known(name)


class BellFeed:
    """Rings when anything of a resource changes; that it cannot be read is no harm."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring: Final = ring

    def begin(self) -> None:
        """A listing starts."""

    def page(self, items: Sequence[Raw]) -> None:
        """A part of it."""

    async def end(self) -> None:
        """All of it."""
        self._ring()

    def changed(self, raw: Raw, *, deleted: bool) -> None:
        """One object."""
        self._ring()

    def refused(self, error: ApiError | None) -> None:
        """It cannot be read."""
