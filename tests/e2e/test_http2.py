"""HTTP/2 and gRPC through Envoy, and what connections to servers begin with."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from tests.e2e.conftest import BOTH_VARIANTS, Backends
from tests.support.poll import eventually
from tests.support.servers.grpc_backend import GrpcBackend, call
from tests.support.town import Town

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(loop_scope="session")
async def grpc_v1() -> AsyncIterator[GrpcBackend]:
    """A gRPC server."""
    async with GrpcBackend("v1") as backend:
        yield backend


@pytest_asyncio.fixture(loop_scope="session")
async def grpc_v2() -> AsyncIterator[GrpcBackend]:
    """Another one."""
    async with GrpcBackend("v2") as backend:
        yield backend


@BOTH_VARIANTS
async def test_grpc_by_method_and_metadata(
    town: Town, grpc_v1: GrpcBackend, grpc_v2: GrpcBackend
) -> None:
    """Rules match gRPC calls by the path of their method and by their metadata."""
    case = town.case("grpc")
    case.service(grpc_v1, grpc_v2, protocol="GRPC")
    case.policy("subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]")
    case.rule(
        """
        http:
        - match:
          - uri: {prefix: /shop.Ratings/}
          - headers: {x-user: {exact: ann}}
          route: [{destination: {host: <host>, subset: v2}}]
        - route: [{destination: {host: <host>, subset: v1}}]
        """
    )
    await case.apply()

    assert await call(town.port, case.host) == "v1"
    assert await call(town.port, case.host, "/shop.Ratings/Get") == "v2"
    assert await call(town.port, case.host, metadata={"x-user": "ann"}) == "v2"


async def test_grpc_retries(town: Town, grpc_v1: GrpcBackend) -> None:
    """A call that the server refuses for now is made again, as gRPC's statuses say."""
    case = town.case("grpc-retries")
    case.service(grpc_v1, protocol="GRPC")
    case.rule(
        """
        http:
        - retries: {attempts: 2, retryOn: unavailable}
          route: [{destination: {host: <host>}}]
        """
    )
    await case.apply()
    grpc_v1.failures = 2
    assert await call(town.port, case.host) == "v1"
    assert len(grpc_v1.calls) == 3

    grpc_v1.failures = 9
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(town.port, case.host)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert len(grpc_v1.calls) == 6


async def test_grpc_fault(town: Town, grpc_v1: GrpcBackend) -> None:
    """A fault may be a gRPC status."""
    case = town.case("grpc-fault")
    case.service(grpc_v1, protocol="GRPC")
    case.rule(
        """
        http:
        - fault: {abort: {grpcStatus: PERMISSION_DENIED, percentage: {value: 100}}}
          route: [{destination: {host: <host>}}]
        """
    )
    await case.apply()

    with pytest.raises(grpc.aio.AioRpcError) as aborted:
        await call(town.port, case.host)
    assert aborted.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert not grpc_v1.calls


@pytest.mark.parametrize("http", ["h2UpgradePolicy: UPGRADE", "useClientProtocol: true"])
async def test_http2_to_the_server(town: Town, grpc_v1: GrpcBackend, http: str) -> None:
    """A server of a port that says HTTP is spoken to in HTTP/2 only where a rule says so."""
    case = town.case("h2")
    case.service(grpc_v1)
    await case.apply()
    with pytest.raises(grpc.aio.AioRpcError):
        await call(town.port, case.host)

    case.policy(f"trafficPolicy: {{connectionPool: {{http: {{{http}}}}}}}")
    await case.apply()
    assert await call(town.port, case.host) == "v1"


async def test_client_speaks_http2_and_the_server_does_not(town: Town, backends: Backends) -> None:
    """Envoy translates: a port that says HTTP takes clients of both versions."""
    case = town.case("h2-client")
    case.service(backends.v1)
    await case.apply()

    with pytest.raises(grpc.aio.AioRpcError):
        await call(town.port, case.host)
    assert [each.path for each in case.received(backends.v1)] == []
    seen = [each for each in backends.v1.received if each.authority == case.host]
    assert [each.path for each in seen] == ["/shop.Reviews/Get"]


@pytest.mark.parametrize(
    ("version", "start"), [("V1", b"PROXY TCP4 127.0.0.1 "), ("V2", b"\r\n\r\n\0\r\nQUIT\n")]
)
async def test_proxy_protocol(town: Town, version: str, start: bytes) -> None:
    """A server is told the client's address before anything else."""
    received: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read(1000))
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0)
    async with server:
        case = town.case("proxy-protocol")
        port = town.ports.reserve()
        at = server.sockets[0].getsockname()[1]
        case.put(
            "ServiceEntry",
            """
            hosts: [<host>]
            ports: [{number: <number>, name: tcp, protocol: TCP}]
            resolution: STATIC
            endpoints: [{address: 127.0.0.1, ports: {tcp: <at>}}]
            """,
            number=port,
            at=at,
        )
        case.policy(f"trafficPolicy: {{proxyProtocol: {{version: {version}}}}}")
        await case.apply()

        async def connect() -> None:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"hello")
            await writer.drain()
            writer.close()

        await eventually(connect, lambda _: True)
        await eventually(lambda: received)
    assert received[0].startswith(start)
