"""The control plane as the daemon composes it, from registries that a test names."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import yaml
from prometheus_client import CollectorRegistry

from aggregator.model.service import Endpoint, ServiceKey
from aggregator.push.engine import Engine, PushSettings
from aggregator.push.metrics import Metrics
from aggregator.registry.aggregate import Aggregate
from aggregator.registry.status import RegistryState, RegistryStatus
from aggregator.registry.supervisor import Supervisor
from aggregator.settings import Settings, decode_announced, decode_settings
from aggregator.xds.server import XdsServer
from config.kind_table import kinds
from tests.support.mesh import generator_table, resource_types

DOMAIN: Final = "cluster.local"


class SettingsMesh:
    """A running control plane; `apply` is what a reload of the settings file does."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder: Final = folder
        self.aggregate: Final = Aggregate(
            lambda changes: self.engine.submit(changes),
            clock=time.monotonic,
            domain=DOMAIN,
            mesh=settings.mesh,
        )
        self.engine: Final = Engine(
            self.aggregate,
            generator_table(),
            kinds(),
            mesh=settings.mesh,
            domain=DOMAIN,
            settings=PushSettings(warm_wait=0.1),
            metrics=Metrics(CollectorRegistry()),
            clock=time.monotonic,
        )
        self.supervisor: Final = Supervisor(self.aggregate, decode_announced=decode_announced)
        self.server: Final = XdsServer(self.engine, resource_types())
        self.address = ""
        self.supervisor.apply(settings.registries)

    async def apply(self, registries: Sequence[Mapping[str, Any]]) -> None:
        """Take other registries."""
        settings = await asyncio.to_thread(_decode, self.folder, registries, {})
        self.supervisor.apply(settings.registries)

    def statuses(self) -> dict[str, RegistryStatus]:
        """How each registry fares; of one that is being replaced, the one that is served."""
        return {each.name: each for each in self.supervisor.status() if not each.replacing}

    def state(self, name: str) -> RegistryState | None:
        """How a registry fares; None if there is none of that name."""
        status = self.statuses().get(name)
        return status.state if status else None

    def endpoints(self, name: str, namespace: str) -> tuple[Endpoint, ...]:
        """The endpoints of a Kubernetes service."""
        host = f"{name}.{namespace}.svc.{DOMAIN}"
        return self.aggregate.endpoints(ServiceKey(namespace, host))

    def places(self, name: str, namespace: str) -> list[str]:
        """``<cluster id>/<address>`` of all endpoints of a Kubernetes service, sorted."""
        found = self.endpoints(name, namespace)
        return sorted(f"{each.cluster_id}/{each.address}" for each in found)

    def problems(self) -> list[str]:
        """What is wrong in the registries, and between them."""
        told = [each for found in self.aggregate.problems().values() for each in found]
        return [str(each) for each in (*told, *self.aggregate.conflicts())]


@asynccontextmanager
async def running_settings_mesh(
    folder: Path, *registries: Mapping[str, Any], mesh: Mapping[str, Any] | None = None
) -> AsyncIterator[SettingsMesh]:
    """Serve these registries for the block; relative paths in their settings start at *folder*."""
    settings = await asyncio.to_thread(_decode, folder, registries, mesh or {})
    served = SettingsMesh(folder, settings)
    port = await served.server.listen("127.0.0.1:0")
    served.address = f"127.0.0.1:{port}"
    tasks = [asyncio.create_task(each) for each in (served.engine.run(), served.supervisor.run())]
    try:
        yield served
    finally:
        await served.server.aclose(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _decode(
    folder: Path, registries: Sequence[Mapping[str, Any]], mesh: Mapping[str, Any]
) -> Settings:
    text = yaml.safe_dump({"registries": [dict(each) for each in registries], "mesh": dict(mesh)})
    return decode_settings(text.encode(), folder / "mesh-aggregator.yaml")


# Modules are found by reading folders, which the event loop must not do.
generator_table()
kinds()
