"""Real clusters that are added, rotated, broken and removed while streams watch."""

import asyncio
import json
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import yaml

from aggregator.registry.status import RegistryState
from tests.integration.remote_clusters.cluster import found_in, write
from tests.integration.remote_clusters.conftest import Clusters
from tests.support.endpoint_watch import EndpointWatch, endpoint_watch
from tests.support.fault_proxy import Cut, FaultProxy, Hang, Pass
from tests.support.poll import NotYetError, eventually
from tests.support.servers.fixture import Make
from tests.support.servers.kube_apiserver import KubeApiserver
from tests.support.settings_mesh import SettingsMesh, running_settings_mesh

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]
ROTATIONS: Final = 4


async def served(mesh: SettingsMesh, namespace: str, *places: str, seconds: float = 20.0) -> None:
    """Return once reviews has exactly these endpoints, as ``<cluster id>/<address>``."""
    try:
        await eventually(
            lambda: mesh.places("reviews", namespace),
            lambda found: found == sorted(places),
            seconds=seconds,
        )
    except NotYetError as error:
        error.add_note(f"{mesh.supervisor.status()} {mesh.problems()}")
        raise


async def shown(watch: EndpointWatch, *addresses: str, seconds: float = 20.0) -> None:
    """Return once a stream holds exactly these endpoints."""
    await eventually(
        lambda: watch.addresses, lambda found: found == sorted(addresses), seconds=seconds
    )


async def test_one_host_of_two_clusters_is_one_service(clusters: Clusters, tmp_path: Path) -> None:
    """Endpoints of all clusters serve it, each with its cluster id, and a conflict of ports is
    reported; a remote cluster's own services are there too.
    """
    east, west = await clusters.open("east"), await clusters.open("west")
    await east.serve("reviews", "10.1.0.1")
    await west.serve("reviews", "10.2.0.1", "10.2.0.2", port=81)
    await west.serve("only-west", "10.2.0.3")
    await asyncio.to_thread(east.server.write_kubeconfig, tmp_path / "east.yaml")
    await write(tmp_path / "kubeconfigs", "west", west.server.kubeconfig())
    settings = {"name": "east", "type": "kubernetes", "kubeconfig": "east.yaml"}
    async with running_settings_mesh(tmp_path, settings, found_in("kubeconfigs")) as mesh:
        await served(mesh, clusters.namespace, "east/10.1.0.1", "west/10.2.0.1", "west/10.2.0.2")
        assert mesh.places("only-west", clusters.namespace) == ["west/10.2.0.3"]
        assert mesh.statuses()["west"].announced_by == "more"
        assert not mesh.statuses()["west"].required
        mine = [each for each in mesh.problems() if clusters.namespace in each]
        assert any("reviews" in each and "81" in each for each in mine), mesh.problems()

        await asyncio.to_thread((tmp_path / "kubeconfigs" / "west.yaml").unlink)

        await served(mesh, clusters.namespace, "east/10.1.0.1")
        assert mesh.places("only-west", clusters.namespace) == []
        assert mesh.state("west") is None


async def test_a_rotated_credential_loses_and_doubles_no_endpoint(
    clusters: Clusters, tmp_path: Path
) -> None:
    """The old client serves until the new one has listed everything, then is closed; the account
    of the old one may go, and changes still arrive.
    """
    west, folder = await clusters.open("west"), tmp_path / "kubeconfigs"
    lasting = sorted(f"10.2.0.{number}" for number in range(1, 30))
    await west.serve("reviews", *lasting)
    account = await west.account()
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(FaultProxy(west.server.port))
        await write(folder, "west", account.kubeconfig(f"https://{proxy.address}"))
        mesh = await stack.enter_async_context(
            running_settings_mesh(tmp_path, found_in("kubeconfigs"))
        )
        await served(mesh, clusters.namespace, *(f"west/{each}" for each in lasting))
        host = f"reviews.{clusters.namespace}.svc.cluster.local"
        watches = [
            await stack.enter_async_context(endpoint_watch(mesh.address, host, delta=delta))
            for delta in (True, False)
        ]
        for watch in watches:
            await shown(watch, *lasting)

        for number in range(ROTATIONS):
            old, old_proxy = account, proxy
            account = await west.account()
            proxy = await stack.enter_async_context(FaultProxy(west.server.port))
            await write(folder, "west", account.kubeconfig(f"https://{proxy.address}"))
            await eventually(partial(getattr, old_proxy, "open"), lambda found: found == 0)
            assert proxy.open > 0
            assert mesh.state("west") is RegistryState.SYNCED
            await old.revoke()
            await west.move("reviews", *lasting, f"10.2.1.{number}")
            for watch in watches:
                await shown(watch, *lasting, f"10.2.1.{number}")

        for watch in watches:
            assert watch.never_lacked(lasting)
            assert len(watch.history) == 1 + ROTATIONS


