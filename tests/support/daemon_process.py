"""The daemon as users run it: a process with a settings file, and what it logs and answers."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp

from tests.support.poll import eventually
from tests.support.port import free_port


class Daemon:
    """A running `serve`, with what it logs."""

    def __init__(self, process: Process, grpc_port: int, http_port: int) -> None:
        self.process: Final = process
        self.grpc: Final = f"127.0.0.1:{grpc_port}"
        self.http: Final = f"http://127.0.0.1:{http_port}"
        self.events: Final[list[dict[str, Any]]] = []
        self.noise: Final[list[str]] = []

    async def read_log(self) -> None:
        """Take the log in; what is no event is noise, such as a traceback."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            try:
                self.events.append(json.loads(line))
            except ValueError:
                self.noise.append(line.decode())

    def logged(self, message: str) -> list[dict[str, Any]]:
        """Events of that name so far."""
        return [event for event in self.events if event["message"] == message]

    async def get(self, path: str) -> str:
        """The body of an answer that is good."""
        async with aiohttp.ClientSession() as client, client.get(self.http + path) as response:
            body = await response.text()
            assert response.status == 200, body
            return body

    async def ready(self) -> None:
        """Return once /ready says so."""
        await eventually(lambda: self.get("/ready"), seconds=20)

    async def hosts(self) -> set[str]:
        """The hosts of the model."""
        rows = json.loads(await self.get("/debug/endpointz"))
        return {row["host"] for row in rows}

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)


@asynccontextmanager
async def serving(*arguments: str, environ: dict[str, str] | None = None) -> AsyncIterator[Daemon]:
    """Run `serve` on free ports for the block."""
    grpc_port, http_port = free_port(), free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "aggregator.cli.main",
        "serve",
        *arguments,
        f"--grpc-address=127.0.0.1:{grpc_port}",
        f"--http-address=127.0.0.1:{http_port}",
        stderr=PIPE,
        env={**os.environ, **(environ or {})},
    )
    daemon = Daemon(process, grpc_port, http_port)
    log = asyncio.create_task(daemon.read_log())
    try:
        yield daemon
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await log
