"""gRPC's own xDS client balances over what clusters and assignments are made for it."""

from collections.abc import AsyncIterator

import pytest

from tests.support.builders import endpoint, port, service
from tests.support.grpc_client import Backend, GrpcClient
from tests.support.mesh import MemorySource, running_mesh
from tests.support.rules import destination_rule

ECHO = service("echo.shop.svc.cluster.local", port(7070, "GRPC"))
TARGET = "xds:///echo.shop.svc.cluster.local:7070"


@pytest.fixture
async def backends() -> AsyncIterator[tuple[Backend, Backend]]:
    async with Backend("v1") as first, Backend("v2") as second:
        yield first, second


async def test_weights_of_endpoints_of_one_place_are_followed(
    backends: tuple[Backend, Backend],
) -> None:
    """The client ignores them inside a place, so that each weight is sent as one."""
    first, second = (
        endpoint("127.0.0.1", ports={"grpc": each.port}, locality="eu/eu-1/a", weight=weight)
        for each, weight in zip(backends, (9, 1), strict=True)
    )
    source = MemorySource()
    source.put_service(ECHO, first, second)
    async with running_mesh(source) as mesh, GrpcClient(mesh.address, TARGET) as client:
        answers = await client.call(500)

    assert set(answers) == {"v1", "v2"}
    # Six standard deviations around 50.
    assert 10 <= answers["v2"] <= 90


async def test_a_name_is_resolved_by_the_client(backends: tuple[Backend, Backend]) -> None:
    """Services by name work without Envoy too."""
    named = service(ECHO.host, *ECHO.ports, resolution="DNS")
    source = MemorySource()
    source.put_service(named, endpoint("localhost", ports={"grpc": backends[0].port}))
    async with running_mesh(source) as mesh, GrpcClient(mesh.address, TARGET) as client:
        assert await client.call(5) == {"v1": 5}


@pytest.mark.parametrize(
    "policy",
    [
        "loadBalancer: {simple: RANDOM, warmup: {duration: 10s}}",
        "loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 64}}}",
        "loadBalancer: {consistentHash: {httpHeaderName: user, maglev: {}}}",
        "loadBalancer: {simple: PASSTHROUGH}",
        "connectionPool: {tcp: {maxConnections: 5}, http: {http2MaxRequests: 50, maxRetries: 3}}",
        "outlierDetection: {consecutive5xxErrors: 5, interval: 1s, maxEjectionPercent: 50},"
        "loadBalancer: {localityLbSetting: {failover: [{from: eu, to: us}]}}",
        "retryBudget: {percent: 10}",
        "proxyProtocol: {version: V2}",
    ],
)
async def test_no_policy_is_refused(policy: str, backends: tuple[Backend, Backend]) -> None:
    """The client refuses a whole response for one field that it does not know the value of."""
    source = MemorySource()
    source.put_service(
        ECHO,
        endpoint("127.0.0.1", ports={"grpc": backends[0].port}, locality="eu/eu-1/a"),
        endpoint("127.0.0.1", ports={"grpc": backends[1].port}, locality="us/us-1/a"),
    )
    source.put_config(destination_rule(f"host: echo\ntrafficPolicy: {{{policy}}}"))
    async with running_mesh(source) as mesh, GrpcClient(mesh.address, TARGET) as client:
        answers = await client.call(10)

    assert set(answers) <= {"v1", "v2"}
