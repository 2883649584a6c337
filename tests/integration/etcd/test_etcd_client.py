"""What a real etcd answers to single requests, and when it is asked in vain."""

import asyncio
from pathlib import Path

import pytest

from adapters.etcd.client import CompactedError, connect
from adapters.etcd.settings import EtcdSettings, EtcdTls, Member
from aggregator.model.errors import AdapterRejectedError, AdapterUnavailableError
from config.duration import Duration
from tests.support.certificate import Authority
from tests.support.etcd_follower import following, service
from tests.support.fault_proxy import Cut, FaultProxy, Garbage, Hang
from tests.support.poll import eventually
from tests.support.servers.etcd import EtcdServer
from tests.support.servers.fixture import Make

pytestmark = pytest.mark.servers
LARGE = 700_000


def settings(address: str, seconds: float = 5.0) -> EtcdSettings:
    """The settings for one server."""
    return EtcdSettings((Member(address),), timeout=Duration(seconds))


async def test_all_pages_are_of_one_revision(etcd: EtcdServer) -> None:
    """What is written meanwhile is told by the watch, not by half of the listing."""
    async with (
        etcd.client() as writer,
        connect(etcd.address, settings(etcd.address), ".") as client,
    ):
        await writer.put_all({f"/pages/{number:04}": "x" for number in range(200)})
        found: list[bytes] = []
        pages = 0
        async for page in client.pages(b"/pages/", b"/pages0"):
            if not found:
                await writer.put("/pages/9999", "late")
                await writer.delete("/pages/0150")
            found += [each.key for each in page.kvs]
            pages += 1
    assert len(found) == 200
    assert pages > 1


async def test_large_values_come_in_small_pages(etcd: EtcdServer) -> None:
    """All of them in one answer would be too much for either side."""
    async with etcd.client() as writer:
        await writer.put("/large/services/shop/a.mesh", service("10.0.0.1"))
        for number in range(8):
            await writer.put(f"/large/services/shop/s{number}.mesh", "x" * LARGE)
        async with following(etcd, prefix="/large/") as follower:
            assert follower.hosts() == ["a.mesh"]
            assert len(follower.problems()) == 8
            assert max(map(len, follower.problems())) < 1000
            await writer.put("/large/services/shop/s0.mesh", service("10.0.0.2"))
            for number in range(1, 8):
                await writer.put(f"/large/services/shop/s{number}.mesh", "y" * LARGE)
            await eventually(lambda: follower.hosts() == ["a.mesh", "s0.mesh"])
        await writer.delete("/large/", prefix=True)


async def test_a_watch_from_a_compacted_revision_says_so(make_etcd: Make[EtcdServer]) -> None:
    """It cannot be caught up with any more."""
    server = make_etcd()
    await server.start()
    async with (
        server.client() as writer,
        connect(server.address, settings(server.address), ".") as client,
    ):
        first = await writer.put("/mesh/a", "1")
        last = await writer.put("/mesh/a", "2")
        async with client.watch([(b"/mesh/", b"/mesh0")], first) as watch:
            happened = await watch.next()
            assert [event.kv.value for event in happened.events] == [b"1", b"2"]
        await writer.compact(last)
        async with client.watch([(b"/mesh/", b"/mesh0")], first) as watch:
            with pytest.raises(CompactedError):
                await watch.next()


async def test_what_the_server_cuts_into_pieces_is_put_together(etcd: EtcdServer) -> None:
    """It sends no more than some megabyte at a time to whoever catches up."""
    async with (
        etcd.client() as writer,
        connect(etcd.address, settings(etcd.address), ".") as client,
    ):
        revisions = [await writer.put(f"/piece/{number}", "x" * LARGE) for number in range(6)]
        async with client.watch([(b"/piece/", b"/piece0")], revisions[0]) as watch:
            happened = await watch.next()
        assert [event.kv.mod_revision for event in happened.events] == revisions
        await writer.delete("/piece/", prefix=True)


@pytest.mark.parametrize("fault", [Hang(), Cut(after=100), Cut(after=100, reset=True), Garbage()])
async def test_a_broken_connection_is_an_error_in_time(
    etcd: EtcdServer, fault: Hang | Cut | Garbage
) -> None:
    """Never an empty answer, and never a wait without end."""
    async with FaultProxy(etcd.port) as proxy:
        await proxy.set(fault)
        async with asyncio.timeout(5):
            with pytest.raises(AdapterUnavailableError):  # noqa: PT012 - wherever it fails.
                async with connect(proxy.address, settings(proxy.address, 0.3), ".") as client:
                    async for _ in client.pages(b"/", b"0"):
                        pass


@pytest.mark.parametrize(
    ("tls", "message"),
    [
        (EtcdTls(ca="garbage"), "garbage: expected certificates in PEM"),
        (EtcdTls(ca="."), "cannot be read: Is a directory"),
        (EtcdTls(ca="missing"), "missing: cannot be read: No such file"),
        (EtcdTls(cert="garbage", key="garbage"), "garbage: expected a certificate in PEM"),
        (
            EtcdTls(cert="a.pem", key="b.key"),
            "a.pem: expected a certificate in PEM, to which b.key",
        ),
    ],
)
async def test_files_that_cannot_be_used_are_named(
    tmp_path: Path, tls: EtcdTls, message: str
) -> None:
    """Before anything is connected, since gRPC would only say that it could not connect."""
    (tmp_path / "garbage").write_text("garbage")
    authority = Authority(tmp_path)
    authority.issue("a")
    authority.issue("b")
    with pytest.raises(AdapterRejectedError) as caught:
        async with connect("127.0.0.1:1", EtcdSettings((), tls=tls), str(tmp_path)):
            pass

    assert message in str(caught.value)


async def test_a_password_that_is_no_text_is_told(tmp_path: Path) -> None:
    """It could not even be sent."""
    (tmp_path / "password").write_bytes(b"\xff")
    login = EtcdSettings((), user="mesh", password_file="password")
    with pytest.raises(AdapterRejectedError, match="password: expected text in UTF-8"):
        async with connect("127.0.0.1:1", login, str(tmp_path)):
            pass
