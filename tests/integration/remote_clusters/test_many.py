"""Twenty clusters at once, some of which never answer, under the daemon as a process."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.integration.remote_clusters.cluster import RemoteCluster, found_in, write
from tests.integration.remote_clusters.conftest import Clusters
from tests.support.daemon_process import Daemon, serving
from tests.support.fault_proxy import FaultProxy, Hang, Pass
from tests.support.poll import eventually

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(180)]

SERVERS: Final = ("east", "west", "north")
LIVE: Final = tuple(f"live-{number:02}" for number in range(17))
DEAD: Final = ("dead-0", "dead-1", "dead-2")
SERVICES: Final = 40
WAIT: Final = 3


@pytest.fixture
def silent() -> Iterator[list[int]]:
    """Ports on which connections are taken by the system, and never by anybody else."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in DEAD[1:]]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
            each.listen(64)
        yield [each.getsockname()[1] for each in sockets]


async def rows(daemon: Daemon) -> dict[str, dict[str, Any]]:
    """What is said of each cluster, by its id."""
    return {row["id"]: row for row in json.loads(await daemon.get("/debug/clusterz"))}


async def places(daemon: Daemon, host: str) -> list[str]:
    """The cluster ids of the endpoints of a service, sorted."""
    services = json.loads(await daemon.get(f"/debug/endpointz?host={host}"))
    return sorted(
        endpoint["clusterId"]
        for service in services
        for shard in service["shards"].values()
        for endpoint in shard
    )


def resident(pid: int) -> int:
    """Megabytes of memory that a process has now."""
    (line,) = (
        line
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    )
    return int(line.split()[1]) // 1024


async def fill(cluster: RemoteCluster) -> None:
    """Have services of two endpoints each."""
    await cluster.serve("reviews", "10.7.0.1")
    for number in range(SERVICES - 1):
        await cluster.serve(f"s{number}", f"10.7.1.{number}", f"10.7.2.{number}")


async def test_three_of_twenty_clusters_never_answer(
    clusters: Clusters, tmp_path: Path, silent: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Seventeen are served as if the others were not there, of which one is even required: it holds
    readiness back for its time, and no longer. What is wrong shows, and a cluster that answers at
    last joins.
    """
    opened = [await clusters.open(name) for name in SERVERS]
    for cluster in opened:
        await fill(cluster)
    folder = tmp_path / "kubeconfigs"
    for number, cluster_id in enumerate(LIVE):
        cluster = opened[number % len(opened)]
        await write(folder, cluster_id, (await cluster.account()).kubeconfig())
    account = await opened[0].account()
    async with FaultProxy(opened[0].server.port) as proxy:
        await proxy.set(Hang())
        for cluster_id, port in zip(DEAD, (proxy.port, *silent), strict=True):
            await write(folder, cluster_id, account.kubeconfig(f"https://127.0.0.1:{port}"))
        more = found_in(
            "kubeconfigs",
            defaults={"sync_timeout": f"{WAIT}s"},
            clusters={"dead-0": {"required": True}},
        )
        settings = tmp_path / "mesh.yaml"
        settings.write_text(yaml.safe_dump({"registries": [more], "log": {"format": "json"}}))
        began = time.monotonic()
        async with serving("-c", str(settings)) as daemon:
            host = f"reviews.{clusters.namespace}.svc.cluster.local"
            await eventually(
                lambda: places(daemon, host), lambda found: found == sorted(LIVE), seconds=60
            )
            served = time.monotonic() - began
            await daemon.ready()
            ready = time.monotonic() - began
            found = await rows(daemon)
            assert {found[each]["syncStatus"] for each in LIVE} == {"synced"}
            assert not {found[each]["syncStatus"] for each in DEAD} & {"synced"}
            assert ready >= WAIT
            megabytes = resident(daemon.process.pid)
            with capsys.disabled():
                print(  # noqa: T201 - figures
                    f"\n{len(LIVE)} of {len(LIVE) + len(DEAD)} clusters of {SERVICES} services "
                    f"served {served:.1f} s after the start, ready after {ready:.1f} s, "
                    f"{megabytes} MB"
                )

            await eventually(
                lambda: rows(daemon),
                lambda found: all(found[each]["lastError"] for each in DEAD),
                seconds=40,
            )
            metrics = await daemon.get("/metrics")
            for each in DEAD:
                assert f'mesh_registry_state{{registry="{each}",state="failed"}} 1.0' in metrics
            assert await places(daemon, host) == sorted(LIVE)

            await proxy.set(Pass())

            await eventually(
                lambda: places(daemon, host),
                lambda found: found == sorted((*LIVE, "dead-0")),
                seconds=90,
            )
            assert not daemon.noise
            log = json.dumps(daemon.events)
            assert account.token not in log + json.dumps(await rows(daemon))
