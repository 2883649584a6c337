"""Keeps one resource in step with the server: lists, watches, and lists again when history is gone.

What happens to one resource leaves the others alone: it waits and tries again by itself, as long as
the server answers at all.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import msgspec
from msgspec import Raw, Struct

from adapters.kubernetes.client import (
    JSON,
    METADATA,
    METADATA_LIST,
    ApiError,
    Status,
)
from adapters.kubernetes.resource import Lines, Resource, decode_event, decode_page, version_of
from aggregator.model.errors import AdapterUnavailableError

SHORTEST_WAIT: Final = 0.1
WATCH_SECONDS: Final = 300
_TRIES: Final = 3
"""After so many refusals in a row a watch gives up its version and lists again."""

_STARTING: Final = 2.0
"""For so long a server may refuse what it grants once it has read its roles."""

_FIRST_WAIT: Final = 0.25

_LASTED: Final = 1.0
"""A watch that lasted so many seconds has shown that the server works."""

_TURN: Final = 0.01
"""Seconds after which the event loop is given to others."""


class Feed(Protocol):
    """Takes what a reflector reads. Objects are JSON, as the server sent them."""

    def begin(self) -> None:
        """A listing starts; one that was not ended is forgotten."""

    def page(self, items: Sequence[Raw]) -> None:
        """Some of the objects of the listing."""

    async def end(self) -> None:
        """The listing is complete."""

    def changed(self, raw: Raw, *, deleted: bool) -> None:
        """One object is like this now, or was when it was deleted."""

    def refused(self, error: ApiError | None) -> None:
        """The server does not tell, for this reason; None ends that."""


class Source(Protocol):
    """The part of a client that is needed here; see KubernetesClient for what it raises."""

    async def get(
        self, path: str, params: Mapping[str, str] | None = None, *, accept: str = JSON
    ) -> bytes:
        """The whole answer."""

    def watch(
        self, path: str, params: Mapping[str, str], *, accept: str = JSON
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The pieces of an answer that has no end."""


class Pace(Struct, frozen=True):
    """How long is waited, with time and chance, which tests replace.

    Failures that last for `patience` seconds are reported, or the adapter is started anew. `poll`
    is how often the server is asked which kinds it has, and by this whether it answers, for which
    it has `probe` seconds; `longest` bounds the waits of a resource that the server refuses.
    """

    patience: float = 5.0
    poll: float = 15.0
    probe: float = 10.0
    longest: float = 30.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.random


USUAL: Final = Pace()


