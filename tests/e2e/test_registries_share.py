"""Registries and networks behind one host, under real traffic: shares, failover, gateways."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec import Struct

from tests.support.http_client import HttpClient
from tests.support.poll import eventually
from tests.support.port import Ports
from tests.support.servers.backend import HttpBackend
from tests.support.servers.envoy import Envoy, Node, start_envoy
from tests.support.shared_mesh import (
    SharedMesh,
    counted,
    ejecting,
    running_shared_mesh,
    served_by,
    wait_endpoints,
)
from tests.support.traffic import Traffic

pytestmark = pytest.mark.e2e

HOST: Final = "reviews.shop.mesh"
REGISTRIES: Final = [
    {"name": "east", "type": "files", "path": "east", "cluster_id": "east", "network": "net1"},
    {"name": "west", "type": "files", "path": "west", "cluster_id": "west", "network": "net2"},
]
NODE: Final = Node(
    locality="eu/eu-1/a",
    metadata={"CLUSTER_ID": "east", "NETWORK": "net1"},
)
REQUESTS: Final = 300


class Places(Struct, frozen=True):
    """Two registries with two backends each, and one Envoy in the first one's cluster."""

    mesh: SharedMesh
    envoy: Envoy
    client: HttpClient
    port: int
    east: tuple[HttpBackend, HttpBackend]
    west: tuple[HttpBackend, HttpBackend]

    def set_up(self, **sections: Any) -> None:
        """Change the settings."""
        self.mesh.set_up(registries=REGISTRIES, **sections)

    def serve(self, registry: str, *backends: HttpBackend, **more: Any) -> None:
        """Have a registry serve the host by these."""
        self.mesh.write(registry, "reviews.yaml", served_by(HOST, self.port, *backends, **more))

    async def expect(self, *tiers: dict[HttpBackend, int]) -> None:
        """Return once Envoy has these, by priority, with their weights."""
        expected = {
            backend.at: (priority, weight)
            for priority, tier in enumerate(tiers)
            for backend, weight in tier.items()
        }
        await wait_endpoints(self.envoy, HOST, self.port, expected)

    async def ask(self, times: int = 1) -> dict[str, int]:
        """Who answers so many requests, each with 200."""
        counted((*self.east, *self.west))
        for _ in range(times):
            answer = await self.client.send(f"http://127.0.0.1:{self.port}/", host=HOST)
            assert answer.status == 200, answer
        return dict(counted((*self.east, *self.west)))


@pytest.fixture
def ports() -> Iterator[Ports]:
    """Ports of this test."""
    reserved = Ports()
    yield reserved
    reserved.close()


@pytest.fixture
async def places(tmp_path: Path, ports: Ports) -> AsyncIterator[Places]:
    """All of it running, with one backend of each registry in use."""
    async with AsyncExitStack() as stack:
        names = ("east-1", "east-2", "west-1", "west-2")
        backends = [await stack.enter_async_context(HttpBackend(each)) for each in names]
        mesh = await stack.enter_async_context(running_shared_mesh(tmp_path, registries=REGISTRIES))
        client = await stack.enter_async_context(HttpClient())
        envoy = await start_envoy(mesh.daemon.grpc, tmp_path / "envoy", node=NODE, workers=1)
        stack.push_async_callback(envoy.stop)
        east, west = (backends[0], backends[1]), (backends[2], backends[3])
        found = Places(mesh, envoy, client, ports.reserve(), east, west)
        found.serve("east", east[0])
        found.serve("west", west[0])
        await found.expect({east[0]: 1, west[0]: 1})
        await eventually(found.ask, seconds=15)
        yield found


