"""A daemon that starts while the cluster that tells of the others is down."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.remote_clusters.conftest import Clusters
from tests.support.daemon_process import Daemon, serving
from tests.support.poll import eventually
from tests.support.servers.fixture import Make
from tests.support.servers.kube_apiserver import KubeApiserver

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(120)]


async def places(daemon: Daemon, host: str) -> dict[str, bool]:
    """Where a service is served, by cluster id and address, and whether that may be out of date."""
    return {
        f"{endpoint['clusterId']}/{endpoint['address']}": endpoint["stale"]
        for row in json.loads(await daemon.get(f"/debug/endpointz?host={host}"))
        for shard in row["shards"].values()
        for endpoint in shard
    }


async def cluster(daemon: Daemon, cluster_id: str) -> dict[str, Any]:
    """What is said of a cluster."""
    rows = json.loads(await daemon.get("/debug/clusterz"))
    (found,) = (row for row in rows if row["id"] == cluster_id)
    return dict(found)


async def test_clusters_of_secrets_are_served_while_their_holder_is_down(
    clusters: Clusters, make_kube: Make[KubeApiserver], tmp_path: Path
) -> None:
    """What was saved of them is served from the first moment, and no credential was saved; once
    the secrets can be read again, so are the clusters.
    """
    holder = make_kube(name="holder")
    await holder.start()
    east, west = await clusters.open(holder), await clusters.open("west")
    await east.serve("reviews", "10.1.0.1")
    await west.serve("reviews", "10.2.0.1")
    account = await west.account()
    await east.keep_secret("remotes", {"west": account.kubeconfig()})
    holder.write_kubeconfig(tmp_path / "east.yaml")
    namespace = clusters.namespace
    registries = [
        {
            "name": "east",
            "type": "kubernetes",
            "kubeconfig": "east.yaml",
            "secrets_namespace": namespace,
        },
        {
            "name": "more",
            "type": "remote_clusters",
            "secrets": {"registry": "east", "namespace": namespace},
        },
    ]
    settings = tmp_path / "mesh.yaml"
    settings.write_text(yaml.safe_dump({"registries": registries, "state": {"dir": "state"}}))
    host = f"reviews.{namespace}.svc.cluster.local"
    both = {"east/10.1.0.1", "west/10.2.0.1"}
    async with serving("-c", str(settings)) as daemon:
        await eventually(lambda: places(daemon, host), lambda found: found.keys() == both)
        daemon.signal(signal.SIGTERM)
        await daemon.process.wait()
    saved = {each.name for each in (tmp_path / "state").iterdir()}
    assert saved == {"east.state", "more.state", "west.state"}
    holder.kill()

    async with serving("-c", str(settings)) as daemon:
        await daemon.ready()
        assert await places(daemon, host) == dict.fromkeys(both, True)
        found = await cluster(daemon, "west")
        assert found["announcedBy"] == "more"
        assert "has not announced it again" in found["lastError"]
        await west.move("reviews", "10.2.0.1", "10.2.0.2")

        await holder.start()

        await eventually(
            lambda: places(daemon, host),
            lambda found: found == dict.fromkeys((*both, "west/10.2.0.2"), False),
            seconds=60,
        )
        assert (await cluster(daemon, "west"))["syncStatus"] == "synced"
        assert not daemon.noise
