"""A gRPC backend that says who it is: any unary method answers with the backend's name."""

from collections.abc import Mapping
from typing import Any, Final

import grpc
import grpc.aio

from tests.support.servers.backend import LOOPBACK


class GrpcBackend:
    """Answers every unary call; fails the first `failures` ones with UNAVAILABLE."""

    def __init__(self, name: str) -> None:
        self.name: Final = name
        self.address: Final = LOOPBACK
        self.port = 0
        self.failures = 0
        self.calls: Final[list[Mapping[str, str]]] = []
        self._server: grpc.aio.Server | None = None

    async def __aenter__(self) -> "GrpcBackend":
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((_AnyMethod(self._answer),))
        self.port = self._server.add_insecure_port(f"{self.address}:0")
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            await self._server.stop(0)

    async def _answer(
        self, _request: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]"
    ) -> bytes:
        metadata: Any = context.invocation_metadata()
        self.calls.append(dict(metadata))
        if self.failures > 0:
            self.failures -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "asked to fail")
        return self.name.encode()


class _AnyMethod(grpc.GenericRpcHandler):
    """Has the same handler for every method."""

    def __init__(self, answer: Any) -> None:
        # Without serializers messages are bytes.
        self._handler: Final[Any] = grpc.unary_unary_rpc_method_handler(answer)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler."""
        return self._handler


async def call(
    port: int,
    authority: str,
    method: str = "/shop.Reviews/Get",
    *,
    metadata: Mapping[str, str] | None = None,
    seconds: float = 5.0,
) -> str:
    """Which backend answers a unary call to *authority* through *port* of this machine.

    Raises grpc.aio.AioRpcError.
    """
    options = [("grpc.default_authority", authority)]
    async with grpc.aio.insecure_channel(f"{LOOPBACK}:{port}", options=options) as channel:
        unary: Any = channel.unary_unary(method)
        answer = await unary(b"", metadata=tuple((metadata or {}).items()), timeout=seconds)
    return bytes(answer).decode()
