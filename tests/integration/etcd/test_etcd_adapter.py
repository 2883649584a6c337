"""An etcd that is followed for real, into a real aggregate."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from adapters.etcd.adapter import EtcdAdapter
from adapters.etcd.settings import EtcdSettings
from aggregator.model.errors import Origin
from aggregator.model.registry import AdapterSpec, RegistryContext
from aggregator.model.service import ServiceKey
from aggregator.registry.aggregate import Aggregate
from aggregator.registry.guard import GuardSettings, LossGuard
from aggregator.registry.settings import RegistrySettings
from aggregator.registry.status import RegistryState, RegistryStatus
from aggregator.registry.supervisor import Supervisor
from config.shape import decode_struct
from tests.support.poll import eventually
from tests.support.servers.etcd import EtcdServer

pytestmark = pytest.mark.servers
PREFIX: Final = "/mesh/"
FRAME: Final = {"apiVersion": "mesh-aggregator/v1"}


def service(*addresses: str, **fields: Any) -> str:
    """The value of a service with these endpoints."""
    endpoints = [{"address": address} for address in addresses]
    ports = [{"number": 80, "name": "http"}]
    return json.dumps(
        {**FRAME, "kind": "Service", "ports": ports, "endpoints": endpoints, **fields}
    )


def instance(address: str) -> str:
    """The value of an instance."""
    return json.dumps({**FRAME, "kind": "Instance", "address": address})


class Follower:
    """An aggregate that a supervised adapter feeds."""

    def __init__(self, base: Path, fields: dict[str, Any], relist: float, hold: float) -> None:
        self.changed = 0
        guard = LossGuard(GuardSettings(hold=hold, confirm=hold))
        self.aggregate = Aggregate(self._count, clock=time.monotonic, guard=guard)

        def create(context: RegistryContext, settings: EtcdSettings) -> EtcdAdapter:
            return EtcdAdapter(context, settings, relist=relist)

        def load(_type: str, _origin: Origin) -> AdapterSpec:
            return AdapterSpec("etcd", EtcdSettings, create, longest_wait=0.5)

        self.supervisor = Supervisor(self.aggregate, load_adapter=load)
        settings = decode_struct(fields, EtcdSettings, "", lambda _path: Origin("test"))
        context = RegistryContext(name="kv", cluster_id="", base_dir=str(base))
        self.supervisor.apply(
            [RegistrySettings(name="kv", type="etcd", context=context, adapter=settings)]
        )

    def _count(self, changes: object) -> None:
        self.changed += 1

    def addresses(self, host: str = "a.mesh") -> list[str]:
        """Where a service is served."""
        return [each.address for each in self.aggregate.endpoints(ServiceKey("shop", host))]

    def hosts(self) -> list[str]:
        """The services that are there."""
        return sorted(key.host for key in self.aggregate.service_keys())

    def problems(self) -> list[str]:
        """What is wrong now."""
        return [str(each) for found in self.aggregate.problems().values() for each in found]

    @property
    def status(self) -> RegistryStatus:
        """How the registry does."""
        (status,) = self.supervisor.status()
        return status


@asynccontextmanager
async def following(
    *servers: EtcdServer,
    base: Path = Path(),
    relist: float = 600.0,
    hold: float = 3600.0,
    synced: bool = True,
    **fields: Any,
) -> AsyncIterator[Follower]:
    """Follow the servers until the block ends."""
    fields = {"endpoints": [each.address for each in servers], "timeout": "1s", **fields}
    follower = Follower(base, fields, relist, hold)
    task = asyncio.create_task(follower.supervisor.run())
    try:
        if synced:
            await eventually(lambda: follower.status.state is RegistryState.SYNCED)
        yield follower
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_services_instances_and_rules_are_read_and_followed(etcd: EtcdServer) -> None:
    """The plain case."""
    async with etcd.client() as client, following(etcd, prefix="/plain/") as follower:
        await client.put("/plain/services/shop/a.mesh", service("10.0.0.1"))
        await client.put("/plain/instances/shop/a.mesh/one", instance("10.0.0.2"))
        await eventually(lambda: follower.addresses() == ["10.0.0.1", "10.0.0.2"])
        await client.delete("/plain/instances/shop/a.mesh/one")
        await eventually(lambda: follower.addresses() == ["10.0.0.1"])
        await client.delete("/plain/services/shop/a.mesh")
        await eventually(lambda: follower.hosts() == [])
        assert follower.problems() == []
