"""What stays, and what is found, when a real Consul fails in every way that it can."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from aggregator.registry.status import RegistryState
from tests.support.consul_mesh import ConsulMesh, consul_mesh
from tests.support.fault_proxy import Cut, FaultProxy, Garbage, Hang, Pass, Refuse
from tests.support.poll import eventually
from tests.support.servers.consul import ConsulClient, ConsulServer

pytestmark = pytest.mark.servers

WEB = "web.service.dc1.consul"
OLD = "old.service.dc1.consul"


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[ConsulServer]:
    """A server of this test's own, which it may kill."""
    server = ConsulServer(tmp_path)
    async with server:
        yield server


@asynccontextmanager
async def following(server: ConsulServer, services: tuple[str, ...]) -> AsyncIterator[ConsulMesh]:
    """Follow these services with one instance of each registered."""
    async with server.client() as api:
        for number, name in enumerate(services, 1):
            await api.register(name, f"{name}-1", f"10.0.0.{number}", 80)
    async with consul_mesh(server.address, services=services, timeout=2.0, wait=1.0) as mesh:
        yield mesh


async def test_what_was_known_stays_while_the_agent_is_dead_and_changes_are_found_after(
    own: ConsulServer,
) -> None:
    """An agent that is killed and comes back, having been changed meanwhile."""
    async with following(own, ("web", "old")) as mesh:
        own.kill()
        await eventually(lambda: mesh.status().state is RegistryState.DEGRADED)
        assert mesh.addresses(WEB) == ["10.0.0.1"]
        assert mesh.addresses(OLD) == ["10.0.0.2"]

        await own.start()
        async with own.client() as api:
            await api.deregister("old-1")
            await api.register("web", "web-2", "10.0.0.9", 80)
        await eventually(lambda: mesh.addresses(WEB) == ["10.0.0.1", "10.0.0.9"], seconds=20)
        await eventually(lambda: mesh.addresses(OLD) == [])
        await eventually(lambda: mesh.status().state is RegistryState.SYNCED)


async def test_a_datacenter_restored_from_a_backup_is_read_anew(own: ConsulServer) -> None:
    """The index goes back, and waiting for the old one would be waiting for ever."""
    async with following(own, ("web", "old")) as mesh, own.client() as api:
        backup = await api.snapshot()
        for number in range(5):
            await api.register("web", "web-1", f"10.0.1.{number}", 80)
        await api.deregister("old-1")
        await eventually(lambda: mesh.addresses(WEB) == ["10.0.1.4"] and not mesh.addresses(OLD))

        await api.restore(backup)
        await eventually(lambda: mesh.addresses(WEB) == ["10.0.0.1"], seconds=20)
        await eventually(lambda: mesh.addresses(OLD) == ["10.0.0.2"])
        await api.register("web", "web-1", "10.0.2.1", 80)
        await eventually(lambda: mesh.addresses(WEB) == ["10.0.2.1"])


async def test_a_server_that_comes_back_with_old_data_is_read_anew(own: ConsulServer) -> None:
    """The same, on a server that was down meanwhile."""
    async with following(own, ("web",)) as mesh:
        await own.stop()
        backup = own.back_up()
        await own.start()
        async with own.client() as api:
            for number in range(5):
                await api.register("web", "web-1", f"10.0.1.{number}", 80)
        await eventually(lambda: mesh.addresses(WEB) == ["10.0.1.4"], seconds=20)
        await own.stop()
        own.restore(backup)
        await own.start()
        await eventually(lambda: mesh.addresses(WEB) == ["10.0.0.1"], seconds=20)


@pytest.mark.parametrize(
    "fault", [Refuse(), Hang(), Cut(), Cut(300, reset=True), Garbage(), Garbage(200)], ids=repr
)
async def test_no_broken_answer_takes_anything_away(
    consul: ConsulServer, api: ConsulClient, prefix: str, fault: Refuse
) -> None:
    """Errors are never an empty listing, at whatever byte they come."""
    name, host = f"{prefix}-web", f"{prefix}-web.service.dc1.consul"
    await api.register(name, f"{name}-1", "10.0.0.1", 80)
    async with (
        FaultProxy(consul.port) as proxy,
        consul_mesh(
            f"127.0.0.1:{proxy.port}", services=(f"{prefix}-*",), timeout=0.5, wait=0.5
        ) as mesh,
    ):
        await proxy.set(fault)
        await eventually(lambda: mesh.status().state is RegistryState.DEGRADED, seconds=20)
        assert mesh.addresses(host) == ["10.0.0.1"]
        await api.register(name, f"{name}-2", "10.0.0.2", 80)
        await proxy.set(Pass())
        await eventually(lambda: mesh.addresses(host) == ["10.0.0.1", "10.0.0.2"], seconds=20)