@pytest.mark.slow
async def test_a_revoked_token_keeps_the_endpoints_until_it_is_mended(
    clusters: Clusters, tmp_path: Path
) -> None:
    """What is refused is no empty list; with a new credential all that happened meanwhile comes."""
    west, folder = await clusters.open("west"), tmp_path / "kubeconfigs"
    await west.serve("reviews", "10.2.0.1", "10.2.0.2")
    account = await west.account()
    async with FaultProxy(west.server.port) as proxy:
        url = f"https://{proxy.address}"
        await write(folder, "west", account.kubeconfig(url))
        async with running_settings_mesh(tmp_path, found_in("kubeconfigs")) as mesh:
            await served(mesh, clusters.namespace, "west/10.2.0.1", "west/10.2.0.2")
            host = f"reviews.{clusters.namespace}.svc.cluster.local"
            async with endpoint_watch(mesh.address, host) as watch:
                await eventually(lambda: watch.addresses)
                await account.revoke()
                await proxy.set(Cut())
                await proxy.set(Pass())
                await eventually(lambda: mesh.state("west") is RegistryState.DEGRADED, seconds=40)
                status = mesh.statuses()["west"]
                assert status.last_error
                assert account.token not in status.last_error
                assert status.endpoints >= 2
                await eventually(lambda: mesh.statuses()["west"].age > 0)
                await west.move("reviews", "10.2.0.1", "10.2.0.3")
                assert mesh.places("reviews", clusters.namespace) == [
                    "west/10.2.0.1",
                    "west/10.2.0.2",
                ]

                await write(folder, "west", (await west.account()).kubeconfig(url))

                await served(mesh, clusters.namespace, "west/10.2.0.1", "west/10.2.0.3")
                assert mesh.state("west") is RegistryState.SYNCED
                await eventually(lambda: watch.addresses == ["10.2.0.1", "10.2.0.3"])
                assert watch.never_lacked(["10.2.0.1"])


async def test_a_bad_rotation_changes_nothing_until_it_is_mended(
    clusters: Clusters, tmp_path: Path
) -> None:
    """A wrong token, a server that is not there or no YAML at all: the client that works goes on
    working, and what is wrong shows.
    """
    west, folder = await clusters.open("west"), tmp_path / "kubeconfigs"
    await west.serve("reviews", "10.2.0.1")
    good = (await west.account()).kubeconfig()
    await write(folder, "west", good)
    async with FaultProxy(west.server.port) as proxy:
        await proxy.set(Hang())
        async with running_settings_mesh(tmp_path, found_in("kubeconfigs")) as mesh:
            await served(mesh, clusters.namespace, "west/10.2.0.1")
            bad = {
                "unknown token": west.server.kubeconfig("nobody"),
                "dead server": west.server.kubeconfig(url=f"https://{proxy.address}"),
                "no server": good.replace("https://", "ftp://"),
            }
            for number, (what, text) in enumerate(bad.items()):
                await write(folder, "west", text)
                replacing = await eventually(
                    lambda: [each for each in mesh.supervisor.status() if each.replacing],
                    hint=what,
                )
                if what != "dead server":
                    replacing = await eventually(
                        lambda: [
                            each
                            for each in mesh.supervisor.status()
                            if each.replacing and each.last_error
                        ],
                        hint=what,
                    )
                    assert "nobody" not in replacing[0].last_error
                await west.move("reviews", f"10.2.0.{number + 2}")
                await served(mesh, clusters.namespace, f"west/10.2.0.{number + 2}")
                assert mesh.state("west") is RegistryState.SYNCED

            await write(folder, "west", "clusters: [")
            await eventually(lambda: any("no kubeconfig" in each for each in mesh.problems()))
            await write(folder, "west", good)

            await eventually(lambda: not any(each.replacing for each in mesh.supervisor.status()))
            assert not any("no kubeconfig" in each for each in mesh.problems())
            await west.move("reviews", "10.2.0.9")
            await served(mesh, clusters.namespace, "west/10.2.0.9")


