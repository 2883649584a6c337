"""Tokens, certificates and connections: what a real Consul lets us do."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from adapters.consul.settings import ConsulSettings, ConsulTls
from aggregator.model.registry import RegistryContext
from aggregator.registry.status import RegistryState
from config.duration import Duration
from tests.support.certificate import Authority
from tests.support.consul_mesh import ConsulMesh, consul_mesh
from tests.support.fault_proxy import FaultProxy
from tests.support.poll import eventually
from tests.support.servers.consul import ConsulClient, ConsulServer

pytestmark = pytest.mark.servers

WEB = "web.service.dc1.consul"
RULES = """
service_prefix "" { policy = "read" }
node_prefix "" { policy = "read" }
key_prefix "mesh/" { policy = "read" }
"""
RULE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec: {hosts: [web.mesh], http: [{route: [{destination: {host: web.service.dc1.consul}}]}]}
"""


@pytest.fixture
async def closed(tmp_path: Path) -> AsyncIterator[ConsulServer]:
    """A server that answers only those with a token, and knows one service."""
    server = ConsulServer(tmp_path / "consul", acl=True)
    async with server, server.client() as api:
        await api.register("web", "web-1", "10.0.0.1", 80)
        await api.put("mesh/rules/web", RULE)
        yield server


def problems(mesh: ConsulMesh) -> str:
    """What people are told."""
    return f"{mesh.status().last_error}\n{mesh.problems()}"


async def test_a_revoked_token_takes_nothing_away_and_a_new_one_is_taken_from_the_file(
    closed: ConsulServer, tmp_path: Path
) -> None:
    """The file is mended, and nobody restarts anything."""
    file = tmp_path / "token"
    async with closed.client() as api:
        accessor, secret = await api.create_token(RULES, name="one")
        await asyncio.to_thread(file.write_text, secret + "\n")
        async with consul_mesh(
            closed.address, token_file=str(file), kv_prefix="mesh/rules", wait=0.3
        ) as mesh:
            assert WEB in mesh.hosts()
            assert len(mesh.aggregate.config_keys()) == 1
            await api.revoke_token(accessor)
            await eventually(lambda: mesh.status().state is RegistryState.DEGRADED, seconds=40)
            assert "403" in mesh.status().last_error
            assert mesh.addresses(WEB) == ["10.0.0.1"]
            assert len(mesh.aggregate.config_keys()) == 1

            await api.register("web", "web-2", "10.0.0.2", 80)
            _, secret = await api.create_token(RULES, name="two")
            await asyncio.to_thread(file.write_text, secret)
            await eventually(lambda: mesh.addresses(WEB) == ["10.0.0.1", "10.0.0.2"], seconds=20)
            assert mesh.status().state is RegistryState.SYNCED


async def test_an_exchanged_token_is_not_noticed_by_anybody(
    closed: ConsulServer, tmp_path: Path
) -> None:
    """The old one may be revoked as soon as the new one is in the file."""
    file = tmp_path / "token"
    async with closed.client() as api:
        accessor, secret = await api.create_token(RULES, name="one")
        await asyncio.to_thread(file.write_text, secret)
        async with consul_mesh(closed.address, token_file=str(file), wait=0.3) as mesh:
            _, secret = await api.create_token(RULES, name="two")
            await asyncio.to_thread(file.write_text, secret)
            await api.revoke_token(accessor)
            await api.register("web", "web-2", "10.0.0.2", 80)
            await eventually(lambda: mesh.addresses(WEB) == ["10.0.0.1", "10.0.0.2"])
            assert mesh.status().reconnects == 0


async def test_what_a_token_may_not_see_is_not_taken_for_absent(
    closed: ConsulServer, tmp_path: Path
) -> None:
    """Consul leaves out silently what it hides."""
    file = tmp_path / "token"
    async with closed.client() as api:
        accessor, secret = await api.create_token(RULES, name="one")
        _, blind = await api.create_token('service "none" { policy = "read" }', name="blind")
        await asyncio.to_thread(file.write_text, secret)
        async with consul_mesh(closed.address, token_file=str(file), wait=0.3) as mesh:
            await asyncio.to_thread(file.write_text, blind)
            await api.revoke_token(accessor)
            await eventually(lambda: "may not read any service" in problems(mesh), seconds=20)
            assert mesh.addresses(WEB) == ["10.0.0.1"]


async def test_a_token_that_sees_a_part_is_told_of(closed: ConsulServer, tmp_path: Path) -> None:
    """So that nobody wonders where the rest is."""
    file = tmp_path / "token"
    rules = 'service "web" { policy = "read" } node_prefix "" { policy = "read" }'
    async with closed.client() as api:
        _, secret = await api.create_token(rules, name="one")
        await asyncio.to_thread(file.write_text, secret)
        async with consul_mesh(closed.address, token_file=str(file)) as mesh:
            assert mesh.hosts() == [WEB]
            assert "may not read all services" in mesh.problems()


async def test_without_a_token_the_registry_says_so(closed: ConsulServer) -> None:
    """A new user's first mistake."""
    async with consul_mesh(closed.address, synced=False) as mesh:
        await eventually(lambda: mesh.status().state is RegistryState.FAILED)
        assert "may not read any service" in mesh.status().last_error


@pytest.mark.parametrize("content", [None, "", "two words", "ünïcode"], ids=repr)
async def test_a_useless_token_file_is_named(
    consul: ConsulServer, tmp_path: Path, content: str | None
) -> None:
    """With its path and what was expected."""
    file = tmp_path / "token"
    if content is not None:
        await asyncio.to_thread(file.write_text, content)
    async with consul_mesh(consul.address, token_file=str(file), synced=False) as mesh:
        await eventually(lambda: mesh.status().state is RegistryState.FAILED)
        assert str(file) in mesh.status().last_error


