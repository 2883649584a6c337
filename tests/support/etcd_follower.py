"""A real aggregate that a real etcd feeds, and values for its keys."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

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
from config.duration import Duration
from config.shape import decode_struct
from tests.support.fault_proxy import FaultProxy
from tests.support.poll import eventually
from tests.support.servers.etcd import EtcdServer

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
        self._observe: Callable[[], None] | None = None
        guard = LossGuard(GuardSettings(hold=Duration(hold), confirm=Duration(hold)))
        self.aggregate = Aggregate(self._changed, clock=time.monotonic, guard=guard)

        def create(context: RegistryContext, settings: EtcdSettings) -> EtcdAdapter:
            return EtcdAdapter(context, settings, relist=relist)

        def load(_type: str, _origin: Origin) -> AdapterSpec:
            return AdapterSpec("etcd", EtcdSettings, create, longest_wait=0.5)

        self.supervisor = Supervisor(self.aggregate, load_adapter=load)
        context = RegistryContext(
            name="kv", cluster_id="", base_dir=str(base), rules=fields.pop("rules", True)
        )
        settings = decode_struct(fields, EtcdSettings, "", lambda _path: Origin("test"))
        self.supervisor.apply(
            [RegistrySettings(name="kv", type="etcd", context=context, adapter=settings)]
        )

    def after_changes(self, observe: Callable[[], None]) -> None:
        """Call *observe* once after each step in which something changed."""
        self._observe = observe

    def _changed(self, _changes: object) -> None:
        observe, self._observe = self._observe, None
        if observe is not None:

            def once() -> None:
                observe()
                self._observe = observe

            asyncio.get_running_loop().call_soon(once)

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
    *servers: EtcdServer | FaultProxy,
    relist: float = 600.0,
    hold: float = 3600.0,
    synced: bool = True,
    login: Path | None = None,
    **fields: Any,
) -> AsyncIterator[Follower]:
    """Follow the servers until the block ends.

    It logs in as `mesh` with what is in the file `password` of the folder *login*.
    """
    if login is not None:
        fields |= {"user": "mesh", "password_file": "password"}
    fields = {"endpoints": [each.address for each in servers], "timeout": "1s", **fields}
    follower = Follower(login or Path(), fields, relist, hold)
    task = asyncio.create_task(follower.supervisor.run())
    try:
        if synced:
            await eventually(lambda: follower.status.state is RegistryState.SYNCED)
        yield follower
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])
