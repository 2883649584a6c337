"""The control plane as the daemon composes it, over a folder that tests write into."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import yaml
from prometheus_client import CollectorRegistry

from aggregator.generators.spec import CLUSTER, ENDPOINT
from aggregator.push.engine import Engine, PushSettings
from aggregator.push.metrics import Metrics
from aggregator.registry.aggregate import Aggregate
from aggregator.registry.supervisor import Supervisor
from aggregator.settings import decode_announced, decode_settings
from aggregator.xds.isolation import Rejection
from aggregator.xds.server import XdsServer
from config.kind_table import kinds
from tests.support.mesh import generator_table, resource_types

RULES: Final = "mesh"


class FolderMesh:
    """A running control plane; what is written into its folder reaches the proxies."""

    def __init__(self, folder: Path, engine: Engine, aggregate: Aggregate) -> None:
        self.folder: Final = folder
        self.engine: Final = engine
        self.aggregate: Final = aggregate
        self.server: Final = XdsServer(engine, resource_types())
        self.port = 0

    @property
    def address(self) -> str:
        """Where Envoys connect."""
        return f"127.0.0.1:{self.port}"

    def write(self, name: str, *documents: Mapping[str, Any]) -> None:
        """Put a file of YAML documents into the folder, all of it at once."""
        text = yaml.safe_dump_all(documents, sort_keys=False)
        aside = self.folder / f".{name}"
        aside.write_text(text)
        aside.rename(self.folder / RULES / name)

    def remove(self, name: str) -> None:
        """Delete a file."""
        (self.folder / RULES / name).unlink()

    def settled(self, proxy: str) -> bool:
        """Whether the proxy has acknowledged all that there is for it."""
        streams = [each for each in self.server.streams if each.proxy and each.proxy.id == proxy]
        return bool(streams) and all(
            # Clusters that go away do so late: their removal counts as work for a while.
            not subscription.unacknowledged
            and (not subscription.has_work or subscription.kind in (CLUSTER, ENDPOINT))
            for stream in streams
            for subscription in stream.session.subscriptions.values()
        )

    def rejections(self, proxy: str) -> list[Rejection]:
        """What the proxy does not take at present."""
        return [
            rejection
            for stream in self.server.streams
            if stream.proxy and stream.proxy.id == proxy
            for subscription in stream.session.subscriptions.values()
            for rejected in subscription.isolation.rejected.values()
            for rejection in rejected.values()
        ]


@asynccontextmanager
async def running_folder_mesh(
    folder: Path,
    *,
    mesh: Mapping[str, Any] | None = None,
    registry: Mapping[str, Any] | None = None,
    push: PushSettings | None = None,
) -> AsyncIterator[FolderMesh]:
    """Serve *folder* for the block, with *mesh* as MeshConfig and *registry* as further keys of
    the one registry.
    """
    (folder / RULES).mkdir(parents=True, exist_ok=True)
    entry = {"name": "files", "type": "files", "path": RULES} | dict(registry or {})
    text = yaml.safe_dump({"registries": [entry], "mesh": dict(mesh or {})})
    settings = decode_settings(text.encode(), folder / "mesh-aggregator.yaml")
    aggregate = Aggregate(
        lambda changes: engine.submit(changes),
        clock=time.monotonic,
        domain=settings.domain,
        mesh=settings.mesh,
    )
    engine = Engine(
        aggregate,
        generator_table(),
        kinds(),
        mesh=settings.mesh,
        domain=settings.domain,
        settings=push or PushSettings(),
        metrics=Metrics(CollectorRegistry()),
        clock=time.monotonic,
    )
    supervisor = Supervisor(aggregate, decode_announced=decode_announced)
    supervisor.apply(settings.registries)
    served = FolderMesh(folder, engine, aggregate)
    served.port = await served.server.listen("127.0.0.1:0")
    tasks = [asyncio.create_task(each) for each in (engine.run(), supervisor.run())]
    try:
        async with asyncio.timeout(20):
            await supervisor.wait_ready()
        yield served
    finally:
        await served.server.aclose(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
