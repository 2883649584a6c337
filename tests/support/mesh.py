"""A control plane in memory for tests of pushing and serving: real engine, real generators, real
gRPC on a port of its own.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import cache
from typing import Final

from prometheus_client import CollectorRegistry

from aggregator.generators.spec import GeneratorSpec, GeneratorTable, ResourceType
from aggregator.model.change import (
    Change,
    ConfigChanged,
    EndpointsChanged,
    PlaceChanged,
    ServiceChanged,
    WorkloadMoved,
)
from aggregator.model.config import Config, ConfigKey
from aggregator.model.discovery import find
from aggregator.model.policy import UNION, MergePolicy
from aggregator.model.registry import NetworkGateway
from aggregator.model.service import NOWHERE, Endpoint, Locality, Service, ServiceKey
from aggregator.push.engine import Engine, PushSettings
from aggregator.push.metrics import Metrics
from aggregator.push.world import WorldSource
from aggregator.xds.server import XdsServer
from config.kind_table import kinds
from config.mesh import MeshConfig


@cache
def generator_table() -> GeneratorTable:
    """All generators of the tree, by type URL."""
    table: dict[str, tuple[GeneratorSpec, ...]] = {}
    for spec in find("aggregator.generators", "GENERATOR", GeneratorSpec).values():
        table[spec.kind.type_url] = (*table.get(spec.kind.type_url, ()), spec)
    return table


def resource_types() -> dict[str, ResourceType]:
    """The table of types that the generators make."""
    return {type_url: specs[0].kind for type_url, specs in generator_table().items()}


class MemorySource:
    """What the registry layer would have merged; each change is told to a listener as one typed
    change.
    """

    def __init__(self) -> None:
        self.services: Final[dict[ServiceKey, Service]] = {}
        self.all_endpoints: Final[dict[ServiceKey, tuple[Endpoint, ...]]] = {}
        self.configs: Final[dict[ConfigKey, Config]] = {}
        self.policies: Final[dict[ServiceKey, MergePolicy]] = {}
        self.all_gateways: Final[dict[str, tuple[NetworkGateway, ...]]] = {}
        self.places: Final[dict[str, Locality]] = {}

    def service(self, key: ServiceKey) -> Service | None:
        return self.services.get(key)

    def endpoints(self, key: ServiceKey) -> tuple[Endpoint, ...]:
        return self.all_endpoints.get(key, ())

    def policy(self, key: ServiceKey) -> MergePolicy:
        return self.policies.get(key, UNION)

    def gateways(self, network: str) -> tuple[NetworkGateway, ...]:
        return self.all_gateways.get(network, ())

    def networks(self) -> Iterable[str]:
        return tuple(self.all_gateways)

    def place_of(self, _namespace: str, _cluster_id: str, addresses: Iterable[str]) -> Locality:
        return next((self.places[each] for each in addresses if each in self.places), NOWHERE)

    def config(self, key: ConfigKey) -> Config | None:
        return self.configs.get(key)

    def service_keys(self) -> Iterable[ServiceKey]:
        return tuple(self.services)

    def config_keys(self) -> Iterable[ConfigKey]:
        return tuple(self.configs)

    def put_service(self, service: Service, *endpoints: Endpoint) -> Change:
        """Add or replace a service with its endpoints."""
        self.services[service.key] = service
        self.all_endpoints[service.key] = tuple(sorted(endpoints))
        return ServiceChanged(service.key)

    def put_endpoints(self, key: ServiceKey, *endpoints: Endpoint) -> Change:
        """Replace a service's endpoints."""
        self.all_endpoints[key] = tuple(sorted(endpoints))
        return EndpointsChanged(key)

    def put_policy(self, key: ServiceKey, policy: MergePolicy) -> Change:
        """Let registries share a service otherwise."""
        self.policies[key] = policy
        return EndpointsChanged(key)

    def put_gateways(self, network: str, *gateways: NetworkGateway) -> Change:
        """Replace the ways into a network."""
        self.all_gateways[network] = gateways
        return PlaceChanged(network)

    def put_place(self, address: str, place: Locality) -> Change:
        """Tell where the workload with an address is."""
        self.places[address] = place
        return WorkloadMoved(address)

    def remove_service(self, key: ServiceKey) -> Change:
        """The service is gone."""
        del self.services[key]
        self.all_endpoints.pop(key, None)
        self.policies.pop(key, None)
        return ServiceChanged(key)

    def put_config(self, config: Config) -> Change:
        """Add or replace a rule."""
        self.configs[config.key] = config
        return ConfigChanged(config.key)

    def remove_config(self, key: ConfigKey) -> Change:
        """The rule is gone."""
        del self.configs[key]
        return ConfigChanged(key)


class Mesh:
    """A running control plane; `apply` makes changes and waits until they are pushed to the
    streams' queues.
    """

    def __init__(self, source: MemorySource, engine: Engine, server: XdsServer, port: int) -> None:
        self.source: Final = source
        self.engine: Final = engine
        self.server: Final = server
        self.port: Final = port

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.port}"

    def submit(self, *changes: Change) -> None:
        """Tell the engine, and go on."""
        self.engine.submit(changes)

    async def apply(self, *changes: Change) -> int:
        """Push these changes now; returns how many units were built for them."""
        before = self.engine.units.units_built
        self.engine.submit(changes)
        await self.engine.push()
        return self.engine.units.units_built - before


def make_engine(
    source: WorldSource,
    *,
    mesh: MeshConfig | None = None,
    settings: PushSettings | None = None,
    generators: GeneratorTable | None = None,
) -> Engine:
    """An engine over everything that *source* has."""
    engine = Engine(
        source,
        generators or generator_table(),
        kinds(),
        mesh=mesh or MeshConfig(),
        domain="cluster.local",
        settings=settings or PushSettings(),
        metrics=Metrics(CollectorRegistry()),
        clock=time.monotonic,
    )
    engine.submit(ServiceChanged(key) for key in source.service_keys())
    engine.submit(ConfigChanged(key) for key in source.config_keys())
    engine.submit(PlaceChanged(name) for name in source.networks())
    return engine


@asynccontextmanager
async def running_mesh(
    source: MemorySource,
    *,
    mesh: MeshConfig | None = None,
    settings: PushSettings | None = None,
) -> AsyncIterator[Mesh]:
    """Serve *source* on a port of its own for the block."""
    engine = make_engine(source, mesh=mesh, settings=settings)
    server = XdsServer(engine, resource_types())
    port = await server.listen("127.0.0.1:0")
    runner = asyncio.create_task(engine.run())
    try:
        yield Mesh(source, engine, server, port)
    finally:
        await server.aclose(0)
        runner.cancel()
        await asyncio.wait([runner])


# Finding modules reads the disk, which must not happen in a test's event loop.
generator_table()
kinds()
