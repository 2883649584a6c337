"""The Consul that tests start."""

from pathlib import Path

import pytest

from tests.support.certificate import Authority
from tests.support.poll import eventually
from tests.support.servers.consul import ConsulRefusedError, ConsulServer, start_joined
from tests.support.servers.fixture import Make

READ = 'service_prefix "" {policy="read"} node_prefix "" {policy="read"}'

pytestmark = pytest.mark.servers


async def test_instances_have_a_health_and_keys_a_value(consul: ConsulServer) -> None:
    """What tests write is there as they wrote it."""
    async with consul.client() as client:
        await client.add_node("server-test", "10.1.1.1", {"zone": "a"})
        await client.register("server-test", "web-1", "10.1.1.2", 80, node="server-test")
        await client.set_status("web-1", "critical", node="server-test")
        (found,) = await client.call("GET", "health/service/server-test")
        assert found["Service"]["Address"] == "10.1.1.2"
        assert found["Node"]["Meta"]["zone"] == "a"
        assert [each["Status"] for each in found["Checks"]] == ["critical"]
        await client.deregister("web-1", node="server-test")
        assert await client.call("GET", "health/service/server-test") == []
        await client.put("server-test/a", "1")
        (key,) = await client.call("GET", "kv/server-test?recurse")
        assert key["Key"] == "server-test/a"
        await client.delete("server-test/", recurse=True)


async def test_a_killed_one_comes_back_with_its_data_and_a_wiped_one_without(
    make_consul: Make[ConsulServer],
) -> None:
    """A crash loses neither data nor address."""
    server = make_consul()
    await server.start()
    async with server.client() as client:
        await client.register("web", "web-1", "10.1.1.2", 80)
        await server.restart()
        assert "web" in await client.call("GET", "catalog/services")
        server.kill()
        server.wipe()
        await server.start()
        assert "web" not in await client.call("GET", "catalog/services")


async def test_a_snapshot_and_a_backup_take_it_back(make_consul: Make[ConsulServer]) -> None:
    """What came after is gone, by the API while it runs, or as files while it does not."""
    server = make_consul()
    await server.start()
    async with server.client() as client:
        await client.register("old", "old-1", "10.1.1.2", 80)
        snapshot = await client.snapshot()
        await client.register("new", "new-1", "10.1.1.2", 80)
        await client.restore(snapshot)
        assert set(await client.call("GET", "catalog/services")) == {"consul", "old"}
        await server.stop()
        backup = server.back_up()
        await server.start()
        await client.register("late", "late-1", "10.1.1.2", 80)
        server.kill()
        server.restore(backup)
        await server.start()
        assert set(await client.call("GET", "catalog/services")) == {"consul", "old"}


async def test_two_datacenters_know_each_other(make_consul: Make[ConsulServer]) -> None:
    """One answers questions about the other, until that is gone."""
    east = make_consul(datacenter="east")
    west = make_consul(datacenter="west", wan=east)
    await start_joined(east, west)
    async with east.client() as client, west.client() as there:
        await there.register("web", "web-1", "10.1.1.2", 80)
        assert "web" in await client.call("GET", "catalog/services?dc=west")
        west.kill()
        with pytest.raises(ConsulRefusedError):
            await client.call("GET", "catalog/services?dc=west")
        await west.start()
        await eventually(lambda: client.reaches("west"), seconds=20)


async def test_tls_and_tokens_are_asked_for(
    make_consul: Make[ConsulServer], tmp_path: Path
) -> None:
    """A token reads what its policy says, until it is revoked."""
    server = make_consul(acl=True, authority=Authority(tmp_path / "tls"))
    await server.start()
    async with server.client() as client:
        await client.register("web", "web-1", "10.1.1.2", 80)
        accessor, token = await client.create_token(READ, name="reader")
        async with server.client(token) as reader:
            assert set(await reader.call("GET", "catalog/services")) >= {"web"}
            await client.revoke_token(accessor)
            with pytest.raises(ConsulRefusedError, match="ACL not found"):
                await reader.call("GET", "catalog/services")
