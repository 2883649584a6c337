"""Everything that the demo runs: four servers, the control plane and an Envoy, on free ports."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

import aiohttp

from examples.demo.backend import Backends, running_backends
from examples.demo.folder import MeshFolder
from examples.demo.program import DemoError, Program, find_program, free_ports, put_ports, running
from examples.demo.traffic import HOST, Traffic, client_of

BOOTSTRAP: Final = Path(__file__).parent.parent / "bootstrap.yaml"
READY_SECONDS: Final = 30.0

# Ports as the files in the tree have them; free ones are put in their place.
SERVICE_PORT: Final = 9080
BACKEND_PORTS: Final = {"v1": 9081, "v2-a": 9082, "v2-b": 9083, "v3": 9084}
XDS_PORT: Final = 15010
ADMIN_PORT: Final = 9901

ADVICE: Final = "`make install` brings it; `make demo` does that by itself."


@dataclass(frozen=True)
class Stage:
    """What runs, and what steps act on."""

    source: Path
    folder: MeshFolder
    backends: Backends
    traffic: Traffic
    service_port: int
    xds_port: int
    aggregator: Program
    envoy: Program

    def check(self) -> None:
        """Raise DemoError if a program has ended by itself."""
        self.aggregator.check()
        self.envoy.check()


@asynccontextmanager
async def running_stage(mesh: Path, work: Path) -> AsyncIterator[Stage]:
    """Everything running and ready for the block; files and logs are in *work*."""
    aggregator = find_program("mesh-aggregator", ADVICE)
    envoy = find_program("envoy", ADVICE)
    service, xds, http, admin = free_ports(4)
    async with AsyncExitStack() as stack:
        backends = await stack.enter_async_context(running_backends(*BACKEND_PORTS))
        ports = {port: backends.ports[name] for name, port in BACKEND_PORTS.items()}
        folder = MeshFolder.copied(mesh, work / "mesh", {SERVICE_PORT: service, **ports})
        serve = [aggregator, "serve", "--config-dir", str(folder.path)]
        serve += ["--grpc-address", f"127.0.0.1:{xds}", "--http-address", f"127.0.0.1:{http}"]
        daemon = await stack.enter_async_context(running("mesh-aggregator", serve, work))
        await _wait("mesh-aggregator is not ready", [daemon], lambda: _is_ready(http))
        bootstrap = work / "bootstrap.yaml"
        text = BOOTSTRAP.read_text()
        bootstrap.write_text(put_ports(text, {XDS_PORT: xds, ADMIN_PORT: admin}))
        start = [envoy, "-c", str(bootstrap), "--use-dynamic-base-id", "--concurrency", "1"]
        proxy = await stack.enter_async_context(running("envoy", start, work))
        traffic = await stack.enter_async_context(client_of(service))
        what = f"Envoy has no route to {HOST} on 127.0.0.1:{service}"
        await _wait(what, [daemon, proxy], lambda: _is_served(traffic))
        yield Stage(mesh, folder, backends, traffic, service, xds, daemon, proxy)


async def _wait(
    lack: str, programs: Sequence[Program], is_there: Callable[[], Awaitable[bool]]
) -> None:
    """Wait for a bounded time, and not for programs that have ended."""
    deadline = time.monotonic() + READY_SECONDS
    while not await is_there():
        for program in programs:
            program.check()
        if time.monotonic() > deadline:
            last = "\n".join(f"{each.name}:\n{each.last_words()}" for each in programs)
            message = f"after {READY_SECONDS:.0f} s, {lack}.\n{last}"
            raise DemoError(message)
        await asyncio.sleep(0.05)


async def _is_ready(http: int) -> bool:
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{http}/ready") as response,
        ):
            return response.status == HTTPStatus.OK
    except aiohttp.ClientError:
        return False


async def _is_served(traffic: Traffic) -> bool:
    return (await traffic.get("/")).status == HTTPStatus.OK
