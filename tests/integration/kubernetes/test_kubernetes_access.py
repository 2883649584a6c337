"""As whom a cluster is read, and what comes of it where that is not enough."""

import asyncio
import base64
import json
import stat
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.kubernetes.client import REREAD_SECONDS, KubernetesClient
from adapters.kubernetes.kubeconfig import Access, decode_kubeconfig
from adapters.kubernetes.reflector import Pace
from aggregator.model.errors import AdapterRejectedError
from aggregator.registry.status import RegistryState
from tests.support.clock import FakeClock
from tests.support.fault_proxy import FaultProxy
from tests.support.kube_follower import following_kube, fresh_namespace
from tests.support.poll import eventually
from tests.support.port import free_port
from tests.support.servers.fixture import Make
from tests.support.servers.kube_apiserver import (
    KubeApiserver,
    KubeClient,
    KubeRefusedError,
    endpoint_slice,
    service,
)

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]
HTTP = {"http": 80}
QUICK = Pace(patience=0.5, poll=0.3, longest=0.3)
CORE = ["namespaces", "nodes", "pods", "services"]


async def allow(
    client: KubeClient, shop: str, account: str, resources: Sequence[str], *, everywhere: bool
) -> None:
    """Let an account list and watch."""
    rules = [
        {
            "apiGroups": ["", "discovery.k8s.io"],
            "resources": list(resources),
            "verbs": ["list", "watch"],
        }
    ]
    kind = "ClusterRole" if everywhere else "Role"
    metadata = {"name": f"{shop}-{account}", **({} if everywhere else {"namespace": shop})}
    group = "rbac.authorization.k8s.io"
    await client.apply(
        {"apiVersion": f"{group}/v1", "kind": kind, "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": f"{kind}Binding",
            "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": kind, "name": metadata["name"]},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": shop}],
        },
    )


async def test_a_kind_that_may_not_be_read_is_named_and_the_rest_works(
    kube: KubeApiserver,
) -> None:
    """With the rule that its role lacks; once it has that, the kind is read."""
    shop = fresh_namespace()
    async with kube.client() as client:
        await client.create_namespace(shop)
        await client.apply(service("a", shop, HTTP), endpoint_slice("a", shop, HTTP, ["10.1.0.1"]))
        token = await client.token_of(shop, "reader")
        readable = ["namespaces", "services", "endpointslices"]
        await allow(client, shop, "reader", readable, everywhere=True)
        kubeconfig = await asyncio.to_thread(kube.kubeconfig, token)
        # Without rules: other tests leave their definitions on the shared server.
        async with following_kube(kubeconfig, pace=QUICK, context={"rules": False}) as follower:
            await follower.has("a", shop, "10.1.0.1")
            nodes, pods = follower.problems("403")
            assert nodes.startswith("east: Node: the nodes cannot be read: 403 Forbidden: ")
            assert pods.endswith(
                "; a ClusterRole with apiGroups [''], resources ['pods'] and verbs "
                "['list', 'watch'] lets it"
            )
            await allow(client, shop, "reader", [*readable, "pods", "nodes"], everywhere=True)
            await eventually(lambda: not follower.problems("403"))


async def test_a_role_of_one_namespace_is_enough_for_that_namespace(kube: KubeApiserver) -> None:
    """And other namespaces are not even asked for."""
    shop, other = fresh_namespace(), fresh_namespace()
    async with kube.client() as client:
        for namespace in (shop, other):
            await client.create_namespace(namespace, {"team": "x"})
            await client.apply(service("a", namespace, HTTP))
        token = await client.token_of(shop, "reader")
        readable = ["services", "endpointslices", "pods"]
        await allow(client, shop, "reader", readable, everywhere=False)
        kubeconfig = await asyncio.to_thread(kube.kubeconfig, token)
        async with following_kube(kubeconfig, pace=QUICK, namespaces=[shop]) as follower:
            await follower.has("a", shop)
            assert follower.service("a", shop) is not None
            assert follower.service("a", other) is None
            await allow(client, shop, "reader", [*readable, "namespaces"], everywhere=True)
            found = await eventually(lambda: follower.aggregate.namespace(shop))
            assert found is not None
            assert ("team", "x") in found.labels
            assert follower.aggregate.namespace(other) is None