async def test_https_is_spoken_with_the_authority_of_the_settings(tmp_path: Path) -> None:
    """And refused without it."""
    authority = Authority(tmp_path / "ca")
    ca = ConsulTls(ca=str(authority.ca))
    async with ConsulServer(tmp_path / "consul", authority=authority) as server:
        async with server.client() as api:
            await api.register("web", "web-1", "10.0.0.1", 80)
        async with consul_mesh(f"https://{server.address}", tls=ca) as mesh:
            assert mesh.addresses(WEB) == ["10.0.0.1"]
        async with consul_mesh(f"https://{server.address}", synced=False) as mesh:
            await eventually(lambda: mesh.status().state is RegistryState.FAILED)
            assert "certificate" in mesh.status().last_error
        missing = ConsulTls(ca=str(tmp_path / "none.pem"))
        async with consul_mesh(server.address, tls=missing, synced=False) as mesh:
            await eventually(lambda: mesh.status().state is RegistryState.FAILED)
            assert "none.pem: no such file" in mesh.status().last_error


async def test_few_watches_are_enough_for_many_services(
    consul: ConsulServer, api: ConsulClient, prefix: str
) -> None:
    """Consul grants few connections: what has no watch is found by looking at it again."""
    names = [f"{prefix}-{number:02}" for number in range(40)]
    for name in names:
        await api.register(name, f"{name}-1", "10.0.0.1", 80)
    async with (
        FaultProxy(consul.port) as proxy,
        consul_mesh(
            f"127.0.0.1:{proxy.port}", services=(f"{prefix}-*",), watches=5, wait=2.0
        ) as mesh,
    ):
        most = 0
        for name in names[::3]:
            await api.register(name, f"{name}-1", "10.0.0.2", 80)
        for name in names[1::3]:
            await api.set_status(f"{name}-1", "critical")
        for name in names[2::3]:
            await api.register(name, f"{name}-2", "10.0.0.3", 80, meta={"version": "v2"})

        def all_found() -> bool:
            nonlocal most
            most = max(most, proxy.open)
            found = [mesh.addresses(f"{name}.service.dc1.consul") for name in names]
            return (
                all(each == ["10.0.0.2"] for each in found[::3])
                and not any(found[1::3])
                and all(each == ["10.0.0.1", "10.0.0.3"] for each in found[2::3])
            )

        await eventually(all_found, seconds=20)
        # The watches, two of the datacenter as a whole, and questions in between.
        assert most <= 5 + 2 + 12


def _is_idle(mesh: ConsulMesh, host: str) -> bool:
    return not mesh.addresses(host)


async def test_services_whose_checks_changed_are_looked_at_first(
    consul: ConsulServer, api: ConsulClient, prefix: str
) -> None:
    """A sweep over all of them would take half a minute here."""
    names = [f"{prefix}-{number:02}" for number in range(40)]
    for name in names:
        await api.register(name, f"{name}-1", "10.0.0.1", 80)
    async with consul_mesh(
        consul.address, services=(f"{prefix}-*",), watches=2, sweep_rate=1
    ) as mesh:
        for number in (35, 20, 38):
            await api.set_status(f"{names[number]}-1", "critical")
            await eventually(
                partial(_is_idle, mesh, f"{names[number]}.service.dc1.consul"), seconds=5
            )
        await api.register(names[30], "new", "10.0.0.2", 80)
        host = f"{names[30]}.service.dc1.consul"
        await eventually(lambda: mesh.addresses(host) == ["10.0.0.1", "10.0.0.2"], seconds=5)


async def test_too_many_connections_of_others_only_make_it_slower(tmp_path: Path) -> None:
    """Somebody else on this machine uses up what Consul grants it."""
    server = ConsulServer(tmp_path, settings={"limits": {"http_max_conns_per_client": 12}})
    names = [f"web-{number:02}" for number in range(20)]
    async with server, server.client() as api:
        for name in names:
            await api.register(name, f"{name}-1", "10.0.0.1", 80)
        async with consul_mesh(server.address, services=("web-*",), wait=2.0) as mesh:
            for name in names:
                await api.register(name, f"{name}-1", "10.0.0.2", 80)
            hosts = [f"{name}.service.dc1.consul" for name in names]
            await eventually(
                lambda: all(mesh.addresses(host) == ["10.0.0.2"] for host in hosts), seconds=20
            )
            assert mesh.status().state is RegistryState.SYNCED
            assert mesh.status().reconnects == 0


async def test_exchanged_settings_do_not_use_up_the_connections(
    consul: ConsulServer, api: ConsulClient, prefix: str
) -> None:
    """Consul keeps those of the run before for a while, and counts them."""
    names = [f"{prefix}-{number:03}" for number in range(170)]
    await api.register_all([(name, name, "10.0.0.1", 80) for name in names])
    async with consul_mesh(consul.address, services=(f"{prefix}-*",), wait=3.0) as mesh:
        for timeout in (4.0, 5.0, 6.0):
            settings = ConsulSettings(
                address=consul.address,
                services=(f"{prefix}-*",),
                wait=Duration(3),
                timeout=Duration(timeout),
            )
            mesh.apply(settings, RegistryContext(name="consul", cluster_id=""))
            await eventually(lambda: len(mesh.supervisor.status()) == 1, seconds=30)
        assert mesh.status().state is RegistryState.SYNCED
        for name in (names[0], names[80], names[169]):
            await api.register(name, name, "10.0.0.2", 80)
            served = partial(mesh.addresses, f"{name}.service.dc1.consul")
            await eventually(served, lambda found: found == ["10.0.0.2"], seconds=20)
        assert mesh.status().reconnects == 0