async def test_files_that_a_kubeconfig_names_are_found_beside_it(
    clusters: Clusters, tmp_path: Path
) -> None:
    """A folder of kubeconfigs may be mounted anywhere, with certificates and tokens."""
    west, folder = await clusters.open("west"), tmp_path / "kubeconfigs"
    await west.serve("reviews", "10.2.0.1")
    account = await west.account()
    parts = yaml.safe_load(account.kubeconfig())
    cluster, user = parts["clusters"][0]["cluster"], parts["users"][0]["user"]
    del cluster["certificate-authority-data"], user["token"]
    cluster["certificate-authority"], user["tokenFile"] = "ca.pem", "token"
    await write(folder, "west", yaml.safe_dump(parts))
    for name, text in (("ca.pem", west.server.ca.read_text()), ("token", account.token)):
        (folder / name).write_text(text)
    async with running_settings_mesh(tmp_path, found_in("kubeconfigs")) as mesh:
        await served(mesh, clusters.namespace, "west/10.2.0.1")


async def test_settings_of_a_cluster_change_without_a_loss(
    clusters: Clusters, tmp_path: Path
) -> None:
    """Its network and locality may be corrected while it is served; other clusters are not
    disturbed.
    """
    west, folder = await clusters.open("west"), tmp_path / "kubeconfigs"
    await west.serve("reviews", "10.2.0.1")
    async with FaultProxy(west.server.port) as proxy:
        await write(folder, "north", west.server.kubeconfig(url=f"https://{proxy.address}"))
        await write(folder, "west", west.server.kubeconfig())
        async with running_settings_mesh(tmp_path, found_in("kubeconfigs")) as mesh:
            places = ("north/10.2.0.1", "west/10.2.0.1")
            await served(mesh, clusters.namespace, *places)
            connections = proxy.connections
            host = f"reviews.{clusters.namespace}.svc.cluster.local"
            async with endpoint_watch(mesh.address, host) as watch:
                await eventually(lambda: watch.addresses)
                own = {"west": {"network": "net2", "locality": "eu/eu-2"}}
                await mesh.apply([found_in("kubeconfigs", clusters=own)])

                found = await eventually(
                    lambda: {
                        each.cluster_id: each
                        for each in mesh.endpoints("reviews", clusters.namespace)
                    },
                    lambda each: each["west"].network == "net2",
                )
                assert str(found["west"].locality) == "eu/eu-2"
                assert found["north"].network == ""
                assert mesh.places("reviews", clusters.namespace) == list(places)
                assert proxy.connections == connections
                assert not watch.gone
                assert all(watch.history)


async def test_a_cluster_that_comes_back_under_another_id_leaves_nothing_of_the_old_one(
    clusters: Clusters, tmp_path: Path
) -> None:
    """Endpoints, states and problems of a cluster go with its id."""
    west, folder = await clusters.open("west"), tmp_path / "kubeconfigs"
    await west.serve("reviews", "10.2.0.1")
    await write(folder, "west", west.server.kubeconfig())
    async with running_settings_mesh(tmp_path, found_in("kubeconfigs")) as mesh:
        await served(mesh, clusters.namespace, "west/10.2.0.1")

        await asyncio.to_thread((folder / "west.yaml").unlink)
        await served(mesh, clusters.namespace)
        await write(folder, "west-2", west.server.kubeconfig())
        await served(mesh, clusters.namespace, "west-2/10.2.0.1")

        await asyncio.to_thread((folder / "west-2.yaml").rename, folder / "west-3.yaml")
        await served(mesh, clusters.namespace, "west-3/10.2.0.1")
        assert list(mesh.statuses()) == ["more", "west-3"]


@pytest.mark.slow
async def test_a_killed_server_keeps_its_endpoints_and_harms_no_other(
    clusters: Clusters, make_kube: Make[KubeApiserver], tmp_path: Path
) -> None:
    """One cluster's outage is its own: the others go on, and it catches up when it is back."""
    west, own = await clusters.open("west"), make_kube(name="own")
    await own.start()
    north, folder = await clusters.open(own), tmp_path / "kubeconfigs"
    await west.serve("reviews", "10.2.0.1")
    await north.serve("reviews", "10.3.0.1")
    await write(folder, "west", west.server.kubeconfig())
    await write(folder, "north", own.kubeconfig())
    async with running_settings_mesh(tmp_path, found_in("kubeconfigs")) as mesh:
        await served(mesh, clusters.namespace, "north/10.3.0.1", "west/10.2.0.1")
        host = f"reviews.{clusters.namespace}.svc.cluster.local"
        async with endpoint_watch(mesh.address, host) as watch:
            await eventually(lambda: watch.addresses)
            own.kill()
            await eventually(lambda: mesh.state("north") is RegistryState.DEGRADED, seconds=40)
            await west.move("reviews", "10.2.0.1", "10.2.0.2")
            await served(
                mesh, clusters.namespace, "north/10.3.0.1", "west/10.2.0.1", "west/10.2.0.2"
            )

            await own.start()
            await north.move("reviews", "10.3.0.1", "10.3.0.2")

            await eventually(lambda: "10.3.0.2" in watch.addresses, seconds=40)
            assert watch.never_lacked(["10.2.0.1", "10.3.0.1"])


