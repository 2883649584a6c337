"""Backends that say who they are and what reached them: HTTP, HTTPS and TCP, many in one process.

What an HTTP backend does is asked of it by request headers or query parameters: `x-status` (answer
with it), `x-delay` (seconds), `x-fail` (answer the first so many requests of the same host and
`x-key` with `x-status`, else 503). Parameters have the same names without ``x-``.
"""

import asyncio
import ssl
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, cast

from aiohttp import web
from msgspec import Struct

LOOPBACK: Final = "127.0.0.1"


class Received(Struct, frozen=True):
    """A request as it arrived; `headers` have lower-case names, `path` has no query.

    `peer` is the other end of the connection, `server_name` and `client` are the SNI and the common
    name of the client's certificate.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: str
    peer: str = ""
    server_name: str = ""
    client: str = ""
    alpn: str = ""

    @property
    def authority(self) -> str:
        """The host that it was for."""
        return self.headers.get("host", "")


class HttpBackend:
    """Answers every request with JSON: its own name and what it received.

    Listens on a port that the system picks, or on the Unix socket *path*. *status* is for requests
    that do not ask for another one.
    """

    def __init__(
        self,
        name: str,
        *,
        address: str = LOOPBACK,
        port: int = 0,
        path: Path | None = None,
        tls: ssl.SSLContext | None = None,
        status: int = 200,
    ) -> None:
        self.name: Final = name
        self.address: Final = str(path) if path else address
        self.status = status
        self.port = port
        self.received: Final[list[Received]] = []
        self._path: Final = path
        self._tls: Final = tls
        self._failed: Final[Counter[str]] = Counter()
        self._runner: web.AppRunner | None = None
        self._names: Final[dict[int, str]] = {}
        if tls is not None:
            tls.sni_callback = self._note_name

    async def __aenter__(self) -> "HttpBackend":
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def at(self) -> str:
        """``address:port``."""
        return f"{self.address}:{self.port}"

    async def start(self) -> None:
        """Listen. A stopped backend comes back on the port that it had."""
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        if self._path is not None:
            await web.UnixSite(runner, str(self._path), ssl_context=self._tls).start()
        else:
            await web.TCPSite(
                runner, self.address, self.port, ssl_context=self._tls, reuse_address=True
            ).start()
            self.port = int(runner.addresses[0][1])
        self._runner = runner

    async def stop(self) -> None:
        """Close all connections and refuse new ones."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def count(self, path: str = "") -> int:
        """How many requests came, of those to *path* if it is given."""
        return sum(not path or each.path == path for each in self.received)

    def _note_name(self, tls: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        self._names[id(tls)] = name or ""

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        received = await self._read(request)
        self.received.append(received)
        wishes = {f"x-{name}": value for name, value in received.query.items()}
        wishes.update(received.headers)
        if "x-delay" in wishes:
            await asyncio.sleep(float(wishes["x-delay"]))
        content = {
            "backend": self.name,
            "method": received.method,
            "path": received.path,
            "query": received.query,
            "headers": received.headers,
            "body": received.body,
            "server_name": received.server_name,
            "client": received.client,
            "alpn": received.alpn,
        }
        status = self._status(received.authority, wishes)
        return web.json_response(content, status=status, headers={"x-backend": self.name})

    def _status(self, authority: str, wishes: Mapping[str, str]) -> int:
        if "x-fail" not in wishes:
            return int(wishes.get("x-status", self.status))
        key = f"{authority} {wishes.get('x-key', '')}"
        self._failed[key] += 1
        if self._failed[key] > int(wishes["x-fail"]):
            return 200
        return int(wishes.get("x-status", 503))

    async def _read(self, request: web.Request) -> Received:
        tls = cast(ssl.SSLObject | None, request.get_extra_info("ssl_object"))
        peer = request.get_extra_info("peername")
        return Received(
            request.method,
            request.raw_path.partition("?")[0],
            dict(request.query),
            {name.lower(): value for name, value in request.headers.items()},
            (await request.read()).decode(errors="replace"),
            peer=f"{peer[0]}:{peer[1]}" if peer else "",
            server_name=self._names.get(id(tls), "") if tls else "",
            client=_common_name(request.get_extra_info("peercert")) if tls else "",
            alpn=(tls.selected_alpn_protocol() or "") if tls else "",
        )


def _common_name(certificate: Mapping[str, Any] | None) -> str:
    for part in (certificate or {}).get("subject", ()):
        for name, value in part:
            if name == "commonName":
                return str(value)
    return ""


class TcpBackend:
    """Says its name and a line end to every connection, then gives back what it gets."""

    def __init__(self, name: str, *, address: str = LOOPBACK) -> None:
        self.name: Final = name
        self.address: Final = address
        self.port = 0
        self.connections = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "TcpBackend":
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def at(self) -> str:
        """``address:port``."""
        return f"{self.address}:{self.port}"

    async def start(self) -> None:
        """Listen on the port that it had, or on one that the system picks."""
        self._server = await asyncio.start_server(self._serve, self.address, self.port)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Refuse new connections."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        # A client that goes away in the middle is no failure of the test.
        with suppress(ConnectionError):
            writer.write(f"{self.name}\n".encode())
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


async def ask_tcp(address: str, port: int, *, seconds: float = 5.0) -> str:
    """Which `TcpBackend` a connection to there ends at.

    Raises OSError if it was closed without a word.
    """
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection(address, port)
        try:
            line = await reader.readline()
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
    if not line.endswith(b"\n"):
        message = f"connection to {address}:{port} closed without a word"
        raise ConnectionError(message)
    return line.decode().strip()
