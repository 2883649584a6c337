"""A server with no work behind it: sends recorded bytes to every stream and drops what it is told.

What it takes is what the transport takes, and so the least that any server built on it can.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import grpc
import grpc.aio
from msgspec import Struct

from aggregator.xds.server import OPTIONS
from bench.child import Commands
from bench.client import CLASS_KEY

SERVICE: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"

Messages = Mapping[int, tuple[bytes, ...]]
"""What each class of streams gets."""


class StartFloor(Struct, frozen=True):
    """Serve: `at_once` when a stream begins, and `later` whenever told to; answered `Serving`."""

    at_once: Messages
    later: Messages


class Serving(Struct, frozen=True):
    """Where a server listens."""

    address: str


class Send(Struct, frozen=True):
    """Send each stream its messages; answered with `Sent` as soon as all are told to."""


class Sent(Struct, frozen=True):
    """When it began, in nanoseconds of the machine's monotonic clock."""

    at: int


class Floor:
    """Holds the streams."""

    def __init__(self, start: StartFloor) -> None:
        self._start: Final = start
        self._turns: Final[set[asyncio.Event]] = set()

    async def listen(self) -> Serving:
        """Take a port."""
        server = grpc.aio.server(options=OPTIONS)
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(
            self._serve
        )
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    SERVICE,
                    {"StreamAggregatedResources": handler, "DeltaAggregatedResources": handler},
                ),
            )
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self._server = server
        return Serving(f"127.0.0.1:{port}")

    def send(self) -> Sent:
        """Have every stream written to."""
        sent = Sent(time.monotonic_ns())
        for turn in self._turns:
            turn.set()
        return sent

    async def _serve(
        self, requests: AsyncIterator[bytes], context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> None:
        metadata = dict(context.invocation_metadata() or ())
        of_class = int(metadata[CLASS_KEY])
        turn = asyncio.Event()
        self._turns.add(turn)
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(self._write(of_class, turn, context))
            async for _ in requests:
                pass
            writer.cancel()
        self._turns.discard(turn)

    async def _write(
        self, of_class: int, turn: asyncio.Event, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> None:
        for payload in self._start.at_once.get(of_class, ()):
            await context.write(payload)
        while True:
            await turn.wait()
            turn.clear()
            for payload in self._start.later.get(of_class, ()):
                await context.write(payload)


async def run_floor(commands: Commands) -> None:
    """The process of the bare server."""
    floor = Floor(await commands.take())
    commands.answer(await floor.listen())
    while True:
        match await commands.take():
            case Send():
                commands.answer(floor.send())
            case command:
                message = f"unknown command {command!r}"
                raise TypeError(message)
