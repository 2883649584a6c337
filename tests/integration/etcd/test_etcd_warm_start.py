"""A daemon that starts while etcd is down serves what it knew, and doubts an etcd that came back
empty as it would have without the restart.
"""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from aggregator.generators.spec import CLUSTER, ENDPOINT
from tests.support.daemon_process import Daemon, serving
from tests.support.etcd_follower import service
from tests.support.poll import eventually
from tests.support.servers.etcd import EtcdServer
from tests.support.servers.fixture import Make
from tests.support.xds_client import connected

pytestmark = pytest.mark.servers

NAME: Final = "outbound|80||a.mesh"


async def registry(daemon: Daemon) -> Any:
    """How etcd fares."""
    (found,) = json.loads(await daemon.get("/debug/registryz?services=false"))["registries"]
    return found


async def test_state_outlives_the_daemon_and_judges_the_server(
    make_etcd: Make[EtcdServer], tmp_path: Path
) -> None:
    """Neither a dead etcd nor one that lost its disk takes the endpoints away at once."""
    server = make_etcd()
    await server.start()
    file = tmp_path / "mesh.yaml"
    file.write_text(
        f"registries: [{{name: kv, type: etcd, endpoints: ['{server.address}'],"
        " sync_timeout: 1h, guard: {hold: 2s, confirm: 1h}}]\n"
        "state: {dir: state}\n"
    )
    async with server.client() as client:
        addresses = [f"10.0.0.{number}" for number in range(1, 31)]
        await client.put("/mesh/services/shop/a.mesh", service(*addresses))
        async with serving("-c", str(file)) as daemon:
            await daemon.ready()
            await eventually((tmp_path / "state" / "kv.state").exists)
    server.kill()

    async with serving("-c", str(file)) as daemon:
        await daemon.ready()
        assert (await registry(daemon))["state"] == "stale"
        async with connected(daemon.grpc) as envoy:
            assert NAME in (await envoy.get(CLUSTER)).names
            (assignment,) = (await envoy.get(ENDPOINT, NAME)).resources.values()
            assert b"10.0.0.30" in assignment

        server.wipe()
        await server.start()
        found = await eventually(lambda: registry(daemon), lambda seen: seen["held"])
        assert (found["state"], found["endpoints"]) == ("synced", 30)
        assert (found["held"][0]["before"], found["held"][0]["after"]) == (30, 0)
        await eventually(lambda: registry(daemon), lambda seen: seen["endpoints"] == 0)
    assert daemon.noise == []
