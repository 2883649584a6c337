"""The process that is measured: the parts of the daemon, composed as it composes them.

Its registry is a folder, or memory. Everything between the adapter and the socket is the product's.
"""

import asyncio
import sys
import time
from collections.abc import Collection
from typing import Any, Final

from msgspec import Struct
from prometheus_client import CollectorRegistry

from adapters.files.adapter import FilesAdapter, FilesSettings
from adapters.kubernetes.adapter import ADAPTER as KUBERNETES
from adapters.kubernetes.settings import KubernetesSettings
from aggregator import collector, logs
from aggregator.collector import Collector
from aggregator.generators.spec import GeneratorSpec, GeneratorTable
from aggregator.model.discovery import find
from aggregator.model.errors import Origin
from aggregator.model.registry import Adapter, AdapterSpec, RegistryContext
from aggregator.push.engine import Engine, PushSettings
from aggregator.push.metrics import Metrics
from aggregator.registry.aggregate import Aggregate
from aggregator.registry.settings import RegistrySettings
from aggregator.registry.supervisor import Supervisor
from aggregator.xds.server import XdsServer
from bench.child import Commands
from bench.floor import Serving
from bench.memory import MemoryAdapter, MemorySettings
from bench.mesh import Change, Mesh
from config.kind_table import kinds
from config.mesh import MeshConfig


class StartSubject(Struct, frozen=True):
    """Serve the mesh of *folder* or of the cluster of *kubeconfig*, without either the same from
    memory; answered `Serving`.
    """

    mesh: Mesh
    folder: str = ""
    kubeconfig: str = ""


class Make(Struct, frozen=True):
    """Make a change of the memory; answered with `Made`."""

    change: Change
    mark: str


class Made(Struct, frozen=True):
    """When the adapter told of it, in nanoseconds of the machine's monotonic clock."""

    at: int


class TakeUnits(Struct, frozen=True):
    """Ask how many units were built since the start; answered `Units`."""


class Units(Struct, frozen=True):
    """How many."""

    built: int


class TakeYields(Struct, frozen=True):
    """Ask when the watcher spoke, and of which paths, since the last time; answered `Yields`."""


class Yields(Struct, frozen=True):
    """Times in nanoseconds of the machine's monotonic clock, each with paths in the folder."""

    events: tuple[tuple[int, tuple[str, ...]], ...]


class Subject:
    """The composed control plane."""

    def __init__(self, start: StartSubject) -> None:
        self._start: Final = start
        self._memory: MemoryAdapter | None = None
        self._yields: Final[list[tuple[int, tuple[str, ...]]]] = []
        mesh = MeshConfig()
        self._aggregate: Final = Aggregate(
            lambda changes: self._engine.submit(changes, self._aggregate.told_by),
            clock=time.monotonic,
            mesh=mesh,
        )
        generators = _generators()
        self._engine: Final = Engine(
            self._aggregate,
            generators,
            kinds(),
            mesh=mesh,
            domain="cluster.local",
            settings=PushSettings(),
            metrics=Metrics(CollectorRegistry()),
            clock=time.monotonic,
            on_first_view=collector.settle,
        )
        self._supervisor: Final = Supervisor(self._aggregate, load_adapter=self._load_adapter)
        types = {type_url: specs[0].kind for type_url, specs in generators.items()}
        self._server: Final = XdsServer(self._engine, types)
        self._collector: Final = Collector(lambda: self._engine.idle, lambda: self._server.ended)

    async def run(self, commands: Commands) -> None:
        """Serve, and do as told."""
        settings: Struct = MemorySettings()
        if self._start.folder:
            settings = FilesSettings(path=self._start.folder)
        elif self._start.kubeconfig:
            settings = KubernetesSettings(kubeconfig=self._start.kubeconfig)
        context = RegistryContext(name="bench", cluster_id="bench")
        self._supervisor.apply(
            [RegistrySettings(name="bench", type="bench", context=context, adapter=settings)]
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._engine.run())
            tasks.create_task(self._supervisor.run())
            tasks.create_task(self._collector.run())
            await self._supervisor.wait_ready()
            port = await self._server.listen("127.0.0.1:0")
            commands.answer(Serving(f"127.0.0.1:{port}"))
            while True:
                match await commands.take():
                    case Make(change, mark):
                        commands.answer(self._make(change, mark))
                    case TakeUnits():
                        commands.answer(Units(self._engine.units.units_built))
                    case TakeYields():
                        commands.answer(Yields(tuple(self._yields)))
                        self._yields.clear()
                    case command:
                        message = f"unknown command {command!r}"
                        raise TypeError(message)

    def _make(self, change: Change, mark: str) -> Made:
        if self._memory is None:
            message = "the registry is a folder: change its files"
            raise RuntimeError(message)
        made = Made(time.monotonic_ns())
        self._memory.change(change, mark)
        return made

    def _load_adapter(self, name: str, origin: Origin) -> AdapterSpec:
        if self._start.folder:
            return AdapterSpec(name, FilesSettings, self._files)
        if self._start.kubeconfig:
            return KUBERNETES
        return AdapterSpec(name, MemorySettings, self._in_memory)

    def _files(self, context: RegistryContext, settings: Any) -> Adapter:
        return FilesAdapter(context, settings, on_event=self._yielded)

    def _in_memory(self, context: RegistryContext, settings: Any) -> Adapter:
        self._memory = MemoryAdapter(context, self._start.mesh)
        return self._memory

    def _yielded(self, at: float, paths: Collection[str]) -> None:
        self._yields.append((int(at * 1e9), tuple(paths)))


def _generators() -> GeneratorTable:
    table: dict[str, tuple[GeneratorSpec, ...]] = {}
    for spec in find("aggregator.generators", "GENERATOR", GeneratorSpec).values():
        table[spec.kind.type_url] = (*table.get(spec.kind.type_url, ()), spec)
    return table


async def run_subject(commands: Commands) -> None:
    """The process of the control plane."""
    logs.configure(logs.Level.INFO, logs.Format.JSON, sys.stderr)
    collector.expect_growth()
    start = await commands.take()
    await Subject(start).run(commands)
