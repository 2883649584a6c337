"""Constant HTTP traffic on keep-alive connections, in which any failure counts."""

import asyncio
from collections import Counter
from types import TracebackType
from typing import Final

PAUSE_SECONDS: Final = 0.003


class Traffic:
    """Clients that ask one port for a host, over and over, for the length of the block.

    Unlike a browser or an HTTP library it never tries again: a connection that is closed under a
    request, without a ``connection: close`` before it, is a failure.
    """

    def __init__(self, port: int, *hosts: str, clients: int = 4) -> None:
        self.statuses: Final[Counter[int]] = Counter()
        self.failures: Final[list[str]] = []
        self._port: Final = port
        self._hosts: Final = hosts
        self._clients: Final = clients
        self._stop: Final = asyncio.Event()
        self._tasks: Final[list[asyncio.Task[None]]] = []

    async def __aenter__(self) -> "Traffic":
        for host in self._hosts:
            for _ in range(self._clients):
                self._tasks.append(asyncio.create_task(self._run(host)))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def _run(self, host: str) -> None:
        while not self._stop.is_set():
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    await self._use(host, reader, writer)
                finally:
                    writer.close()
            except (OSError, asyncio.IncompleteReadError) as failure:
                self.failures.append(f"{host}: {failure!r}")
                await asyncio.sleep(PAUSE_SECONDS)

    async def _use(
        self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Send requests until the connection is to be closed."""
        while not self._stop.is_set():
            writer.write(f"GET / HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            status, headers = _parse(head)
            await reader.readexactly(int(headers.get("content-length", "0")))
            self.statuses[status] += 1
            if status != 200:
                self.failures.append(f"{host}: {status}")
            if headers.get("connection") == "close":
                return
            await asyncio.sleep(PAUSE_SECONDS)


def _parse(head: str) -> tuple[int, dict[str, str]]:
    first, *lines = head.rstrip().split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return int(first.split()[1]), {name: value.strip() for name, _, value in pairs}
