"""A daemon that reads etcd, over its own restarts and etcd's."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon_process import Daemon, serving
from tests.support.etcd_follower import instance, service
from tests.support.poll import eventually
from tests.support.servers.etcd import EtcdServer
from tests.support.servers.fixture import Make

pytestmark = pytest.mark.servers


async def registry(daemon: Daemon) -> dict[str, Any]:
    """How the daemon says that its registry fares."""
    (found,) = json.loads(await daemon.get("/debug/registryz"))["registries"]
    assert isinstance(found, dict)
    return found


async def addresses(daemon: Daemon) -> list[str]:
    """All that are served, by whatever service."""
    rows = json.loads(await daemon.get("/debug/endpointz"))
    return sorted(each["address"] for row in rows for each in row["shards"].get("kv", ()))


async def test_a_restart_loses_neither_a_broken_key_nor_what_etcd_would_say(
    make_etcd: Make[EtcdServer], tmp_path: Path
) -> None:
    """What was kept on disk is what a key said last, for the new run too."""
    server = make_etcd()
    await server.start()
    settings = tmp_path / "mesh.yaml"
    entry = f"{{name: kv, type: etcd, endpoints: ['{server.address}'], timeout: 1s}}"
    settings.write_text(f"registries:\n- {entry}\nstate: {{dir: state}}\n")
    async with server.client() as client:
        await client.put("/mesh/services/shop/a.mesh", service("10.0.0.1"))
        await client.put("/mesh/services/shop/b.mesh", service())
        await client.put("/mesh/instances/shop/b.mesh/1", instance("10.0.0.2"))
        async with serving("-c", str(settings)) as daemon:
            await daemon.ready()
            assert await addresses(daemon) == ["10.0.0.1", "10.0.0.2"]
            await eventually(lambda: (tmp_path / "state" / "kv.state").exists())

        await client.put("/mesh/services/shop/a.mesh", b"\xff")
        await client.delete("/mesh/instances/shop/b.mesh/1")
        server.kill()
        async with serving("-c", str(settings)) as daemon:
            await daemon.ready()
            assert await addresses(daemon) == ["10.0.0.1", "10.0.0.2"]
            assert (await registry(daemon))["state"] != "synced"

            await server.start()
            await eventually(lambda: registry(daemon), lambda found: found["state"] == "synced")
            await eventually(lambda: addresses(daemon), lambda found: found == ["10.0.0.1"])
            assert (await registry(daemon))["problems"] == 1
        assert not daemon.noise
