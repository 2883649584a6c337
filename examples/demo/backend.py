"""The shop's servers, which the demo itself runs: they say who they are and count what arrives."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from typing import Final

from aiohttp import web

NAME_HEADER: Final = "x-backend"
ID_HEADER: Final = "x-demo-id"
FLAKY_PATH: Final = "/stock"
"""Below it, each request is refused the first time that it arrives."""


class Backends:
    """All servers; `ports` tells where each one listens."""

    def __init__(self) -> None:
        self.ports: Final[dict[str, int]] = {}
        self.arrivals: Final[Counter[str]] = Counter()
        """How often each request arrived, by its id."""

    async def start(self, name: str, stack: AsyncExitStack) -> None:
        """Listen on a free port until *stack* ends."""

        async def answer(request: web.Request) -> web.Response:
            return self._answer(name, request)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.ports[name] = runner.addresses[0][1]

    def _answer(self, name: str, request: web.Request) -> web.Response:
        key = request.headers.get(ID_HEADER, "")
        self.arrivals[key] += 1
        refused = request.path.startswith(FLAKY_PATH) and self.arrivals[key] == 1
        status = HTTPStatus.SERVICE_UNAVAILABLE if refused else HTTPStatus.OK
        return web.Response(status=status, headers={NAME_HEADER: name})


@asynccontextmanager
async def running_backends(*names: str) -> AsyncIterator[Backends]:
    """Run a server of each name for the block."""
    backends = Backends()
    async with AsyncExitStack() as stack:
        for name in names:
            await backends.start(name, stack)
        yield backends
