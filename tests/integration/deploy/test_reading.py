"""The daemon reads clusters that were set up by what we ship, and by what Istio ships."""

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.kind_table import kinds
from tests.support.crds import install_crds, istio_crds
from tests.support.daemon_process import Daemon, serving
from tests.support.manifests import manifest, manifests, settings_text
from tests.support.poll import eventually
from tests.support.servers.fixture import Make
from tests.support.servers.kube_apiserver import KubeApiserver, endpoint_slice, service

pytestmark = pytest.mark.servers

NAMESPACE = manifest("Namespace")["metadata"]["name"]
ACCOUNT = manifest("ServiceAccount")["metadata"]["name"]
OBJECTS = manifests()
SETTINGS = yaml.safe_load(settings_text())
KINDS = kinds()
RULES: Mapping[str, Any] = {
    "DestinationRule": {"host": "a", "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}}},
    "EnvoyFilter": {
        "configPatches": [
            {
                "applyTo": "CLUSTER",
                "patch": {"operation": "MERGE", "value": {"lb_policy": "RANDOM"}},
            }
        ]
    },
    "Gateway": {
        "selector": {"app": "gateway"},
        "servers": [
            {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["a.example"]}
        ],
    },
    "ServiceEntry": {
        "hosts": ["a.example"],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "resolution": "STATIC",
        "endpoints": [{"address": "10.7.0.1"}],
    },
    "Sidecar": {"egress": [{"hosts": ["./*"]}]},
    "VirtualService": {
        "hosts": ["a"],
        "http": [{"timeout": "5s", "route": [{"destination": {"host": "a"}}]}],
    },
    "WorkloadEntry": {"address": "10.7.0.2", "labels": {"app": "a"}},
    "WorkloadGroup": {"template": {"labels": {"app": "a"}}},
}
"""A rule of each kind."""


def rule(kind: str, namespace: str, version: str = "") -> dict[str, Any]:
    """The rule of a kind as an object."""
    return {
        "apiVersion": version or KINDS[kind].api_versions[0],
        "kind": kind,
        "metadata": {"name": f"a-{kind.lower()}", "namespace": namespace},
        "spec": RULES[kind],
    }


async def specs(daemon: Daemon, namespace: str) -> dict[str, Any]:
    """The specs of all rules of a namespace, by kind."""
    found = json.loads(await daemon.get(f"/debug/configz?namespace={namespace}"))
    return {each["kind"]: each["spec"] for each in found["configs"]}


async def clusters(daemon: Daemon) -> dict[str, dict[str, Any]]:
    """The rows of clusterz by cluster id."""
    return {each["id"]: each for each in json.loads(await daemon.get("/debug/clusterz"))}


async def remote_secret(kubeconfig: Path) -> Any:
    """What `create-remote-secret` prints for the account that we ship."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aggregator.cli.main", "create-remote-secret"),
        *(f"--kubeconfig={kubeconfig}", "--name=west", f"--namespace={NAMESPACE}"),
        *(f"--service-account={ACCOUNT}", "--create-service-account=false"),
        "--token-duration=1h",
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    (found,) = (each for each in yaml.safe_load_all(out) if each)
    return found


async def test_the_account_reads_its_cluster_and_those_whose_secrets_are_there(
    kube: KubeApiserver, tmp_path: Path
) -> None:
    """The manifests as they are make a mesh of the cluster, and of others that come and go."""
    async with kube.client() as client:
        await install_crds(client)
        await client.apply(*OBJECTS)
        await client.create_namespace("deployed")
        await client.apply(
            service("web", "deployed", {"http": 80}),
            endpoint_slice("web", "deployed", {"http": 8080}, ["10.7.1.1"]),
            *(rule(kind, "deployed") for kind in RULES),
        )
        token = await client.token_of(NAMESPACE, ACCOUNT)
        admin = kube.write_kubeconfig(tmp_path / "admin.yaml")
        async with serving("-c", str(_write_settings(kube, tmp_path, token))) as daemon:
            await daemon.ready()
            read = await specs(daemon, "deployed")
            problems = await daemon.get("/debug/registryz?services=false")
            before = await clusters(daemon)
            secret = await remote_secret(admin)
            await client.apply(secret)
            found = await eventually(
                lambda: clusters(daemon),
                lambda seen: seen.get("west", {}).get("syncStatus") == "synced",
                seconds=20,
            )
            (row,) = json.loads(
                await daemon.get("/debug/endpointz?host=web.deployed.svc.cluster.local")
            )
            await client.delete(secret)
            after = await eventually(lambda: clusters(daemon), lambda seen: "west" not in seen)

    assert read.keys() == RULES.keys()
    assert "ClusterRole with" not in problems
    assert "Role in namespace" not in problems
    assert before.keys() == after.keys() == {"Kubernetes"}
    assert found["west"]["announcedBy"] == "remotes"
    assert "istio-remote-secret-west" in found["west"]["secretName"]
    assert sorted(row["shards"]) == ["local", "west"]


def _write_settings(kube: KubeApiserver, folder: Path, token: str) -> Path:
    """The ConfigMap's settings, outside of a pod."""
    kube.write_kubeconfig(folder / "account.yaml", token)
    local, *others = SETTINGS["registries"]
    local = {**local, "kubeconfig": "account.yaml"}
    path = folder / "mesh-aggregator.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, "registries": [local, *others]}))
    return path


async def test_istios_definitions_do_as_well(
    make_kube: Make[KubeApiserver], tmp_path: Path
) -> None:
    """Where Istio is or was installed, its rules are read as they are, in any version."""
    server = make_kube()
    await server.start()
    server.write_kubeconfig(tmp_path / "admin.yaml")
    settings = tmp_path / "mesh-aggregator.yaml"
    settings.write_text("registries: [{name: east, type: kubernetes, kubeconfig: admin.yaml}]\n")
    definitions = await asyncio.to_thread(istio_crds)
    async with server.client() as client, serving("-c", str(settings)) as daemon:
        await client.create_namespace("newest")
        await client.create_namespace("oldest")
        await daemon.ready()
        await install_crds(client, definitions)
        await client.apply(*(rule(kind, "newest") for kind in RULES))
        await client.apply(*(rule(kind, "oldest", KINDS[kind].api_versions[-1]) for kind in RULES))
        for namespace in ("newest", "oldest"):
            read = await eventually(
                lambda namespace=namespace: specs(daemon, namespace),  # type: ignore[misc]
                lambda seen: len(seen) == len(RULES),
                seconds=20,
            )
            assert {kind: spec for kind, spec in read.items() if spec != RULES[kind]} == {}

    assert RULES.keys() == KINDS.keys()