class Reflector:
    """One list and watch. `settled` is set once the first listing is in or cannot be had."""

    def __init__(
        self,
        source: Source,
        resource: Resource,
        feed: Feed,
        *,
        page_size: int,
        pace: Pace = USUAL,
    ) -> None:
        self._source: Final = source
        self._resource: Final = resource
        self._feed: Final = feed
        self._page_size: Final = page_size
        self._pace: Final = pace
        self._version = ""
        self._failures = 0
        self._failing_since: float | None = None
        self._watching_since: float | None = None
        self.settled: Final = asyncio.Event()
        self.forbidden = False

    async def run(self) -> None:
        """Follow the resource until cancelled.

        Raises AdapterUnavailableError when the server has not answered for a while, or does not at
        the start; AdapterRejectedError when it does not know us.
        """
        while True:
            wait = await self._once()
            if wait:
                await self._pace.sleep(wait)

    async def _once(self) -> float:
        """List if that is needed, and watch until it ends; how long to wait then."""
        self._watching_since = None
        try:
            if not self._version or await self._was_set_back():
                await self._list()
                self.settled.set()
            await self._watch()
        except ApiError as error:
            self._has_lasted()
            return self._refused(error)
        except AdapterUnavailableError as error:
            self._has_lasted()
            return self._unanswered(error)
        if self._has_lasted():
            return 0.0
        self._failed()
        return self._back_off(2.0)

    async def _list(self) -> None:
        params = {"limit": str(self._page_size), **self._resource.selection}
        accept = METADATA_LIST if self._resource.metadata_only else JSON
        self._feed.begin()
        while True:
            body = await self._source.get(self._resource.path, params, accept=accept)
            page = decode_page(body)
            self._feed.page(page.items or ())
            if not page.metadata.continue_:
                break
            params["continue"] = page.metadata.continue_
            await asyncio.sleep(0)
        await self._feed.end()
        self._version = page.metadata.resource_version

    async def _was_set_back(self) -> bool:
        """Whether the server is behind what it said before, as after a restored backup.

        A watch from a version that is still to come would silently wait for it.
        """
        params = {"limit": "1", **self._resource.selection}
        accept = METADATA_LIST if self._resource.metadata_only else JSON
        body = await self._source.get(self._resource.path, params, accept=accept)
        now = decode_page(body).metadata.resource_version
        return now.isdecimal() and self._version.isdecimal() and int(now) < int(self._version)

    async def _watch(self) -> None:
        seconds = WATCH_SECONDS * (1 + self._pace.random())
        params = {
            "watch": "1",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": f"{seconds:.0f}",
            **self._resource.selection,
        }
        lines = Lines()
        path = self._resource.path
        accept = METADATA if self._resource.metadata_only else JSON
        async with self._source.watch(path, params, accept=accept) as pieces:
            self._watching_since = self._pace.clock()
            self.forbidden = False
            self._feed.refused(None)
            turn = time.perf_counter()
            async for piece in pieces:
                for line in lines.feed(piece):
                    self._take(line)
                    if time.perf_counter() - turn > _TURN:
                        await asyncio.sleep(0)
                        turn = time.perf_counter()
                turn = time.perf_counter()

    def _take(self, line: bytes) -> None:
        event = decode_event(line)
        if event.type == "ERROR":
            raise _error_of(event.object)
        self._works()
        if event.type != "BOOKMARK":
            self._feed.changed(event.object, deleted=event.type == "DELETED")
        self._version = version_of(event.object) or self._version

    # What failures lead to

    def _works(self) -> None:
        self._failures = 0
        self._failing_since = None

    def _has_lasted(self) -> bool:
        since = self._watching_since
        lasted = since is not None and self._pace.clock() - since >= _LASTED
        if lasted:
            self._works()
        return lasted

    def _failed(self) -> None:
        self._failures += 1
        if self._failing_since is None:
            self._failing_since = self._pace.clock()

    def _impatient(self) -> bool:
        since = self._failing_since
        return since is not None and self._pace.clock() - since >= self._pace.patience

    def _back_off(self, longest: float) -> float:
        """Nothing after the first failure; then more and more, with full jitter."""
        if self._failures <= 1:
            return 0.0
        most = min(longest, SHORTEST_WAIT * 2.0 ** min(self._failures, 16))
        return float(self._pace.random() * most)

    def _unanswered(self, error: AdapterUnavailableError) -> float:
        if not self.settled.is_set() and not self._resource.optional:
            raise error
        self._failed()
        if self._impatient():
            raise error
        return self._back_off(2.0)

    def _refused(self, error: ApiError) -> float:
        if error.expired:
            self._failed()
            self._version = ""
            return self._back_off(self._pace.longest)
        if error.forbidden or error.absent:
            return self._forbidden(error)
        self._failed()
        if self._failures >= _TRIES:
            self._version = ""
        if self._impatient():
            if not self.settled.is_set() and not self._resource.optional:
                message = f"cannot read {self._resource.plural}: {error}"
                raise AdapterUnavailableError(message) from error
            self._feed.refused(error)
            self.settled.set()
        return max(error.retry_after, self._back_off(self._pace.longest))

    def _forbidden(self, error: ApiError) -> float:
        """Asked again soon at first, and not told at once: a server that starts forbids everything
        until it has read its roles.
        """
        self._failed()
        # Where only the watch is forbidden, listing now and then is what is left.
        self._version = ""
        since = self._failing_since or 0.0
        if error.absent or self._pace.clock() - since >= _STARTING:
            self.forbidden = error.forbidden
            self._feed.refused(error)
            self.settled.set()
        most = min(self._pace.longest, _FIRST_WAIT * 2.0 ** min(self._failures - 1, 16))
        return float(most * (0.5 + self._pace.random() / 2))


def _error_of(raw: Raw) -> ApiError:
    try:
        status = msgspec.json.decode(raw, type=Status)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        status = Status("the watch ended with an error that cannot be read", "Unknown", 500)
    return ApiError(status.code, status.reason, status.message)
