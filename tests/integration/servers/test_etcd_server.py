"""The etcd that tests start."""

from pathlib import Path

import pytest

from tests.support.certificate import Authority
from tests.support.servers.etcd import EtcdRefusedError, EtcdServer
from tests.support.servers.fixture import Make

pytestmark = pytest.mark.servers


async def test_keys_live_under_their_prefix_and_their_lease(etcd: EtcdServer) -> None:
    """What tests write is there as they wrote it, and goes with its lease."""
    async with etcd.client() as client:
        lease = await client.grant(60)
        await client.put("/server-test/a", "1")
        await client.put("/server-test/b", b"\xff", lease=lease)
        found = await client.get("/server-test/")
        assert [(each.key, each.value, each.lease) for each in found] == [
            ("/server-test/a", b"1", 0),
            ("/server-test/b", b"\xff", lease),
        ]
        await client.revoke(lease)
        assert [each.key for each in await client.get("/server-test/")] == ["/server-test/a"]
        assert await client.delete("/server-test/", prefix=True) == 1


async def test_a_killed_one_comes_back_with_its_data_on_its_port(
    make_etcd: Make[EtcdServer],
) -> None:
    """A crash loses neither data nor address."""
    server = make_etcd()
    await server.start()
    address = server.address
    async with server.client() as client:
        await client.put("/a", "1")
        server.kill()
        assert not server.running
        await server.start()
        assert [each.value for each in await client.get("/")] == [b"1"]
    assert server.address == address


async def test_a_backup_sets_the_revision_back_and_a_wipe_empties(
    make_etcd: Make[EtcdServer],
) -> None:
    """After a restore the same keys have older revisions, as after a real disaster."""
    server = make_etcd()
    await server.start()
    async with server.client() as client:
        await client.put("/a", "old")
        await server.stop()
        backup = server.back_up()
        await server.start()
        late = await client.put_all({"/a": "new", "/b": "new"})
        server.kill()
        server.restore(backup)
        await server.start()
        (found,) = await client.get("/")
        assert (found.value, found.revision < late) == (b"old", True)
        server.kill()
        server.wipe()
        await server.start()
        assert await client.get("/") == []


async def test_tls_and_users_are_asked_for(make_etcd: Make[EtcdServer], tmp_path: Path) -> None:
    """A client needs the certificate authority and a password."""
    server = make_etcd(authority=Authority(tmp_path / "tls"))
    await server.start()
    async with server.client() as client:
        await client.enable_auth("secret")
        with pytest.raises(EtcdRefusedError):
            await client.get("/")
    async with server.client(user="root", password="secret") as client:
        assert await client.get("/") == []
