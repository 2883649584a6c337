"""Users, tokens, permissions and TLS of an etcd."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from aggregator.registry.status import RegistryState
from tests.support.certificate import Authority
from tests.support.etcd_follower import following, instance, service
from tests.support.poll import eventually
from tests.support.servers.etcd import EtcdClient, EtcdServer
from tests.support.servers.fixture import Make

pytestmark = pytest.mark.servers


async def grant_read(client: EtcdClient, role: str, key: str) -> None:
    """Let a role read what is below a key."""
    raw = key.encode()
    end = raw[:-1] + bytes([raw[-1] + 1])
    await client.call(
        "auth/role/grant",
        {
            "name": role,
            "perm": {
                "permType": "READ",
                "key": base64.b64encode(raw).decode(),
                "range_end": base64.b64encode(end).decode(),
            },
        },
    )


@asynccontextmanager
async def guarded(
    make: Make[EtcdServer], *folders: str
) -> AsyncIterator[tuple[EtcdServer, EtcdClient]]:
    """A server with a user `mesh`, password `right`, who may read *folders* below the prefix."""
    server = make(arguments=["--bcrypt-cost", "4"])
    await server.start()
    async with server.client() as client:
        await client.call("auth/user/add", {"name": "mesh", "password": "right"})
        await client.call("auth/role/add", {"name": "mesh"})
        for folder in folders:
            await grant_read(client, "mesh", f"/mesh/{folder}")
        await client.call("auth/user/grant", {"user": "mesh", "role": "mesh"})
        await client.put("/mesh/services/shop/a.mesh", service("10.0.0.1"))
        await client.enable_auth("root")
    async with server.client(user="root", password="root") as client:
        yield server, client


async def test_a_user_logs_in_and_a_wrong_password_is_told(
    make_etcd: Make[EtcdServer], tmp_path: Path
) -> None:
    """The file is read at each login, so that mending it is enough."""
    password = tmp_path / "password"
    async with guarded(make_etcd, "") as (server, _):
        async with following(server, synced=False) as follower:
            await eventually(lambda: "user name is empty" in follower.status.last_error)
        async with following(server, login=tmp_path, synced=False) as follower:
            await eventually(lambda: f"{password}: cannot be read" in follower.status.last_error)
            password.write_text("wrong\n")
            await eventually(lambda: "authentication failed" in follower.status.last_error)
            assert follower.status.services == 0
            password.write_text("right\n")
            await eventually(lambda: follower.status.state is RegistryState.SYNCED)
            assert follower.addresses() == ["10.0.0.1"]


async def test_a_token_that_is_no_longer_valid_is_renewed(
    make_etcd: Make[EtcdServer], tmp_path: Path
) -> None:
    """The server's tokens live for minutes, the adapter for months."""
    (tmp_path / "password").write_text("right")
    async with (
        guarded(make_etcd, "") as (server, client),
        following(server, login=tmp_path, relist=0.3) as follower,
    ):
        # All tokens of the user go with the password.
        await client.call("auth/user/changepw", {"name": "mesh", "password": "right"})
        await client.put("/mesh/stray", "seen by a listing only")
        await eventually(lambda: len(follower.problems()) == 1)
        assert follower.status.reconnects == 0


async def test_a_part_that_may_not_be_read_stays_and_harms_no_other(
    make_etcd: Make[EtcdServer], tmp_path: Path
) -> None:
    """The permission for rules may be forgotten, or taken away."""
    (tmp_path / "password").write_text("right")
    async with (
        guarded(make_etcd, "services/", "instances/") as (server, client),
        following(server, login=tmp_path, relist=0.5) as follower,
    ):
        (problem,) = follower.problems()
        assert problem == f"kv:/mesh/rules/: {server.address}: permission denied"
        lease = await client.grant(60)
        await client.put("/mesh/instances/shop/a.mesh/1", instance("10.0.0.2"), lease=lease)
        await eventually(lambda: follower.addresses() == ["10.0.0.1", "10.0.0.2"])
        await client.revoke(lease)
        await eventually(lambda: follower.addresses() == ["10.0.0.1"])
        await grant_read(client, "mesh", "/mesh/rules/")
        await eventually(lambda: follower.problems() == [])

        await client.call(
            "auth/role/revoke",
            {
                "role": "mesh",
                "key": base64.b64encode(b"/mesh/services/").decode(),
                "range_end": base64.b64encode(b"/mesh/services0").decode(),
            },
        )
        await eventually(lambda: len(follower.problems()) == 1)
        assert follower.addresses() == ["10.0.0.1"]
        assert follower.status.reconnects == 0


async def test_tls_is_spoken_and_who_is_unknown_is_refused(
    make_etcd: Make[EtcdServer], tmp_path: Path
) -> None:
    """Nothing is sent to a server that cannot show who it is."""
    authority, stranger = Authority(tmp_path / "tls"), Authority(tmp_path / "other", "other")
    mutual = ["--client-cert-auth", "--trusted-ca-file", str(authority.ca)]
    server = make_etcd(authority=authority)
    await server.start()
    async with server.client() as client:
        await client.put("/mesh/services/shop/a.mesh", service("10.0.0.1"))
    pair = authority.issue("mesh")
    files = {"ca": str(authority.ca), "cert": str(pair.cert), "key": str(pair.key)}
    async with following(server, tls={"ca": files["ca"]}) as follower:
        assert follower.addresses() == ["10.0.0.1"]
    async with following(server, tls={"ca": str(stranger.ca)}, synced=False) as follower:
        await eventually(lambda: "CERTIFICATE_VERIFY_FAILED" in follower.status.last_error)
    async with following(server, synced=False) as follower:
        await eventually(lambda: follower.status.last_error)
    server.kill()
    server.arguments.extend(mutual)
    server.launch()
    async with following(server, tls=files) as follower:
        assert follower.addresses() == ["10.0.0.1"]
    async with following(server, tls={"ca": files["ca"]}, synced=False) as follower:
        await eventually(lambda: follower.status.last_error)
        assert follower.status.state is RegistryState.FAILED
