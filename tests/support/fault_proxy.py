"""A TCP proxy that does to connections what networks and dying servers do.

What it does wrong can be changed while connections are open, and then holds for these too.
"""

import asyncio
import os
import socket
import struct
from contextlib import suppress
from types import TracebackType
from typing import Final

from msgspec import Struct

LOOPBACK: Final = "127.0.0.1"
CHUNK: Final = 65_536
_CONNECT_SECONDS: Final = 5.0


class Pass(Struct, frozen=True):
    """Nothing is wrong."""


class Refuse(Struct, frozen=True):
    """Nobody listens, and whoever was connected is cut off."""


class Hang(Struct, frozen=True):
    """Connections are taken and stay open, and nothing comes or goes any more."""


class Slow(Struct, frozen=True):
    """Answers come at so many bytes a second."""

    bytes_per_second: int


class Cut(Struct, frozen=True):
    """Each connection ends after so many more bytes of answers: in the middle of one.

    With *reset* it ends by RST, otherwise as if the answer were complete.
    """

    after: int = 0
    reset: bool = False


class Garbage(Struct, frozen=True):
    """Each connection answers what nobody can understand, after so many good bytes."""

    after: int = 0


Fault = Pass | Refuse | Hang | Slow | Cut | Garbage


class FaultProxy:
    """Stands before `host:port`. A context manager; its own port stays the same while it lasts.

    `connections`, `requests` and the bytes are counted from the start. A request is what a client
    says after an answer, or at first: exact where a connection has one question at a time.
    """

    def __init__(self, port: int, host: str = LOOPBACK) -> None:
        self.target: Final = (host, port)
        self.port = 0
        self.connections = 0
        self.requests = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self._fault: Fault = Pass()
        self._changed = asyncio.Event()
        self._open: Final[set[_Connection]] = set()
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "FaultProxy":
        await self._listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # What was closed is gone in the loop's next round.
        await asyncio.sleep(0)

    @property
    def address(self) -> str:
        """``host:port`` of the proxy."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def open(self) -> int:
        """How many connections there are now."""
        return len(self._open)

    @property
    def fault(self) -> Fault:
        """What is wrong."""
        return self._fault

    async def set(self, fault: Fault) -> None:
        """From now on do this to every connection, old or new."""
        self._fault = fault
        for connection in self._open:
            connection.start_over()
        self._changed.set()
        self._changed = asyncio.Event()
        if isinstance(fault, Refuse):
            self._close()
            self.cut()
        elif self._server is None:
            await self._listen()

    def cut(self, *, reset: bool = True) -> None:
        """End all open connections, once."""
        for connection in list(self._open):
            connection.end(reset=reset)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._take, LOOPBACK, self.port, limit=CHUNK)
        self.port = int(self._server.sockets[0].getsockname()[1])

    def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                there = await asyncio.open_connection(*self.target, limit=CHUNK)
        except (OSError, TimeoutError):
            _end(writer, reset=True)
            return
        except asyncio.CancelledError:
            _end(writer, reset=True)
            raise
        connection = _Connection(self, (reader, writer), there)
        self._open.add(connection)
        try:
            await connection.run()
        finally:
            self._open.discard(connection)
            connection.end(reset=False)

    async def until_passable(self) -> Fault:
        """What is wrong, once something may go on."""
        while isinstance(self._fault, Hang):
            await self._changed.wait()
        return self._fault

    async def pause(self, seconds: float) -> None:
        """Wait, unless the fault changes meanwhile."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Connection:
    """A client's connection, and the one to the server that belongs to it."""

    def __init__(self, proxy: FaultProxy, client: _Streams, server: _Streams) -> None:
        self._proxy: Final = proxy
        self._client: Final = client
        self._server: Final = server
        self._answered = True
        self._passed = 0

    def start_over(self) -> None:
        """Count the bytes of answers from here."""
        self._passed = 0

    def end(self, *, reset: bool) -> None:
        """Close both sides."""
        _end(self._client[1], reset=reset)
        _end(self._server[1], reset=True)

    async def run(self) -> None:
        """Carry what comes in both directions until the server has nothing more to say."""
        up = asyncio.create_task(self._up())
        try:
            await self._down()
        finally:
            up.cancel()
            await asyncio.gather(up, return_exceptions=True)

    async def _up(self) -> None:
        proxy = self._proxy
        try:
            while data := await self._client[0].read(CHUNK):
                proxy.bytes_up += len(data)
                proxy.requests += self._answered
                self._answered = False
                await proxy.until_passable()
                self._server[1].write(data)
                await self._server[1].drain()
            self._server[1].write_eof()
        except OSError:
            self.end(reset=True)

    async def _down(self) -> None:
        with suppress(OSError):
            while data := await self._server[0].read(CHUNK):
                while data:
                    data = await self._answer(data)

    async def _answer(self, data: bytes) -> bytes:
        """Send some of *data* as the present fault has it; the rest. Raises OSError at the end."""
        match await self._proxy.until_passable():
            case Slow(rate):
                step = max(1, rate // 20)
                await self._send(data[:step])
                await self._proxy.pause(step / rate)
                return data[step:]
            case Cut(after, reset):
                left = max(0, after - self._passed)
                if len(data) < left:
                    await self._send(data)
                    return b""
                await self._send(data[:left])
                self.end(reset=reset)
                raise ConnectionAbortedError
            case Garbage(after):
                left = max(0, after - self._passed)
                await self._send(data[:left] + os.urandom(max(0, len(data) - left)))
            case _:
                await self._send(data)
        return b""

    async def _send(self, data: bytes) -> None:
        self._answered = True
        self._passed += len(data)
        self._proxy.bytes_down += len(data)
        self._client[1].write(data)
        await self._client[1].drain()


def _end(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    if reset:
        sock = writer.get_extra_info("socket")
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.close()
