"""What is listed and watched, and how its paths, lists and events are read. Pure."""

from typing import Final

import msgspec
from msgspec import Raw, Struct

from aggregator.model.errors import AdapterUnavailableError

CORE: Final = ""
DISCOVERY: Final = "discovery.k8s.io"
APIEXTENSIONS: Final = "apiextensions.k8s.io"


class Resource(Struct, frozen=True):
    """One kind of object, in the whole cluster or in one namespace of it.

    `metadata_only` says that names and labels are enough. `optional` ones may be unknown to the
    server.
    """

    kind: str
    group: str
    version: str
    plural: str
    namespace: str = ""
    metadata_only: bool = False
    optional: bool = False
    label_selector: str = ""
    field_selector: str = ""

    @property
    def path(self) -> str:
        """Where the server has it."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        inside = f"/namespaces/{self.namespace}" if self.namespace else ""
        return f"{root}{inside}/{self.plural}"

    @property
    def scope(self) -> str:
        """The scope for what concerns this watch as a whole; all of its shards are below it."""
        return f"{self.plural}/{self.namespace}" if self.namespace else f"{self.plural}/"

    @property
    def selection(self) -> dict[str, str]:
        """The parameters that select objects."""
        found = {"labelSelector": self.label_selector, "fieldSelector": self.field_selector}
        return {name: value for name, value in found.items() if value}

    @property
    def permission(self) -> str:
        """The rule that a role needs for reading it."""
        role = f"a Role in namespace {self.namespace}" if self.namespace else "a ClusterRole"
        return (
            f"{role} with apiGroups [{self.group!r}], resources ['{self.plural}'] and "
            "verbs ['list', 'watch'] lets it"
        )


class _ListMeta(Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class Page(Struct, frozen=True):
    """One page of a list; objects are decoded one by one, since one may be broken."""

    metadata: _ListMeta = _ListMeta()
    items: list[Raw] | None = None


class Event(Struct, frozen=True):
    """One line of a watch."""

    type: str
    object: Raw


class _Marked(Struct, frozen=True):
    class Meta(Struct, frozen=True, rename="camel"):
        """The only thing that a bookmark tells."""

        resource_version: str = ""

    metadata: Meta = Meta()


_PAGES: Final = msgspec.json.Decoder(Page)
_EVENTS: Final = msgspec.json.Decoder(Event)
_MARKS: Final = msgspec.json.Decoder(_Marked)


def decode_page(body: bytes) -> Page:
    """Read a list. Raises AdapterUnavailableError for anything else, such as a proxy's page."""
    try:
        return _PAGES.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        message = f"the server's answer is no list: {error}"
        raise AdapterUnavailableError(message) from error


def decode_event(line: bytes) -> Event:
    """Read a line of a watch. Raises AdapterUnavailableError for anything else."""
    try:
        return _EVENTS.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        message = f"the server's answer is no watch event: {error}"
        raise AdapterUnavailableError(message) from error


def version_of(raw: Raw) -> str:
    """The resource version of an object, "" if it has none."""
    try:
        return _MARKS.decode(raw).metadata.resource_version
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""


class Lines:
    """Puts the pieces of an answer together to lines, however long these are."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that end in *piece*, without those that are empty."""
        if b"\n" not in piece:
            self._rest.append(piece)
            return []
        first, *lines, rest = piece.split(b"\n")
        lines.insert(0, b"".join((*self._rest, first)))
        self._rest = [rest] if rest else []
        return [line for line in lines if line.strip()]
