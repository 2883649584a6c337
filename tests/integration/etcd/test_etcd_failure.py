"""An etcd that dies, freezes or forgets takes nothing away that it did not delete."""

import asyncio
from functools import partial

import pytest

from aggregator.registry.status import RegistryState
from tests.support.etcd_follower import following, service
from tests.support.fault_proxy import FaultProxy, Pass, Refuse
from tests.support.poll import eventually
from tests.support.servers.etcd import EtcdServer
from tests.support.servers.fixture import Make

pytestmark = pytest.mark.servers


async def test_everything_stays_while_the_server_is_away(make_etcd: Make[EtcdServer]) -> None:
    """And what happened meanwhile, deletions too, is there as soon as it is back."""
    server = make_etcd()
    await server.start()
    async with server.client() as client:
        values = {f"/mesh/services/shop/{name}.mesh": service("10.0.0.1") for name in "abc"}
        await client.put_all(values | {"/mesh/services/shop/bad.mesh": service("10.0.0.9")})
        async with following(server) as follower:
            await client.put("/mesh/services/shop/bad.mesh", b"\xff")
            await eventually(lambda: len(follower.problems()) == 1)
            server.kill()
            await eventually(lambda: follower.status.state is RegistryState.DEGRADED)
            assert server.address in follower.status.last_error
            assert follower.hosts() == ["a.mesh", "b.mesh", "bad.mesh", "c.mesh"]

            await server.start()
            await client.delete("/mesh/services/shop/a.mesh")
            await client.put("/mesh/services/shop/b.mesh", service("10.0.0.2"))
            await eventually(lambda: follower.status.state is RegistryState.SYNCED)
            await eventually(lambda: follower.hosts() == ["b.mesh", "bad.mesh", "c.mesh"])
            await eventually(lambda: follower.addresses("b.mesh") == ["10.0.0.2"])
            assert follower.addresses("bad.mesh") == ["10.0.0.9"]


async def test_what_was_deleted_while_away_is_gone(make_etcd: Make[EtcdServer]) -> None:
    """And forgotten by the server too: only a listing can tell."""
    server = make_etcd()
    await server.start()
    async with server.client() as client:
        await client.put_all(
            {f"/mesh/services/shop/{name}.mesh": service("10.0.0.1") for name in "abc"}
        )
        async with FaultProxy(server.port) as proxy, following(proxy) as follower:
            await proxy.set(Refuse())
            await eventually(lambda: follower.status.state is RegistryState.DEGRADED)
            await client.delete("/mesh/services/shop/a.mesh")
            last = await client.put("/mesh/services/shop/b.mesh", service("10.0.0.2"))
            await client.compact(last)
            assert follower.hosts() == ["a.mesh", "b.mesh", "c.mesh"]
            await proxy.set(Pass())
            await eventually(lambda: follower.hosts() == ["b.mesh", "c.mesh"])
            assert follower.addresses("b.mesh") == ["10.0.0.2"]


async def test_a_server_that_comes_back_empty_is_not_believed_at_once(
    make_etcd: Make[EtcdServer],
) -> None:
    """A lost disk is no reason to lose the mesh."""
    server = make_etcd()
    await server.start()
    addresses = [f"10.0.0.{number}" for number in range(1, 31)]
    async with server.client() as client:
        await client.put("/mesh/services/shop/a.mesh", service(*addresses))
        async with following(server) as follower:
            assert len(follower.addresses()) == 30
            server.kill()
            server.wipe()
            await server.start()
            await eventually(lambda: follower.status.held)
            assert follower.status.state is RegistryState.SYNCED
            assert len(follower.addresses()) == 30
        async with following(server, hold=0.5) as follower:
            assert follower.hosts() == []


async def test_a_backup_that_sets_the_revision_back_is_followed(
    make_etcd: Make[EtcdServer],
) -> None:
    """Whoever watched on from the old revision would hear nothing for a long time."""
    server = make_etcd()
    await server.start()
    async with server.client() as client:
        await client.put("/mesh/services/shop/a.mesh", service("10.0.0.1"))
        await server.stop()
        backup = server.back_up()
        await server.start()
        for number in range(50):
            await client.put("/mesh/services/shop/b.mesh", service(f"10.0.1.{number}"))
        async with following(server) as follower:
            assert follower.hosts() == ["a.mesh", "b.mesh"]
            server.kill()
            server.restore(backup)
            await server.start()
            await eventually(lambda: follower.hosts() == ["a.mesh"])
            await client.put("/mesh/services/shop/a.mesh", service("10.0.0.2"))
            await eventually(lambda: follower.addresses() == ["10.0.0.2"])


async def test_a_frozen_server_is_noticed(make_etcd: Make[EtcdServer]) -> None:
    """Its connections stay open and say nothing, as on a hanging disk."""
    server = make_etcd()
    await server.start()
    async with server.client() as client:
        await client.put("/mesh/services/shop/a.mesh", service("10.0.0.1"))
        async with following(server, timeout="300ms") as follower:
            server.freeze()
            await eventually(lambda: follower.status.state is RegistryState.DEGRADED)
            assert follower.status.last_error.endswith(" 0.3 s")
            assert follower.addresses() == ["10.0.0.1"]
            server.thaw()
            await eventually(lambda: follower.status.state is RegistryState.SYNCED)


async def test_a_silent_server_that_lives_is_left_alone(etcd: EtcdServer) -> None:
    """Nothing happens most of the time; that is no failure."""
    async with following(etcd, prefix="/silent/", timeout="50ms") as follower:
        await asyncio.sleep(0.5)
        assert follower.status.state is RegistryState.SYNCED
        assert follower.status.reconnects == 0


async def test_another_member_takes_over_without_a_pause(make_etcd: Make[EtcdServer]) -> None:
    """Three members: one may die at any time, and without a majority everything stays."""
    members = [make_etcd() for _ in range(3)]
    peers = ",".join(
        f"m{number}=http://127.0.0.1:{member.peer_port}" for number, member in enumerate(members)
    )
    for number, member in enumerate(members):
        member.arguments.extend(["--name", f"m{number}", "--initial-cluster", peers])
        # So that a busy machine is not taken for a dead leader.
        member.arguments.extend(["--heartbeat-interval", "50", "--election-timeout", "500"])
        member.launch()
    for member in members:
        await eventually(partial(asyncio.to_thread, member.is_ready), seconds=20)
    async with members[2].client() as client:
        await client.put("/mesh/services/shop/a.mesh", service("10.0.0.1"))
        async with following(*members) as follower:
            members[0].kill()
            await eventually(lambda: asyncio.to_thread(members[2].is_ready), seconds=20)
            await client.put("/mesh/services/shop/a.mesh", service("10.0.0.2"))
            await eventually(lambda: follower.addresses() == ["10.0.0.2"])
            assert follower.status.reconnects == 0

            members[1].kill()
            await eventually(lambda: follower.status.state is RegistryState.DEGRADED)
            assert follower.addresses() == ["10.0.0.2"]
            members[1].launch()
            await eventually(lambda: follower.status.state is RegistryState.SYNCED, seconds=20)
