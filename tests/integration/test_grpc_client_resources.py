"""gRPC's own xDS client takes what is made for it, and follows changes."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest

from aggregator.model.service import Endpoint
from tests.support.builders import endpoint, port, service
from tests.support.grpc_client import Backend, GrpcClient
from tests.support.mesh import MemorySource, running_mesh
from tests.support.rules import destination_rule, virtual_service

ECHO = service("echo.shop.svc.cluster.local", port(7070, "GRPC"))
TARGET = "xds:///echo.shop.svc.cluster.local:7070"
SUBSETS = destination_rule(
    """
    host: echo
    subsets:
    - {name: v1, labels: {version: v1}}
    - {name: v2, labels: {version: v2}}
    """
)


def place(backend: Backend, version: str) -> Endpoint:
    return endpoint("127.0.0.1", ports={"grpc": backend.port}, labels={"version": version})


def split(v1: int, v2: int) -> str:
    return f"""
    hosts: [echo]
    http:
    - route:
      - {{destination: {{host: echo, subset: v1}}, weight: {v1}}}
      - {{destination: {{host: echo, subset: v2}}, weight: {v2}}}
    """


@pytest.fixture
async def backends() -> AsyncIterator[tuple[Backend, Backend]]:
    async with Backend("v1") as first, Backend("v2") as second:
        yield first, second


async def calls_until(client: GrpcClient, wanted: Callable[[Counter[str]], bool]) -> Counter[str]:
    """Ten calls at a time until they are answered as wanted; never with an error between."""
    limit = time.monotonic() + 20
    while True:
        answers = await client.call(10)
        assert not [name for name in answers if name.startswith("!")], answers
        if wanted(answers):
            return answers
        assert time.monotonic() < limit, answers
        await asyncio.sleep(0.05)


async def test_client_sees_both_backends_and_the_removal_of_one(
    backends: tuple[Backend, Backend],
) -> None:
    """The plain case, without any rule."""
    first, second = backends
    source = MemorySource()
    source.put_service(ECHO, place(first, "v1"), place(second, "v2"))
    async with running_mesh(source) as mesh, GrpcClient(mesh.address, TARGET) as client:
        await calls_until(client, lambda answers: len(answers) == 2)
        assert await client.call(40) == {"v1": 20, "v2": 20}

        await mesh.apply(source.put_endpoints(ECHO.key, place(second, "v2")))

        assert await calls_until(client, lambda answers: set(answers) == {"v2"})
        assert await client.call(50) == {"v2": 50}


async def test_client_follows_the_weights_of_a_rule(backends: tuple[Backend, Backend]) -> None:
    """A canary works for gRPC clients as it does for Envoy."""
    first, second = backends
    source = MemorySource()
    source.put_service(ECHO, place(first, "v1"), place(second, "v2"))
    source.put_config(SUBSETS)
    source.put_config(virtual_service(split(90, 10)))
    async with running_mesh(source) as mesh, GrpcClient(mesh.address, TARGET) as client:
        answers = await client.call(500)
        assert set(answers) <= {"v1", "v2"}
        # Six standard deviations around 50.
        assert 10 <= answers["v2"] <= 90

        await mesh.apply(source.put_config(virtual_service(split(0, 100))))

        await calls_until(client, lambda answers: set(answers) == {"v2"})
        assert await client.call(50) == {"v2": 50}


RULES = {
    "everything that Envoy alone knows": """
        hosts: [echo]
        http:
        - name: secondary
          match: [{headers: {x-version: {exact: v2}}, queryParams: {a: {exact: b}}}]
          route: [{destination: {host: echo, subset: v2}}]
        - match: [{uri: {regex: "/nothing/.*"}}]
          redirect: {uri: /elsewhere}
        - match: [{uri: {prefix: /also-nothing}}]
          directResponse: {status: 418, body: {string: tea}}
        - corsPolicy: {allowOrigins: [{exact: "https://example.org"}], allowMethods: [GET]}
          retries: {attempts: 3, perTryTimeout: 2s, retryOn: "5xx,connect-failure,reset"}
          timeout: 5s
          mirror: {host: echo, subset: v2}
          headers: {request: {set: {x-set: "1"}}, response: {add: {x-added: "1"}}}
          rewrite: {authority: other}
          route: [{destination: {host: echo, subset: v1}}]
        """,
    "retries that it knows": """
        hosts: [echo]
        http:
        - retries: {attempts: 2, retryOn: "unavailable,cancelled,retriable-status-codes"}
          route: [{destination: {host: echo, subset: v1}}]
        """,
    "no retries": """
        hosts: [echo]
        http:
        - retries: {attempts: 0}
          route: [{destination: {host: echo, subset: v1}}]
        """,
    "a delay for nobody": """
        hosts: [echo]
        http:
        - fault: {delay: {fixedDelay: 5s, percentage: {value: 0}}}
          route: [{destination: {host: echo, subset: v1}}]
        """,
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
async def test_rule_that_is_made_for_envoy_leaves_the_client_working(
    backends: tuple[Backend, Backend], rule: str
) -> None:
    """gRPC's client refuses a whole table for one thing in it that it does not know."""
    first, second = backends
    source = MemorySource()
    source.put_service(ECHO, place(first, "v1"), place(second, "v2"))
    source.put_config(SUBSETS)
    source.put_config(virtual_service(rule))
    async with running_mesh(source) as mesh, GrpcClient(mesh.address, TARGET) as client:
        assert await client.call(20) == {"v1": 20}


async def test_fault_is_injected_by_the_client_itself(backends: tuple[Backend, Backend]) -> None:
    """gRPC's clients have the filter, so a rule's fault holds for them too."""
    first, _ = backends
    source = MemorySource()
    source.put_service(ECHO, place(first, "v1"))
    source.put_config(
        virtual_service(
            """
            hosts: [echo]
            http:
            - fault: {abort: {grpcStatus: UNAUTHENTICATED, percentage: {value: 100}}}
              route: [{destination: {host: echo}}]
            """
        )
    )
    async with running_mesh(source) as mesh, GrpcClient(mesh.address, TARGET) as client:
        assert await client.call(5) == {"!UNAUTHENTICATED": 5}
