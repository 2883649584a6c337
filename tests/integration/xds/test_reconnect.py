"""Who comes back gets only what differs, from whichever server, because versions are content."""

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import yaml

from aggregator.generators.spec import CLUSTER, ENDPOINT, LISTENER, ROUTE, VIRTUAL_HOST
from aggregator.model.change import Change
from aggregator.model.service import ServiceKey
from config.kinds.destination_rule import DestinationRule
from config.kinds.virtual_service import VirtualService
from tests.support.builders import endpoint, port, rule, service
from tests.support.mesh import MemorySource, running_mesh
from tests.support.port import free_port
from tests.support.xds_client import Response, XdsClient, connected, node

VARIANTS: Final = pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])
HOSTS: Final = tuple(f"s{number}.shop.svc.cluster.local" for number in range(20))
TYPES: Final = (CLUSTER, ENDPOINT, LISTENER, ROUTE, VIRTUAL_HOST)


def name(number: int) -> str:
    """A service's cluster."""
    return f"outbound|80||{HOSTS[number]}"


def source(order: random.Random | None = None) -> MemorySource:
    """Services with rules, put in in a random order."""
    made = MemorySource()
    steps: list[Callable[[], Change]] = []
    for n, host in enumerate(HOSTS):
        entry = service(host, port(80), port(9000 + n % 2, "TCP"), addresses=[f"10.9.0.{n % 3}"])
        near = endpoint(f"10.0.0.{n}", locality="eu/eu-1", labels={"version": "v1"})
        far = endpoint(f"10.0.1.{n}", locality="us/us-1", labels={"version": "v2"})
        steps.append(partial(made.put_service, entry, near, far))
    for n, host in enumerate(HOSTS[:6] * 2):
        spec = {"hosts": [host], "http": [{"route": [{"destination": {"host": host}}]}]}
        steps.append(partial(made.put_config, rule(VirtualService, spec, name=f"r{n}")))
    for n, host in enumerate(HOSTS[:8]):
        subsets = [{"name": "v1", "labels": {"version": "v1"}}]
        policy = rule(DestinationRule, {"host": host, "subsets": subsets}, name=f"d{n}")
        steps.append(partial(made.put_config, policy))
    if order is not None:
        order.shuffle(steps)
    for step in steps:
        step()
    return made


async def boot(client: XdsClient) -> list[bytes]:
    """Get everything; returns the bytes of all responses of each type, in the order of types."""
    came: list[Response] = []
    remember = client.ack

    async def ack(response: Response) -> None:
        came.append(response)
        await remember(response)

    client.ack = ack  # type: ignore[method-assign]  # the test watches its own client
    await client.boot()
    if client.delta:
        await client.get(VIRTUAL_HOST)
    return [each.raw for each in sorted(came, key=lambda each: each.type_url)]


async def say_again(client: XdsClient, before: XdsClient) -> None:
    """Subscribe as an Envoy does that comes back."""
    for kind in TYPES:
        known = before.versions.get(kind.type_url, {})
        names = [] if kind in (CLUSTER, LISTENER, VIRTUAL_HOST) else sorted(known)
        await client.subscribe(kind, *names, versions=known)


async def test_delta_client_gets_only_what_differs_even_from_another_server() -> None:
    """A restart of the control plane must not send the whole mesh to every proxy."""
    async with running_mesh(source()) as mesh, connected(mesh.address) as before:
        await boot(before)
    other = source(random.Random(1))
    other.put_endpoints(ServiceKey("shop", HOSTS[3]), endpoint("10.0.0.99"))
    other.put_service(service("new.shop.svc.cluster.local", port(80)), endpoint())
    async with running_mesh(other) as mesh, connected(mesh.address) as after:
        await say_again(after, before)
        assert (await after.take(CLUSTER)).names == ["outbound|80||new.shop.svc.cluster.local"]
        changed = {name(3), f"outbound|9001||{HOSTS[3]}"}
        assert changed <= set((await after.take(ENDPOINT)).names)
        assert (await after.take(VIRTUAL_HOST)).names == ["80/new.shop.svc.cluster.local:80"]
        assert await after.is_quiet()