async def test_a_service_moves_from_one_registry_to_the_other_by_weights(places: Places) -> None:
    """Each step of a migration is what the backends see, and no request fails on the way."""
    places.serve("west", *places.west)
    (old, _), (new, newer) = places.east, places.west
    async with Traffic(places.port, HOST, clients=2) as traffic:
        for percent, weights in (
            (90, {old: 18, new: 1, newer: 1}),
            (50, {old: 2, new: 1, newer: 1}),
        ):
            places.set_up(
                merge=[
                    {
                        "hosts": ["*.shop.mesh"],
                        "policy": "weights",
                        "weights": {"east": percent, "west": 100 - percent},
                    }
                ]
            )
            await places.expect(weights)
            seen = await places.ask(REQUESTS)
            share = 100 * seen["east-1"] / sum(seen.values())
            assert abs(share - percent) < 8, seen
        places.set_up(
            merge=[{"hosts": [HOST], "policy": "weights", "weights": {"east": 0, "west": 100}}]
        )
        await places.expect({new: 1, newer: 1})
        seen = await places.ask(REQUESTS)
        assert seen["east-1"] == 0, seen
        assert abs(seen["west-1"] - seen["west-2"]) < REQUESTS * 0.15, seen

    assert traffic.failures == []


async def test_the_next_registry_takes_over_when_endpoints_fail(places: Places) -> None:
    """Once the dead ones are ejected, nothing fails; and what is reported gone is gone."""
    (first, second), (other, _) = places.east, places.west
    places.serve("east", first, second)
    places.mesh.write("east", "rules.yaml", ejecting(HOST))
    places.set_up(merge=[{"hosts": [HOST], "policy": "failover"}])
    await places.expect({first: 1, second: 1}, {other: 1})
    assert set(await places.ask(20)) >= {"east-1", "east-2"}
    assert (await places.ask(20))["west-1"] == 0

    await first.stop()
    await second.stop()
    await eventually(places.ask, lambda seen: seen["west-1"] == 1, seconds=15)
    async with Traffic(places.port, HOST) as traffic:
        seen = await places.ask(REQUESTS)
    assert traffic.failures == []
    assert seen["east-1"] == seen["east-2"] == 0

    places.serve("east")
    await places.expect({other: 1})
    assert (await places.ask(10))["west-1"] == 10


async def test_only_the_first_registry_that_has_anything_serves(places: Places) -> None:
    """A registry that stands in does so as soon as the other has nothing left."""
    (first, _), (other, _) = places.east, places.west
    places.set_up(merge=[{"hosts": [HOST], "policy": "priority", "registries": ["west"]}])
    await places.expect({other: 1})
    assert (await places.ask(10))["west-1"] == 10

    async with Traffic(places.port, HOST) as traffic:
        places.serve("west")
        await places.expect({first: 1})
        assert (await places.ask(10))["east-1"] >= 10
    assert traffic.failures == []


async def test_the_cluster_next_door_takes_over_by_locality(places: Places) -> None:
    """Two clusters in two regions: the own one first, the other one when it fails."""
    (near, _), (far, _) = places.east, places.west
    places.mesh.write("east", "rules.yaml", ejecting(HOST))
    places.serve("east", near, locality="eu/eu-1/a")
    places.serve("west", far, locality="us/us-1/a")
    await places.expect({near: 1}, {far: 1})
    assert (await places.ask(10))["west-1"] == 0

    await near.stop()
    await eventually(places.ask, lambda seen: seen["west-1"] == 1, seconds=15)
    async with Traffic(places.port, HOST) as traffic:
        await places.ask(50)
    assert traffic.failures == []


async def test_another_network_is_reached_through_its_gateway(places: Places) -> None:
    """Its endpoints have addresses that nobody can dial from here; the gateway takes it all."""
    (near, _), (gateway, another) = places.east, places.west
    unreachable = served_by(HOST, places.port)
    unreachable["services"][0]["endpoints"] = [
        {"address": f"10.255.255.{number}", "locality": f"us/us-{number}"} for number in (1, 2, 3)
    ]
    ways = [{"address": each.address, "port": each.port} for each in (gateway, another)]
    places.set_up(networks={"net2": {"gateways": ways[:1]}})
    places.mesh.write("west", "reviews.yaml", unreachable)

    await places.expect({near: 1, gateway: 3})
    seen = await places.ask(100)
    assert abs(seen["west-1"] - 75) < 10, seen

    places.set_up(networks={"net2": {"gateways": ways}})
    await places.expect({near: 2, gateway: 3, another: 3})
    seen = await places.ask(100)
    assert abs(seen["west-1"] - 37) < 10, seen
    assert abs(seen["west-2"] - 37) < 10, seen
