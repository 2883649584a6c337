"""A gRPC client over xDS in a process of its own: its bootstrap is read once, at the first channel.

Run as a program it takes a target, and for each number on its standard input makes that many
calls and writes, as a line of JSON, how often each backend answered. `GrpcClient` drives it.
"""

import asyncio
import json
import os
import sys
from collections import Counter
from types import TracebackType
from typing import Final, Self

import grpc

METHOD: Final = "/test.Backend/Name"
CALL_SECONDS: Final = 10.0


class GrpcClient:
    """Calls ``xds:///`` targets as the server at *control_plane* tells it."""

    def __init__(self, control_plane: str, target: str) -> None:
        self._bootstrap: Final = json.dumps(
            {
                "xds_servers": [
                    {
                        "server_uri": control_plane,
                        "channel_creds": [{"type": "insecure"}],
                        "server_features": ["xds_v3"],
                    }
                ],
                "node": {
                    "id": "sidecar~127.0.0.1~client.shop~shop.svc.cluster.local",
                    "metadata": {"GENERATOR": "grpc", "NAMESPACE": "shop"},
                },
            }
        )
        self._target: Final = target
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.support.grpc_client",
            self._target,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "GRPC_XDS_BOOTSTRAP_CONFIG": self._bootstrap},
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()

    async def call(self, times: int) -> Counter[str]:
        """Answers by name; failed calls by ``!`` and their status."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{times}\n".encode())
        await process.stdin.drain()
        return Counter(json.loads(await process.stdout.readline()))


class Backend:
    """A server that answers with its name."""

    def __init__(self, name: str) -> None:
        self._name: Final = name
        self._server: Final = grpc.aio.server()
        self.port: Final = self._server.add_insecure_port("127.0.0.1:0")

    async def __aenter__(self) -> Self:
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
            self._answer
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("test.Backend", {"Name": handler}),)
        )
        await self._server.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._server.stop(0)

    async def _answer(self, _request: bytes, _context: object) -> bytes:
        return self._name.encode()


def call_once(channel: grpc.Channel) -> str:
    """The name of the backend that answered."""
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
    try:
        return bytes(call(b"", timeout=CALL_SECONDS, wait_for_ready=True)).decode()
    except grpc.RpcError as error:
        return f"!{error.code().name}"


def main() -> None:
    """Serve counts until the input ends."""
    with grpc.insecure_channel(sys.argv[1]) as channel:
        for line in sys.stdin:
            counts = Counter(call_once(channel) for _ in range(int(line)))
            sys.stdout.write(json.dumps(counts) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
