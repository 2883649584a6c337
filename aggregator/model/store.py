"""A registry that can be written: values under keys, some for as long as somebody cares for them.

What adapters offer to the command line beside reading; serving needs none of it.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol as Interface

from msgspec import Struct


class Stored(Struct, frozen=True):
    """A value as it is stored; `lease` is 0 where it stays until it is deleted.

    Bytes of the key that are no UTF-8 are there as surrogates.
    """

    key: str
    value: bytes
    revision: int
    lease: int = 0


class Store(Interface):
    """One connection. Keys are those below the registry's prefix.

    Everything raises AdapterUnavailableError or AdapterRejectedError.
    """

    def list(self, below: str) -> AsyncIterator[Stored]:
        """All that begins with *below*, in the order of keys, at one moment."""

    async def get(self, key: str) -> Stored | None:
        """One key."""

    async def put(self, values: Mapping[str, bytes], *, lease: int = 0) -> None:
        """Write *values*; all or none of them, if they are not very many."""

    async def delete(self, key: str) -> bool:
        """Delete one key; whether it was there."""

    async def grant(self, seconds: int) -> int:
        """A lease that runs out after *seconds* unless it is refreshed."""

    async def refresh(self, lease: int) -> bool:
        """Let the lease live on; False if it has run out."""

    async def revoke(self, lease: int) -> None:
        """End a lease, and with it its keys."""


OpenStore = AbstractAsyncContextManager[Store]
