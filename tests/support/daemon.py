"""The parts of a daemon around an adapter that a test feeds, with both servers on free ports."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from msgspec import Struct
from prometheus_client import CollectorRegistry

from aggregator.debug.http import HttpServer, build_app
from aggregator.debug.metrics import StateCollector
from aggregator.debug.release import components
from aggregator.debug.sources import SettingsStatus, Sources
from aggregator.debug.spec import views
from aggregator.model.errors import Origin
from aggregator.model.registry import Adapter, AdapterSpec, RegistryContext, RegistrySink
from aggregator.push.engine import Engine, PushSettings
from aggregator.push.metrics import Metrics
from aggregator.quantity import Address
from aggregator.registry.aggregate import Aggregate
from aggregator.registry.settings import RegistrySettings
from aggregator.registry.supervisor import Supervisor
from aggregator.xds.server import XdsServer
from config.kind_table import kinds
from config.mesh import MeshConfig
from tests.support.mesh import generator_table, resource_types


class NoSettings(Struct, frozen=True):
    """The fed adapter has none."""


class FedAdapter:
    """Hands its sink to the test, and otherwise does nothing."""

    def __init__(self, sinks: "asyncio.Queue[RegistrySink]") -> None:
        self._sinks: Final = sinks

    async def run(self, sink: RegistrySink) -> None:
        """Give the sink away; the test says when it is synced."""
        self._sinks.put_nowait(sink)
        await asyncio.Event().wait()


class Running(Struct, eq=False):
    """A daemon's parts while they run."""

    name: str
    sources: Sources
    sink: RegistrySink
    http: str
    grpc: str


@asynccontextmanager
async def running_parts(
    *,
    name: str = "fed",
    listen: str = "127.0.0.1:0",
    settings: PushSettings | None = None,
) -> AsyncIterator[Running]:
    """Run one required registry, the engine and both servers for the block."""
    sinks: asyncio.Queue[RegistrySink] = asyncio.Queue()
    metrics = CollectorRegistry()
    aggregate = Aggregate(lambda changes: engine.submit(changes), clock=time.monotonic)
    engine = Engine(
        aggregate,
        generator_table(),
        kinds(),
        mesh=MeshConfig(),
        domain="cluster.local",
        settings=settings or PushSettings(),
        metrics=Metrics(metrics),
        clock=time.monotonic,
    )

    def create(_context: RegistryContext, _settings: NoSettings) -> Adapter:
        return FedAdapter(sinks)

    def load(_type: str, _origin: Origin) -> AdapterSpec:
        return AdapterSpec("fed", NoSettings, create)

    supervisor = Supervisor(aggregate, load_adapter=load)
    context = RegistryContext(name=name, cluster_id=name)
    supervisor.apply(
        [RegistrySettings(name=name, type="fed", context=context, adapter=NoSettings())]
    )
    server = XdsServer(engine, resource_types())
    sources = Sources(aggregate, supervisor, engine, server, SettingsStatus())
    metrics.register(StateCollector(sources))
    http = HttpServer(build_app(sources, metrics), Address(listen))
    async with AsyncExitStack() as stack:
        bound = await http.start()
        stack.push_async_callback(http.aclose)
        port = await server.listen("127.0.0.1:0")
        stack.push_async_callback(server.aclose, 0)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        tasks = [group.create_task(each) for each in (supervisor.run(), engine.run())]
        sink = await sinks.get()
        yield Running(name, sources, sink, f"http://127.0.0.1:{bound.port}", f"127.0.0.1:{port}")
        for task in tasks:
            task.cancel()


# Modules are found by reading folders, which the event loop must not do.
views()
components()