async def test_clusters_are_found_by_the_secrets_of_another(
    clusters: Clusters, tmp_path: Path
) -> None:
    """Secrets as Istio's tool writes them: added, rotated, doubled and deleted on a real server."""
    east, west = await clusters.open("east"), await clusters.open("west")
    await east.serve("reviews", "10.1.0.1")
    await west.serve("reviews", "10.2.0.1")
    await asyncio.to_thread(east.server.write_kubeconfig, tmp_path / "east.yaml")
    registries = (
        {
            "name": "east",
            "type": "kubernetes",
            "kubeconfig": "east.yaml",
            "secrets_namespace": clusters.namespace,
        },
        {
            "name": "more",
            "type": "remote_clusters",
            "secrets": {"registry": "east", "namespace": clusters.namespace},
        },
    )
    account = await west.account()
    await east.keep_secret(
        "unlabelled", {"south": account.kubeconfig()}, **{"istio/multiCluster": ""}
    )
    async with running_settings_mesh(tmp_path, *registries) as mesh:
        await served(mesh, clusters.namespace, "east/10.1.0.1")
        await eventually(lambda: mesh.state("more") is RegistryState.SYNCED)

        await east.keep_secret("remotes", {"west": account.kubeconfig()})
        await served(mesh, clusters.namespace, "east/10.1.0.1", "west/10.2.0.1")

        await east.keep_secret("young", {"west": west.server.kubeconfig(), "bad": "no: kubeconfig"})
        problems = await eventually(
            lambda: [each for each in mesh.problems() if "young" in each],
            lambda found: len(found) == 3,
        )
        assert sum("Secret" in each and "cluster bad" in each for each in problems) == 2
        assert sum("has that name already" in each for each in problems) == 1

        newer = await west.account()
        host = f"reviews.{clusters.namespace}.svc.cluster.local"
        async with endpoint_watch(mesh.address, host) as watch:
            await eventually(lambda: len(watch.addresses) == 2)
            await east.keep_secret("remotes", {"west": newer.kubeconfig()})
            await eventually(lambda: any(each.replacing for each in mesh.supervisor.status()))
            await eventually(lambda: not any(each.replacing for each in mesh.supervisor.status()))
            await account.revoke()
            await west.move("reviews", "10.2.0.1", "10.2.0.2")
            await eventually(lambda: "10.2.0.2" in watch.addresses)
            assert watch.never_lacked(["10.1.0.1", "10.2.0.1"])

        await east.delete_secret("young")
        await eventually(lambda: not [each for each in mesh.problems() if "young" in each])
        await east.delete_secret("remotes")
        await served(mesh, clusters.namespace, "east/10.1.0.1")
        assert list(mesh.statuses()) == ["east", "more"]
        assert "token" not in "".join(str(each) for each in mesh.supervisor.status())


async def test_a_program_gives_the_credential_only_where_that_is_allowed(
    clusters: Clusters, tmp_path: Path
) -> None:
    """Who may write into the folder must not thereby run programs; where it is allowed they are
    found beside the kubeconfig.
    """
    west, folder = await clusters.open("west"), tmp_path / "kubeconfigs"
    await west.serve("reviews", "10.2.0.1")
    account = await west.account()
    parts = yaml.safe_load(account.kubeconfig())
    version = "client.authentication.k8s.io/v1"
    parts["users"][0]["user"] = {
        "exec": {"apiVersion": version, "command": "./login", "interactiveMode": "Never"}
    }
    await write(folder, "west", yaml.safe_dump(parts))
    credential = {
        "apiVersion": version,
        "kind": "ExecCredential",
        "status": {"token": account.token},
    }
    program = folder / "login"
    program.write_text(f"#!/bin/sh\necho '{json.dumps(credential)}'\n")
    program.chmod(0o755)
    async with running_settings_mesh(tmp_path, found_in("kubeconfigs")) as mesh:
        await eventually(
            lambda: any("allow_exec" in each.last_error for each in mesh.statuses().values())
        )
        assert mesh.places("reviews", clusters.namespace) == []

        await mesh.apply([found_in("kubeconfigs", allow_exec=True)])

        await served(mesh, clusters.namespace, "west/10.2.0.1")
