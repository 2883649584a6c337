"""What a real Envoy rejects harms only itself: the rest of the push gets through, and the last good
version stays.
"""

import socket
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from aggregator.generators.spec import CLUSTER, LISTENER, ROUTE, VIRTUAL_HOST
from aggregator.model.change import Change
from config.kinds.destination_rule import DestinationRule
from config.kinds.virtual_service import VirtualService
from tests.support.builders import endpoint, port, rule, service
from tests.support.http_client import HttpClient
from tests.support.mesh import MemorySource, Mesh, running_mesh
from tests.support.poll import eventually
from tests.support.port import Ports
from tests.support.servers.backend import HttpBackend
from tests.support.servers.envoy import running_envoy

GOOD: Final = 100
VARIANTS: Final = pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])


@pytest.fixture
def ports() -> Iterator[Ports]:
    """Ports of this test."""
    reserved = Ports()
    yield reserved
    reserved.close()


@pytest.fixture
async def backend() -> AsyncIterator[HttpBackend]:
    """One backend behind all services."""
    async with HttpBackend("v1") as running:
        yield running


def host(number: int) -> str:
    """The host of a service."""
    return f"s{number}.shop.svc.cluster.local"


def services(source: MemorySource, listen: int, backend: HttpBackend) -> list[Change]:
    """A hundred services on one port."""
    return [
        source.put_service(
            service(host(number), port(listen)),
            endpoint(backend.address, ports={"http": backend.port}),
        )
        for number in range(GOOD)
    ]


def routes(source: MemorySource, generation: str, *bad: int) -> list[Change]:
    """Every service answers with a header of this generation; Envoy refuses what is no regular
    expression, which no validation has kept out here.
    """
    return [
        source.put_config(
            rule(
                VirtualService,
                {
                    "hosts": [host(number)],
                    "http": [
                        {
                            "route": [{"destination": {"host": host(number)}}],
                            "headers": {"response": {"set": {"x-generation": generation}}},
                            "rewrite": {
                                "uriRegexRewrite": {
                                    "match": "/(" if number in bad else "/(.*)",
                                    "rewrite": "/\\1",
                                }
                            },
                        }
                    ],
                },
                name=f"rule-{number}",
                source="routes.yaml",
                line=number + 1,
            )
        )
        for number in range(GOOD)
    ]


def policies(source: MemorySource, generation: int, *bad: int) -> list[Change]:
    """Every service gets a connect timeout; certificates that the proxy lacks make Envoy refuse a
    cluster.
    """
    return [
        source.put_config(
            rule(
                DestinationRule,
                {
                    "host": host(number),
                    "trafficPolicy": {
                        "connectionPool": {"tcp": {"connectTimeout": f"{generation}s"}},
                        "tls": {
                            "mode": "MUTUAL",
                            "clientCertificate": "/no/such/cert.pem",
                            "privateKey": "/no/such/key.pem",
                        }
                        if number in bad
                        else {"mode": "DISABLE"},
                    },
                },
                name=f"policy-{number}",
                source="policies.yaml",
                line=number + 1,
            )
        )
        for number in range(GOOD)
    ]


async def generation_of(client: HttpClient, listen: int, number: int) -> str:
    """Which generation of its rule a service answers with."""
    answer = await client.send(f"http://127.0.0.1:{listen}/", host=host(number))
    assert answer.status == 200
    return answer.headers.get("x-generation", "")


async def generation_is(wanted: str, client: HttpClient, listen: int, number: int) -> None:
    """Wait until a service answers with that generation."""
    await eventually(
        partial(generation_of, client, listen, number), lambda seen: seen == wanted, every=0.01
    )


def rejected(mesh: Mesh, type_url: str) -> set[str]:
    """Resources that the one connected Envoy does not take."""
    (stream,) = mesh.server.streams
    subscription = stream.session.subscriptions.get(type_url)
    return set(subscription.isolation.rejected) if subscription else set()


