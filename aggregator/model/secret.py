"""What must never be shown: credentials on their way from where they were read to who uses them."""

from collections.abc import Mapping
from typing import Final, final

from msgspec import Struct

from aggregator.model.errors import Origin


@final
class Redacted:
    """Bytes that print, log and format as ``<redacted>``, and that no encoder takes.

    Compared and hashed by content, so that settings with another credential are other settings.
    """

    __slots__ = ("_content",)

    def __init__(self, content: bytes = b"") -> None:
        self._content: Final = content

    def reveal(self) -> bytes:
        """The bytes, for the one who authenticates with them."""
        return self._content

    def __bool__(self) -> bool:
        """Whether there is any content."""
        return bool(self._content)

    def __eq__(self, other: object) -> bool:
        """Whether the content is the same."""
        return isinstance(other, Redacted) and self._content == other._content

    def __hash__(self) -> int:
        """Equal for equal content."""
        return hash(self._content)

    def __repr__(self) -> str:
        """Nothing of the content, its length included."""
        return "<redacted>"


class Secret(Struct, frozen=True):
    """A Secret of a platform that keeps some, for adapters that find credentials there.

    `data` is decoded already. `created` is seconds since the epoch, 0 where the registry does not
    tell.
    """

    namespace: str
    name: str
    data: Mapping[str, Redacted] = {}
    created: float = 0.0
    origin: Origin = Origin()