async def test_the_next_agent_is_asked_when_one_fails(
    consul: ConsulServer, api: ConsulClient, prefix: str
) -> None:
    """Without waiting for the back-off, and without losing anything."""
    name, host = f"{prefix}-web", f"{prefix}-web.service.dc1.consul"
    await api.register(name, f"{name}-1", "10.0.0.1", 80)
    async with (
        FaultProxy(consul.port) as one,
        FaultProxy(consul.port) as two,
        consul_mesh(
            f"127.0.0.1:{one.port}",
            fallback_addresses=(f"127.0.0.1:{two.port}",),
            services=(f"{prefix}-*",),
        ) as mesh,
    ):
        assert two.connections == 0
        await one.set(Refuse())
        await api.register(name, f"{name}-2", "10.0.0.2", 80)
        await eventually(lambda: mesh.addresses(host) == ["10.0.0.1", "10.0.0.2"])
        assert two.connections > 0
        await one.set(Pass())
        await two.set(Refuse())
        await api.deregister(f"{name}-2")
        await eventually(lambda: mesh.addresses(host) == ["10.0.0.1"])


async def test_a_storm_of_changes_is_read_at_a_pace(
    consul: ConsulServer, api: ConsulClient, prefix: str
) -> None:
    """Every answer would otherwise be followed by the next question at once."""
    name, host = f"{prefix}-web", f"{prefix}-web.service.dc1.consul"
    await api.register(name, f"{name}-1", "10.0.0.1", 80)
    async with (
        FaultProxy(consul.port) as proxy,
        consul_mesh(f"127.0.0.1:{proxy.port}", services=(f"{prefix}-*",)) as mesh,
    ):
        before = proxy.requests
        changes = 300
        for number in range(changes):
            await api.register(name, f"{name}-1", f"10.0.1.{number % 250}", 80)
        last = f"10.0.1.{(changes - 1) % 250}"
        await eventually(lambda: mesh.addresses(host) == [last])
        assert proxy.requests - before < changes / 3


async def test_the_registry_ends_without_leaving_anything_behind(
    consul: ConsulServer, api: ConsulClient, prefix: str
) -> None:
    """Neither tasks nor connections of ours."""
    await api.register(f"{prefix}-web", f"{prefix}-1", "10.0.0.1", 80)
    before = asyncio.all_tasks()
    async with FaultProxy(consul.port) as proxy:
        served = asyncio.all_tasks() - before
        async with consul_mesh(f"127.0.0.1:{proxy.port}", services=(f"{prefix}-*",), wait=0.5):
            assert proxy.open > 0
        await eventually(lambda: proxy.open == 0)
        await eventually(lambda: asyncio.all_tasks() <= before | served)


async def test_checks_that_fail_everywhere_at_once_are_not_believed_at_once(
    consul: ConsulServer, api: ConsulClient, prefix: str
) -> None:
    """Whoever checks may be what is broken; single failures count at once."""
    name, host = f"{prefix}-web", f"{prefix}-web.service.dc1.consul"
    for number in range(40):
        await api.register(name, f"{name}-{number}", f"10.0.0.{number}", 80)
    async with consul_mesh(consul.address, services=(f"{prefix}-*",)) as mesh:
        assert len(mesh.addresses(host)) == 40
        await api.set_status(f"{name}-0", "critical")
        await eventually(lambda: len(mesh.addresses(host)) == 39)
        for number in range(1, 40):
            await api.set_status(f"{name}-{number}", "critical")
        await eventually(lambda: mesh.status().held)
        assert len(mesh.addresses(host)) >= 20
        for number in range(40):
            await api.set_status(f"{name}-{number}", "passing")
        await eventually(lambda: len(mesh.addresses(host)) == 40 and not mesh.status().held)


async def test_a_catalog_that_suddenly_lacks_most_is_not_believed_at_once(
    consul: ConsulServer, api: ConsulClient, prefix: str
) -> None:
    """Consul does not tell what was deleted from what it has forgotten."""
    names = [f"{prefix}-{number}" for number in range(30)]
    for name in names:
        await api.register(name, f"{name}-1", "10.0.0.1", 80)
    async with consul_mesh(consul.address, services=(f"{prefix}-*",)) as mesh:
        for name in names:
            await api.deregister(f"{name}-1")
        await eventually(lambda: mesh.status().held)
        served = [name for name in names if mesh.addresses(f"{name}.service.dc1.consul")]
        assert len(served) >= 15
        for name in names:
            await api.register(name, f"{name}-1", "10.0.0.1", 80)
        await eventually(
            lambda: (
                not mesh.status().held
                and all(mesh.addresses(f"{name}.service.dc1.consul") for name in names)
            )
        )
