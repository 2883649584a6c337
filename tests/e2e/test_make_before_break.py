"""Under constant traffic nothing that the control plane does costs a request."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from aggregator.model.change import Change
from aggregator.model.config import ConfigKey
from aggregator.model.service import ServiceKey
from config.kinds.destination_rule import DestinationRule
from config.kinds.sidecar import Sidecar
from config.kinds.virtual_service import VirtualService
from config.mesh import MeshConfig
from tests.support.builders import endpoint, port, rule, service
from tests.support.mesh import MemorySource, Mesh, running_mesh
from tests.support.port import Ports
from tests.support.servers.backend import HttpBackend
from tests.support.servers.envoy import DRAIN_SECONDS, Node, running_envoy
from tests.support.traffic import Traffic

ROUNDS: Final = 50
HOST: Final = "reviews.shop.svc.cluster.local"
NODE: Final = Node(metadata={"PROXY_CONFIG": {"drainDuration": f"{DRAIN_SECONDS}s"}})


@pytest.fixture
def ports() -> Iterator[Ports]:
    """Ports of this test."""
    reserved = Ports()
    yield reserved
    reserved.close()


@pytest.fixture
async def backends() -> AsyncIterator[tuple[HttpBackend, HttpBackend]]:
    """Two versions of the service."""
    async with HttpBackend("v1") as first, HttpBackend("v2") as second:
        yield first, second


class Changes:
    """What one round may do, besides renaming the subsets and switching the route to them."""

    def __init__(
        self, mesh: Mesh, backends: tuple[HttpBackend, HttpBackend], listen: int, spare: int
    ) -> None:
        self._mesh: Final = mesh
        self._source: Final[MemorySource] = mesh.source
        self._ports: Final = [int(each.at.rpartition(":")[2]) for each in backends]
        self._listen: Final = listen
        self._spare: Final = spare
        self._settings = MeshConfig()

    def services(self) -> list[Change]:
        """The service under traffic, and another one."""
        return [
            self._source.put_service(service(HOST, port(self._listen)), *self._endpoints(0)),
            self._source.put_service(
                service("other.shop.svc.cluster.local", port(self._listen)), *self._endpoints(0)
            ),
        ]

    def _endpoints(self, round_number: int) -> list[Any]:
        return [
            endpoint(
                "127.0.0.1",
                ports={"http": number},
                labels={"version": version, "round": str(round_number)},
            )
            for version, number in zip(("v1", "v2"), self._ports, strict=True)
        ]

    def rename_subsets(self, number: int) -> list[Change]:
        """New subset names, and so new clusters, and a route that is switched to them."""
        names = [f"a{number}", f"b{number}"]
        subsets = [
            {"name": name, "labels": {"version": version}}
            for name, version in zip(names, ("v1", "v2"), strict=True)
        ]
        route = [
            {"destination": {"host": HOST, "subset": name}, "weight": weight}
            for name, weight in zip(names, (30, 70), strict=True)
        ]
        return [
            self._source.put_config(rule(DestinationRule, {"host": HOST, "subsets": subsets})),
            self._source.put_config(
                rule(VirtualService, {"hosts": [HOST], "http": [{"route": route}]})
            ),
        ]

    def swap_listener(self, number: int) -> list[Change]:
        """Another content of every listener: the old ones drain."""
        return self._change_mesh(access_log_file="/dev/null" if number % 2 else "")

    def swap_route(self, number: int) -> list[Change]:
        """Another content of every route table."""
        mode = "REGISTRY_ONLY" if number % 2 else "ALLOW_ANY"
        policy = msgspec.convert({"mode": mode}, type(self._settings.outbound_traffic_policy))
        return self._change_mesh(outbound_traffic_policy=policy)

    def _change_mesh(self, **fields: Any) -> list[Change]:
        self._settings = msgspec.structs.replace(self._settings, **fields)
        self._mesh.engine.set_mesh(self._settings)
        return []

    def add_service(self, number: int) -> list[Change]:
        """A service on a port of its own, or none any more."""
        key = ServiceKey("shop", "spare.shop.svc.cluster.local")
        if self._source.service(key) is not None:
            return [self._source.remove_service(key)]
        return [self._source.put_service(service(key.host, port(self._spare)), *self._endpoints(0))]

    def scope(self, number: int) -> list[Change]:
        """A Sidecar that moves the proxy to another view, or none any more."""
        key = ConfigKey("Sidecar", "shop", "narrow")
        if self._source.config(key) is not None:
            return [self._source.remove_config(key)]
        sidecar = rule(Sidecar, {"egress": [{"hosts": ["./*"]}]}, name="narrow")
        return [self._source.put_config(sidecar)]

    def retune_cluster(self, number: int) -> list[Change]:
        """Another content of a cluster in use: it warms anew, with the endpoints that it has."""
        policy = {"connectionPool": {"tcp": {"connectTimeout": f"{number}s"}}}
        host = "other.shop.svc.cluster.local"
        config = rule(DestinationRule, {"host": host, "trafficPolicy": policy}, name="other")
        return [self._source.put_config(config)]

    def refresh_endpoints(self, number: int) -> list[Change]:
        """Other labels on the same addresses."""
        return [self._source.put_endpoints(ServiceKey("shop", HOST), *self._endpoints(number))]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])
async def test_fifty_rounds_of_changes_cost_no_request(
    delta: bool,
    tmp_path: Path,
    ports: Ports,
    backends: tuple[HttpBackend, HttpBackend],
) -> None:
    """Renamed subsets, swapped routes and listeners, removed clusters: no 5xx and no reset."""
    listen, spare = ports.reserve(), ports.reserve()
    dice = random.Random(delta)
    async with running_mesh(MemorySource()) as mesh:
        changes = Changes(mesh, backends, listen, spare)
        mesh.submit(*changes.services(), *changes.rename_subsets(0))
        async with (
            running_envoy(mesh.address, tmp_path, node=NODE, delta=delta) as envoy,
            Traffic(listen, HOST, "other.shop.svc.cluster.local") as traffic,
        ):
            kinds = [
                changes.swap_listener,
                changes.swap_route,
                changes.add_service,
                changes.scope,
                changes.refresh_endpoints,
                changes.retune_cluster,
            ]
            for number in range(1, ROUNDS + 1):
                more = kinds[number % len(kinds)](number)
                mesh.submit(*changes.rename_subsets(number), *more)
                await asyncio.sleep(dice.uniform(0.02, 0.4))
            await asyncio.sleep(DRAIN_SECONDS + 1)
            clusters = await envoy.clusters()
            warming = await envoy.config_dump("dynamic_warming_clusters")
    assert traffic.failures == []
    assert traffic.statuses[200] > 1000
    assert warming == []
    subsets = {name for name in clusters if name.split("|")[2:3] not in ([], [""])}
    assert subsets == {f"outbound|{listen}|{each}{ROUNDS}|{HOST}" for each in "ab"}, (
        "clusters of earlier rounds are gone"
    )