@VARIANTS
async def test_bad_routes_hold_back_none_of_a_hundred_good_ones(
    delta: bool, tmp_path: Path, ports: Ports, backend: HttpBackend
) -> None:
    """Two virtual hosts are refused; the others, in the same push, are in force at once."""
    listen = ports.reserve()
    async with (
        running_mesh(MemorySource()) as mesh,
        HttpClient() as client,
    ):
        mesh.submit(*services(mesh.source, listen, backend), *routes(mesh.source, "one"))
        async with running_envoy(mesh.address, tmp_path, delta=delta):
            assert await generation_of(client, listen, 7) == "one"
            mesh.submit(*routes(mesh.source, "two", 33, 77))
            for number in set(range(GOOD)) - {33, 77}:
                await generation_is("two", client, listen, number)
            # On state of the world one table holds all virtual hosts, and yet only two are left
            # out.
            kind = VIRTUAL_HOST if delta else ROUTE
            expected = {f"{listen}/{host(number)}:{listen}" for number in (33, 77)}
            await eventually(lambda: rejected(mesh, kind.type_url) == expected)
            for number in (33, 77):
                assert await generation_of(client, listen, number) == "one"
            mesh.submit(*routes(mesh.source, "three"))
            for number in (7, 33, 77):
                await generation_is("three", client, listen, number)
            await eventually(lambda: rejected(mesh, kind.type_url) == set())


@VARIANTS
async def test_bad_clusters_hold_back_none_of_a_hundred_good_ones(
    delta: bool, tmp_path: Path, ports: Ports, backend: HttpBackend
) -> None:
    """Envoy applies a part of a rejected response: all good clusters get there, the bad ones stay
    as they were.
    """
    listen = ports.reserve()
    bad = {f"outbound|{listen}||{host(number)}" for number in (33, 77)}
    async with (
        running_mesh(MemorySource()) as mesh,
        HttpClient() as client,
    ):
        mesh.submit(*services(mesh.source, listen, backend), *policies(mesh.source, 1))
        async with running_envoy(mesh.address, tmp_path, delta=delta) as envoy:

            async def timeouts() -> dict[str, str]:
                dump = await envoy.config_dump("dynamic_active_clusters")
                clusters = (each["cluster"] for each in dump)
                return {each["name"]: each["connect_timeout"] for each in clusters}

            mesh.submit(*policies(mesh.source, 2, 33, 77))
            await eventually(lambda: rejected(mesh, CLUSTER.type_url) == bad)
            good = {f"outbound|{listen}||{host(number)}" for number in range(GOOD)} - bad
            await eventually(timeouts, lambda seen: all(seen.get(name) == "2s" for name in good))
            seen = await timeouts()
            assert {seen[name] for name in bad} == {"1s"}
            for number in (7, 33, 77):
                answer = await client.send(f"http://127.0.0.1:{listen}/", host=host(number))
                assert answer.status == 200
            mesh.submit(*policies(mesh.source, 3))
            await eventually(
                timeouts, lambda seen: all(seen.get(name) == "3s" for name in good | bad)
            )
            await eventually(lambda: rejected(mesh, CLUSTER.type_url) == set())


@VARIANTS
async def test_port_that_is_taken_harms_only_itself(
    delta: bool, tmp_path: Path, ports: Ports, backend: HttpBackend
) -> None:
    """A service whose port the proxy's machine uses otherwise is reported; the others are
    served.
    """
    listen = ports.reserve()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        async with (
            running_mesh(MemorySource()) as mesh,
            HttpClient() as client,
        ):
            mesh.submit(
                *services(mesh.source, listen, backend),
                mesh.source.put_service(service("taken.shop.svc.cluster.local", port(taken))),
            )
            async with running_envoy(mesh.address, tmp_path, delta=delta):
                await eventually(
                    lambda: rejected(mesh, LISTENER.type_url) == {f"127.0.0.1_{taken}"}
                )
                answer = await client.send(f"http://127.0.0.1:{listen}/", host=host(1))
                assert answer.status == 200
