"""A registry of type consul as the daemon would run it, and what comes of it."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from msgspec.structs import replace

from adapters.consul.adapter import ADAPTER
from adapters.consul.settings import ConsulSettings
from aggregator.model.change import Change
from aggregator.model.registry import AdapterSpec, RegistryContext
from aggregator.model.service import Endpoint, Health, Service, ServiceKey
from aggregator.registry.aggregate import Aggregate
from aggregator.registry.settings import RegistrySettings
from aggregator.registry.status import RegistryState, RegistryStatus
from aggregator.registry.supervisor import Supervisor
from tests.support.poll import eventually

NAME: Final = "consul"


class ConsulMesh:
    """What the registry gives."""

    def __init__(self, settings: ConsulSettings, context: RegistryContext) -> None:
        self.changes: list[tuple[float, Change]] = []
        self.aggregate = Aggregate(self._note, clock=time.monotonic)
        # Nobody wants to wait for the back-off of production.
        spec = replace(ADAPTER, longest_wait=0.3)
        self.supervisor = Supervisor(self.aggregate, load_adapter=lambda _type, _origin: spec)
        self.spec: AdapterSpec = spec
        self.apply(settings, context)

    def apply(self, settings: ConsulSettings, context: RegistryContext) -> None:
        """Install settings."""
        self.supervisor.apply(
            [RegistrySettings(name=NAME, type="consul", context=context, adapter=settings)]
        )

    def _note(self, changes: Sequence[Change]) -> None:
        self.changes += ((time.monotonic(), each) for each in changes)

    def hosts(self) -> list[str]:
        """The services that are there."""
        return sorted(key.host for key in self.aggregate.service_keys())

    def service(self, host: str) -> Service:
        """One service."""
        found = self.aggregate.service(ServiceKey("default", host))
        assert found is not None
        return found

    def endpoints(self, host: str) -> tuple[Endpoint, ...]:
        """Its endpoints, healthy or not."""
        return self.aggregate.endpoints(ServiceKey("default", host))

    def addresses(self, host: str) -> list[str]:
        """Where it gets traffic."""
        return [
            each.address
            for each in self.endpoints(host)
            if each.health is Health.READY and each.weight
        ]

    def problems(self) -> str:
        """What is wrong now, a line each."""
        found = self.aggregate.problems().values()
        return "\n".join(str(each) for problems in found for each in problems)

    def status(self) -> RegistryStatus:
        """How the registry fares."""
        return self.supervisor.status()[0]

    async def synced(self) -> None:
        """Return once everything was read."""
        await eventually(
            lambda: self.status().state is RegistryState.SYNCED, hint="the registry is not in sync"
        )


@asynccontextmanager
async def consul_mesh(
    address: str, *, context: dict[str, Any] | None = None, synced: bool = True, **settings: Any
) -> AsyncIterator[ConsulMesh]:
    """Follow the Consul at *address* for the block; *settings* are those of the registry."""
    made = RegistryContext(**{"name": NAME, "cluster_id": "", **(context or {})})
    mesh = ConsulMesh(ConsulSettings(address=address, **settings), made)
    task = asyncio.create_task(mesh.supervisor.run())
    try:
        if synced:
            await mesh.synced()
        yield mesh
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