async def test_delta_client_that_has_everything_gets_nothing() -> None:
    """500 proxies that come back to an unchanged mesh cost nothing but their requests."""
    async with running_mesh(source()) as mesh:
        async with connected(mesh.address) as before:
            await boot(before)
        async with connected(mesh.address) as after:
            await say_again(after, before)
            assert await after.is_quiet()


async def test_delta_client_is_told_what_went_while_it_was_away() -> None:
    """A listener that is gone is removed; a cluster too, once nothing can be draining on it."""
    made = source()
    who = node(metadata={"NAMESPACE": "shop", "PROXY_CONFIG": {"drainDuration": "0.1s"}})
    async with running_mesh(made) as mesh:
        async with connected(mesh.address, who=who) as before:
            await boot(before)
        await mesh.apply(made.remove_service(ServiceKey("shop", HOSTS[19])))
        async with connected(mesh.address, who=who) as after:
            await say_again(after, before)
            removed: set[str] = set()
            while name(19) not in removed:
                response = await after.receive()
                await after.ack(response)
                removed.update(response.removed)
            assert f"80/{HOSTS[19]}:80" in removed


async def test_world_client_with_the_same_version_gets_no_clusters() -> None:
    """On state of the world only complete types have a version that says what a client has."""
    async with running_mesh(source()) as mesh:
        async with connected(mesh.address, delta=False) as before:
            response = await before.get(CLUSTER)
        async with connected(mesh.address, delta=False) as after:
            await after.subscribe(CLUSTER, version=response.version)
            assert await after.is_quiet()
            await mesh.apply(mesh.source.put_service(service("new.example.com"), endpoint()))
            names = set((await after.take(CLUSTER)).names)
            assert names == {*response.names, "outbound|80||new.example.com"}


@VARIANTS
async def test_two_servers_send_the_same_bytes_whatever_came_first(delta: bool) -> None:
    """Replicas must agree, or every reconnect to another one would send everything."""
    sent: list[list[bytes]] = []
    for seed in range(3):
        made = source(random.Random(seed))
        async with running_mesh(made) as mesh, connected(mesh.address, delta=delta) as client:
            sent.append(await boot(client))
    assert sent[0]
    assert sent[0] == sent[1] == sent[2]


@VARIANTS
async def test_history_of_a_server_does_not_show_in_its_versions(delta: bool) -> None:
    """What was changed and changed back is what it was."""
    made = source()
    async with running_mesh(made) as mesh:
        async with connected(mesh.address, delta=delta) as client:
            first = await boot(client)
            key = ServiceKey("shop", HOSTS[5])
            kept = made.services[key], made.endpoints(key)
            await mesh.apply(made.remove_service(key))
            await mesh.apply(made.put_service(kept[0], *kept[1]))
        async with connected(mesh.address, delta=delta) as client:
            assert await boot(client) == first


SETTINGS: Final = (
    "serve",
    "--config-dir",
    "{folder}",
    "--grpc-address",
    "127.0.0.1:{grpc}",
    "--http-address",
    "127.0.0.1:{http}",
)


@asynccontextmanager
async def daemon(folder: Path) -> AsyncIterator[str]:
    """A real daemon on a folder; gives its address."""
    ports = {"grpc": free_port(), "http": free_port()}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "aggregator.cli.main",
        *(each.format(folder=folder, **ports) for each in SETTINGS),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield f"127.0.0.1:{ports['grpc']}"
    finally:
        process.terminate()
        await process.wait()


async def test_two_daemons_on_one_folder_send_the_same_bytes(tmp_path: Path) -> None:
    """Scale-out is by replicas that each read the registries themselves."""
    for number, host in enumerate(HOSTS[:8]):
        entry = {
            "host": host,
            "namespace": "shop",
            "ports": [{"name": "http", "number": 80, "protocol": "HTTP"}],
            "endpoints": [{"address": f"10.0.0.{number}", "labels": {"version": "v1"}}],
        }
        (tmp_path / f"{number}.yaml").write_text(yaml.safe_dump({"services": [entry]}))
    async with daemon(tmp_path) as one, daemon(tmp_path) as two:
        for delta in (True, False):
            sent: list[list[bytes]] = []
            for address in (one, two):
                async with connected(address, delta=delta, wait=True) as client:
                    sent.append(await boot(client))
            assert sent[0] == sent[1]
            assert any(HOSTS[7].encode() in raw for raw in sent[0])
