"""The load: proxies, each on a connection of its own, that take what they are sent and say when.

It looks into a message once for all proxies that get the same one, so that its own work stays small
beside the transport's. What the work is does not depend on who serves: the floor is measured by the
same client.
"""

import asyncio
import time
from typing import Final

from msgspec import Struct

from bench.child import BenchError, Commands
from bench.connection import Connection
from bench.conversation import Conversation, Head, Proxy, read_head

METHOD: Final = "/envoy.service.discovery.v3.AggregatedDiscoveryService/{}AggregatedResources"
CLASS_KEY: Final = "bench-class"
"""The metadata by which the floor knows what a stream is to get."""

CHECK_SECONDS: Final = 0.02


class Connect(Struct, frozen=True):
    """Open streams for the proxies from *first* on; answered with a `Begun`."""

    address: str
    first: int
    count: int
    classes: int
    delta: bool
    record: bool = False


class Disconnect(Struct, frozen=True):
    """Close all streams; answered with a `Begun`."""


class Begin(Struct, frozen=True):
    """Count from zero, and look out for *mark*, if any; answered with a `Begun`."""

    mark: str = ""


class Begun(Struct, frozen=True):
    """When a command began to be carried out, in nanoseconds of the machine's monotonic clock."""

    at: int


class Settle(Struct, frozen=True):
    """Wait until every stream has seen the mark (or, without one, something of each type and
    *bytes_each* bytes) and then nothing came for *quiet* seconds; answered with `Arrivals`.
    """

    quiet: float
    seconds: float
    bytes_each: int = 0


class Arrivals(Struct, frozen=True):
    """What came since the beginning: when the last of it came to each stream, and how much.

    *missing* counts the streams that did not get what was waited for.
    """

    last: tuple[int, ...]
    messages: int
    bytes: int
    missing: int


class TakeRecording(Struct, frozen=True):
    """Give the messages that came since the beginning; answered with a `Recording`."""


class Recording(Struct, frozen=True):
    """The messages that came to the first stream of each class, in order."""

    messages: dict[int, tuple[bytes, ...]]

    @property
    def bytes_each(self) -> int:
        """The least that a stream of any class got."""
        return min(sum(map(len, each)) for each in self.messages.values())


class _Stream:
    """One proxy."""

    def __init__(self, load: "Load", number: int, *, record: bool) -> None:
        self.of_class: Final = number % load.classes
        proxy = Proxy(number, f"ns{self.of_class}")
        self.conversation: Final = Conversation(proxy, delta=load.delta)
        self.kept: Final[list[bytes] | None] = [] if record else None
        name = METHOD.format("Delta" if load.delta else "Stream")
        metadata = {CLASS_KEY: str(self.of_class)}
        self.connection: Final = Connection(name, metadata, self._receive, load.ended)
        self.connection.send(self.conversation.begin())
        self._load: Final = load
        self.begin()

    def begin(self) -> None:
        """Count from zero."""
        self.last = 0
        self.messages = 0
        self.bytes = 0
        self.seen = False
        if self.kept is not None:
            self.kept.clear()

    def protocol(self) -> Connection:
        """What the event loop is to connect."""
        return self.connection

    def _receive(self, payload: bytes, now: int) -> None:
        head = read_head(payload, delta=self._load.delta)
        self.last = now
        self.messages += 1
        self.bytes += len(payload)
        if self.kept is not None:
            self.kept.append(payload)
        self.seen = self.seen or self._load.has_mark(head, payload)
        for request in self.conversation.receive(head, payload):
            self.connection.send(request)


class Load:
    """All proxies of one process."""

    def __init__(self) -> None:
        self.classes = 1
        self.delta = False
        self._streams: Final[list[_Stream]] = []
        self._mark = b""
        self._marked: Final[dict[Head, bool]] = {}
        self._failure = ""

    async def connect(self, command: Connect) -> Begun:
        """Open the streams."""
        begun = Begun(time.monotonic_ns())
        self.delta = command.delta
        self.classes = command.classes
        self._mark = b""
        for index in range(command.count):
            record = command.record and index < command.classes
            self._streams.append(_Stream(self, command.first + index, record=record))
        loop = asyncio.get_running_loop()
        host, _, port = command.address.rpartition(":")
        await asyncio.gather(
            *(loop.create_connection(each.protocol, host, int(port)) for each in self._streams)
        )
        return begun

    def disconnect(self) -> Begun:
        """End all streams."""
        begun = Begun(time.monotonic_ns())
        for stream in self._streams:
            stream.connection.close()
        self._streams.clear()
        return begun

    def begin(self, command: Begin) -> Begun:
        """Count from zero."""
        self._mark = command.mark.encode()
        self._marked.clear()
        for stream in self._streams:
            stream.begin()
        return Begun(time.monotonic_ns())

    async def settle(self, command: Settle) -> Arrivals:
        """Wait for what was asked for. Raises BenchError if a stream ended."""
        until = time.monotonic() + command.seconds
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            if self._failure:
                raise BenchError(self._failure)
            missing = sum(not self._has_all(each, command.bytes_each) for each in self._streams)
            last = max(each.last for each in self._streams)
            quiet = time.monotonic_ns() - last >= command.quiet * 1e9
            if time.monotonic() >= until or (not missing and quiet):
                break
        return Arrivals(
            tuple(each.last for each in self._streams),
            sum(each.messages for each in self._streams),
            sum(each.bytes for each in self._streams),
            missing,
        )

    def recording(self) -> Recording:
        """What was kept."""
        return Recording(
            {each.of_class: tuple(each.kept) for each in self._streams if each.kept is not None}
        )

    def ended(self, reason: str) -> None:
        """A stream ended, which none should before it is disconnected."""
        if self._streams:
            self._failure = reason

    def has_mark(self, head: Head, payload: bytes) -> bool:
        """Whether the awaited mark is in a response."""
        if not self._mark:
            return False
        marked = self._marked.get(head)
        if marked is None:
            marked = self._marked[head] = self._mark in payload
        return marked

    def _has_all(self, stream: _Stream, bytes_each: int) -> bool:
        if self._mark:
            return stream.seen
        return stream.bytes >= bytes_each and stream.conversation.complete


async def run_client(commands: Commands) -> None:
    """A process of proxies."""
    load = Load()
    while True:
        match await commands.take():
            case Connect() as command:
                commands.answer(await load.connect(command))
            case Disconnect():
                commands.answer(load.disconnect())
            case Begin() as command:
                commands.answer(load.begin(command))
            case Settle() as command:
                commands.answer(await load.settle(command))
            case TakeRecording():
                commands.answer(load.recording())
            case command:
                message = f"unknown command {command!r}"
                raise TypeError(message)