async def test_a_token_without_any_right_is_a_registry_without_state(kube: KubeApiserver) -> None:
    """To be allowed nothing is not the same as to find nothing."""
    shop = fresh_namespace()
    async with kube.client() as client:
        await client.create_namespace(shop)
        token = await client.token_of(shop, "nobody")
    kubeconfig = await asyncio.to_thread(kube.kubeconfig, token)
    async with following_kube(kubeconfig, pace=QUICK, synced=False) as follower:
        await eventually(lambda: follower.status.last_error)
        assert follower.status.state is RegistryState.FAILED
        assert f"{kube.url} lets us read nothing" in follower.status.last_error


async def test_a_revoked_token_is_noticed_and_a_new_one_taken_from_its_file(
    kube: KubeApiserver, tmp_path: Path
) -> None:
    """Watches outlive their token; what was read stays until the file has another one."""
    shop = fresh_namespace()
    async with kube.client() as client:
        await client.create_namespace(shop)
        await client.apply(service("a", shop, HTTP), endpoint_slice("a", shop, HTTP, ["10.1.0.1"]))
        tokens = [await client.token_of(shop, name) for name in ("first", "second")]
        for name in ("first", "second"):
            await allow(client, shop, name, [*CORE, "endpointslices"], everywhere=True)
        settings = await asyncio.to_thread(write_kubeconfig, kube, tmp_path, tokenFile="token")
        await asyncio.to_thread((tmp_path / "token").write_text, tokens[0] + "\n")
        async with following_kube("", base=tmp_path, pace=QUICK, **settings) as follower:
            await follower.has("a", shop, "10.1.0.1")
            account = {"name": "first", "namespace": shop}
            await client.delete({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
            await eventually(lambda: follower.status.state is RegistryState.DEGRADED, seconds=30)
            assert "does not accept our credentials" in follower.status.last_error
            assert tokens[0] not in follower.status.last_error
            assert follower.addresses("a", shop) == ["10.1.0.1"]

            await asyncio.to_thread((tmp_path / "token").write_text, tokens[1] + "\n")
            await eventually(lambda: follower.status.state is RegistryState.SYNCED)
            await client.apply(endpoint_slice("a", shop, HTTP, ["10.1.0.2"]))
            await follower.has("a", shop, "10.1.0.2")


async def test_a_token_that_is_rotated_in_time_is_not_noticed_at_all(
    kube: KubeApiserver, tmp_path: Path
) -> None:
    """The file is read again before the server refuses the old one for good."""
    shop = fresh_namespace()
    async with kube.client() as client:
        await client.create_namespace(shop)
        tokens = [await client.token_of(shop, name) for name in ("first", "second")]
        for name in ("first", "second"):
            await allow(client, shop, name, [*CORE, "endpointslices"], everywhere=True)
        async with FaultProxy(kube.port) as proxy:
            settings = await asyncio.to_thread(
                write_kubeconfig, kube, tmp_path, proxy.address, tokenFile="token"
            )
            await asyncio.to_thread((tmp_path / "token").write_text, tokens[0])
            async with following_kube("", base=tmp_path, pace=QUICK, **settings) as follower:
                await asyncio.to_thread((tmp_path / "token").write_text, tokens[1])
                account = {"name": "first", "namespace": shop}
                await client.delete(
                    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account}
                )
                await eventually(lambda: refused(kube, tokens[0]), seconds=30)
                asked = proxy.requests
                await eventually(lambda: proxy.requests > asked + 5)
                await client.apply(service("b", shop, HTTP))
                await eventually(lambda: follower.service("b", shop))
                assert (follower.status.reconnects, follower.status.last_error) == (0, "")


async def test_a_kubeconfig_that_is_just_being_written_is_read_again(
    kube: KubeApiserver, tmp_path: Path
) -> None:
    """Tools write it in place; only one that stays broken ends the connection."""
    clock = FakeClock()
    path = kube.write_kubeconfig(tmp_path / "kube.yaml")
    whole = path.read_bytes()

    def load() -> Access:
        return decode_kubeconfig(path.read_bytes(), str(path), tmp_path)

    async with KubernetesClient(load, rate=50, clock=clock) as client:
        await client.get("/version")
        path.write_bytes(whole[: len(whole) // 2] + b"{")
        clock.now += REREAD_SECONDS
        await client.get("/version")
        path.write_bytes(whole)
        clock.now += REREAD_SECONDS
        await client.get("/version")
        path.write_bytes(b"{")
        clock.now += REREAD_SECONDS
        await client.get("/version")
        clock.now += REREAD_SECONDS
        with pytest.raises(AdapterRejectedError, match=str(path)):
            await client.get("/version")


async def test_client_certificates_identify(make_kube: Make[KubeApiserver], tmp_path: Path) -> None:
    """Certificate and key are files or in the kubeconfig itself, and never written anywhere."""
    server = make_kube()
    server.arguments.append(f"--client-ca-file={server.ca}")
    await server.start()
    shop = fresh_namespace()
    async with server.client() as client:
        await client.create_namespace(shop)
        await allow(client, shop, "reader", [*CORE, "endpointslices"], everywhere=True)
        binding = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding"}
        subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "somebody"}
        metadata = {"name": f"{shop}-reader"}
        await client.patch({**binding, "metadata": metadata, "subjects": [subject]})
        await client.apply(service("a", shop, HTTP))
    known = await asyncio.to_thread(server.authority.issue, "somebody", ["somebody"])
    files = {"client-certificate": str(known.cert), "client-key": str(known.key)}
    inline = {
        f"{name}-data": base64.b64encode(await asyncio.to_thread(Path(path).read_bytes)).decode()
        for name, path in files.items()
    }
    for user in (files, inline):
        settings = await asyncio.to_thread(write_kubeconfig, server, tmp_path, **user)
        async with following_kube("", base=tmp_path, pace=QUICK, **settings) as follower:
            assert follower.service("a", shop) is not None


async def test_a_program_gives_the_credential_only_if_that_is_allowed(
    kube: KubeApiserver, tmp_path: Path
) -> None:
    """Whoever writes a kubeconfig does not run programs here unless the settings say so."""
    program = tmp_path / "login"
    credential = {"kind": "ExecCredential", "status": {"token": kube.users[0].token}}
    script = f"#!{sys.executable}\nprint({json.dumps(json.dumps(credential))})\n"

    def write() -> dict[str, Any]:
        program.write_text(script)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        command = {"command": str(program), "apiVersion": "client.authentication.k8s.io/v1"}
        return write_kubeconfig(kube, tmp_path, exec=command)

    settings = await asyncio.to_thread(write)
    async with following_kube("", base=tmp_path, synced=False, **settings) as follower:
        await eventually(lambda: follower.status.last_error)
        assert "users[0].user.exec" in follower.status.last_error
        assert "is not run unless the registry's `allow_exec` is true" in follower.status.last_error
    settings["allow_exec"] = True
    async with following_kube("", base=tmp_path, **settings) as follower:
        assert follower.service("kubernetes", "default") is not None


async def test_a_server_that_is_not_there_or_not_trusted_is_named(
    kube: KubeApiserver, tmp_path: Path
) -> None:
    """The message says where, and what is wrong."""
    port = free_port()
    cases = [
        (await asyncio.to_thread(kube.kubeconfig, url=f"https://127.0.0.1:{port}"), str(port)),
        (await asyncio.to_thread(kube.kubeconfig, "wrong"), "does not accept our credentials"),
        (await asyncio.to_thread(distrust, kube), "its certificate is not trusted"),
        ("clusters: [", "east"),
    ]
    for kubeconfig, message in cases:
        async with following_kube(kubeconfig, pace=QUICK, synced=False) as follower:
            status = await eventually(
                partial(getattr, follower, "status"), lambda found: found.last_error
            )
            assert message in status.last_error
            assert status.state is RegistryState.FAILED


async def refused(kube: KubeApiserver, token: str) -> bool:
    """Whether the server does not accept a token any more."""
    async with kube.client(token) as client:
        try:
            await client.call("GET", "/version")
        except KubeRefusedError as error:
            return error.status == 401
    return False


def distrust(kube: KubeApiserver) -> str:
    """A kubeconfig without the server's authority."""
    config = yaml.safe_load(kube.kubeconfig())
    del config["clusters"][0]["cluster"]["certificate-authority-data"]
    return str(yaml.safe_dump(config))


def write_kubeconfig(
    kube: KubeApiserver, folder: Path, address: str = "", **user: Any
) -> dict[str, Any]:
    """A kubeconfig of another kind of user; the settings that name it."""
    config = yaml.safe_load(kube.kubeconfig(url=f"https://{address}" if address else ""))
    config["users"][0]["user"] = user
    (folder / "kubeconfig.yaml").write_text(yaml.safe_dump(config))
    return {"kubeconfig": "kubeconfig.yaml"}
