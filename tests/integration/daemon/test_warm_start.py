"""A daemon that starts while its registry is down serves what the one before it knew."""

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from aggregator.generators.spec import CLUSTER, ENDPOINT, LISTENER
from tests.support.daemon_process import Daemon, serving
from tests.support.poll import eventually
from tests.support.xds_client import connected

SERVICE: Final = """
services:
- host: a.mesh
  namespace: shop
  ports: [{name: http, number: 80, protocol: HTTP}]
  endpoints: [{address: 10.0.0.1, labels: {version: v1}, locality: eu/eu-1}]
"""
RULE: Final = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a, namespace: shop}
spec: {host: a.mesh, subsets: [{name: v1, labels: {version: v1}}]}
"""
NAME: Final = "outbound|80||a.mesh"
SUBSET: Final = "outbound|80|v1|a.mesh"


class Mesh:
    """A registry in a folder that can be taken away, and where its state is kept."""

    def __init__(self, root: Path) -> None:
        self.folder: Final = root / "vms"
        self.away: Final = root / "away"
        self.state: Final = root / "state" / "vms.state"
        self.file: Final = root / "mesh.yaml"
        self.folder.mkdir()
        (self.folder / "service.yaml").write_text(SERVICE)
        (self.folder / "rule.yaml").write_text(RULE)
        self.file.write_text(
            "registries: [{name: vms, type: files, path: vms/, sync_timeout: 1h}]\n"
            "state: {dir: state/}\n"
        )

    @property
    def arguments(self) -> tuple[str, str]:
        """How the daemon is started."""
        return ("-c", str(self.file))

    def break_off(self) -> None:
        """The registry is down."""
        self.folder.rename(self.away)

    def mend(self) -> None:
        """The registry is back."""
        self.away.rename(self.folder)


@pytest.fixture
async def mesh(tmp_path: Path) -> Mesh:
    """A mesh whose daemon has run once and was killed; its registry is down by now."""
    made = Mesh(tmp_path)
    async with serving(*made.arguments) as daemon:
        await daemon.ready()
        await eventually(made.state.exists)
    made.break_off()
    return made


async def status(daemon: Daemon) -> Mapping[str, Any]:
    """How the registry fares."""
    (found,) = json.loads(await daemon.get("/debug/registryz"))["registries"]
    shown: Mapping[str, Any] = found
    return shown


async def stale(daemon: Daemon) -> set[bool]:
    """What the debug view says of the endpoints."""
    (row,) = json.loads(await daemon.get("/debug/endpointz"))
    return {each["stale"] for shard in row["shards"].values() for each in shard}


@pytest.mark.parametrize("delta", [True, False])
async def test_new_envoys_get_endpoints_of_a_registry_that_is_down(mesh: Mesh, delta: bool) -> None:
    """The daemon is ready at once, and says how old its knowledge is."""
    async with serving(*mesh.arguments) as daemon:
        await daemon.ready()
        async with connected(daemon.grpc, delta=delta) as client:
            assert {NAME, SUBSET} <= set((await client.get(CLUSTER)).names)
            (assignment,) = (await client.get(ENDPOINT, SUBSET)).resources.values()

        assert b"10.0.0.1" in assignment
        assert await stale(daemon) == {True}
        found = await eventually(lambda: status(daemon), lambda seen: seen["lastError"])
        assert (found["state"], found["reason"]) == ("stale", "unavailable")
        assert (found["endpoints"], found["configs"]) == (1, 1)
        assert found["ageSeconds"] > 0


async def test_old_envoys_lose_nothing_and_get_nothing_twice(tmp_path: Path) -> None:
    """They come back with what they have, which is what there is."""
    mesh = Mesh(tmp_path)
    async with serving(*mesh.arguments) as daemon:
        await daemon.ready()
        async with connected(daemon.grpc) as client:
            await client.get(CLUSTER)
            await client.get(ENDPOINT, NAME)
            clusters = dict(client.versions[CLUSTER.type_url])
            endpoints = dict(client.versions[ENDPOINT.type_url])
        await eventually(mesh.state.exists)
        daemon.signal(signal.SIGTERM)
        await daemon.process.wait()
    mesh.break_off()

    async with serving(*mesh.arguments) as daemon, connected(daemon.grpc, wait=True) as client:
        await daemon.ready()
        await client.subscribe(CLUSTER, versions=clusters)
        await client.subscribe(ENDPOINT, NAME, versions=endpoints)
        response = await client.get(LISTENER)
        assert response.names
        assert await client.is_quiet()


async def test_the_registry_takes_over_once_it_is_back(mesh: Mesh) -> None:
    """What went while nobody looked goes then."""
    async with serving(*mesh.arguments) as daemon:
        await daemon.ready()
        (mesh.away / "rule.yaml").unlink()
        mesh.mend()
        found = await eventually(lambda: status(daemon), lambda seen: seen["state"] == "synced")

        assert (found["endpoints"], found["configs"], found["ageSeconds"]) == (1, 0, 0)
        assert await stale(daemon) == {False}
        assert await daemon.hosts() == {"a.mesh"}


async def test_a_damaged_file_is_reported_and_ignored(mesh: Mesh) -> None:
    """It is as if there were none: the registry is waited for."""
    data = bytearray(mesh.state.read_bytes())
    data[-1] ^= 1
    mesh.state.write_bytes(data)
    async with serving(*mesh.arguments) as daemon:
        (event,) = await eventually(lambda: daemon.logged("registry_state_ignored"))
        assert event["adapter"] == "vms"
        assert "damaged" in event["reason"]
        found = await eventually(lambda: status(daemon), lambda seen: seen["state"] == "failed")
        assert "damaged" in found["stateFault"]
        assert await daemon.hosts() == set()
        mesh.mend()
        await daemon.ready()

        assert await daemon.hosts() == {"a.mesh"}
    assert daemon.noise == []


async def test_a_registry_that_is_taken_out_leaves_nothing_behind(mesh: Mesh) -> None:
    """Who adds it again later gets what it says then."""
    mesh.mend()
    (mesh.folder.parent / "other").mkdir()
    async with serving(*mesh.arguments) as daemon:
        await daemon.ready()
        await eventually(lambda: status(daemon), lambda seen: seen["state"] == "synced")
        mesh.file.write_text(
            "registries: [{name: other, type: files, path: other/}]\nstate: {dir: state/}\n"
        )
        await eventually(daemon.hosts, lambda hosts: not hosts)
        await eventually(lambda: not mesh.state.exists())


async def test_a_folder_that_cannot_be_written_shows_in_the_metrics(tmp_path: Path) -> None:
    """Nobody finds out at the next restart only."""
    mesh = Mesh(tmp_path)
    (tmp_path / "state").write_text("no folder")
    async with serving(*mesh.arguments) as daemon:
        await daemon.ready()
        await eventually(
            lambda: daemon.get("/metrics"),
            lambda text: "mesh_state_unsaved_registries 1.0" in text,
        )
        (event,) = daemon.logged("registry_state_unsaved")

    assert event["adapter"] == "vms"
    assert daemon.noise == []
