"""The process that is measured: the parts of the daemon, composed as it composes them.

Its registry is a folder, or memory. Everything between the adapter and the socket is the product's.
"""

import asyncio
import sys
import time
from collections.abc import Collection, Iterable
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace
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

LAG_INTERVAL: Final = 0.005


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


class Churn(Struct, frozen=True):
    """Change endpoints of the memory at this rate; answered `Churned` once all is said."""

    seconds: float
    per_second: int


class Churned(Struct, frozen=True):
    """How many changes were made, and pushes; when the last one was made.

    By how many milliseconds timers were late, and how many each response took from its first change
    to its acknowledgement.
    """

    changes: int
    pushes: int
    ended: int
    lags: tuple[float, ...]
    convergence: tuple[float, ...]


class TakeConvergence(Struct, frozen=True):
    """Ask again for what `Churn` answered, with what was acknowledged since."""


class _Observed(Metrics):
    """Keeps each observation: buckets are too coarse to tell a percentile."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self.convergence_ms: Final[list[float]] = []

    def converged(self, label: str, registries: Iterable[str], seconds: float) -> None:
        super().converged(label, registries, seconds)
        self.convergence_ms.append(seconds * 1000)


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
        self._metrics: Final = _Observed(CollectorRegistry())
        self._churned = Churned(0, 0, 0, (), ())
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
            metrics=self._metrics,
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
                    case Churn(seconds, per_second):
                        self._churned = await self._churn(seconds, per_second)
                        commands.answer(self._churned)
                    case TakeConvergence():
                        done = tuple(self._metrics.convergence_ms)
                        commands.answer(replace(self._churned, convergence=done))
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

    async def _churn(self, seconds: float, per_second: int) -> Churned:
        if self._memory is None:
            message = "the registry is not memory"
            raise RuntimeError(message)
        self._metrics.convergence_ms.clear()
        pushes = self._engine.pushes
        lags: list[float] = []
        watch = asyncio.create_task(_watch_lag(lags))
        changes = await self._memory.churn(seconds, per_second)
        ended = time.monotonic_ns()
        watch.cancel()
        done = tuple(self._metrics.convergence_ms)
        return Churned(changes, self._engine.pushes - pushes, ended, tuple(lags), done)

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


async def _watch_lag(lags: list[float]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_INTERVAL
        await asyncio.sleep(LAG_INTERVAL)
        lags.append(max(0.0, loop.time() - due) * 1000)


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
