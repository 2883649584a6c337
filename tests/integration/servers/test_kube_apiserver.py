"""The kube-apiserver that tests start."""

import pytest

from tests.support.servers.etcd import EtcdServer
from tests.support.servers.fixture import Make
from tests.support.servers.kube_apiserver import (
    KubeApiserver,
    KubeRefusedError,
    User,
    endpoint_slice,
    service,
)

pytestmark = pytest.mark.servers


async def test_objects_are_written_merged_and_deleted(kube: KubeApiserver) -> None:
    """A test can do to the objects of a namespace what people do."""
    async with kube.client() as client:
        await client.create_namespace("server-test")
        web = service("web", "server-test", {"http": 80})
        points = endpoint_slice("web", "server-test", {"http": 8080}, ["10.1.2.3"])
        await client.apply(web, points)
        await client.apply(service("web", "server-test", {"http": 81}), points)
        await client.patch(
            {**web, "metadata": {**web["metadata"], "labels": {"a": "b"}}, "spec": {}}
        )
        found = await client.get(web)
        assert found["spec"]["ports"][0]["port"] == 81
        assert found["metadata"]["labels"] == {"a": "b"}
        await client.delete(web, points)
        with pytest.raises(KubeRefusedError, match="404"):
            await client.get(web)


async def test_a_killed_one_comes_back_with_its_data_and_without_a_revoked_user(
    make_kube: Make[KubeApiserver], make_etcd: Make[EtcdServer]
) -> None:
    """A crash loses no data; users are read again, and RBAC holds for them."""
    store = make_etcd()
    await store.start()
    server = make_kube(etcd=store)
    server.users.append(User("guest-token", "guest"))
    await server.start()
    async with server.client() as client, server.client("guest-token") as guest:
        await client.create_namespace("shop")
        document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
        with pytest.raises(KubeRefusedError, match="403"):
            await guest.get(document)
        server.kill()
        server.users.pop()
        await server.start()
        assert (await client.get(document))["metadata"]["name"] == "shop"
        with pytest.raises(KubeRefusedError, match="401"):
            await guest.get(document)


async def test_the_token_of_a_deleted_account_is_refused(kube: KubeApiserver) -> None:
    """Tokens can be revoked while the server runs."""
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "reader", "namespace": "default"},
    }
    async with kube.client() as client:
        token = await client.token_of("default", "reader")
        async with kube.client(token) as reader:
            with pytest.raises(KubeRefusedError, match="403"):
                await reader.call("GET", "/api/v1/services")
        await client.delete(account)
    async with kube.client(token) as reader:
        with pytest.raises(KubeRefusedError, match=r"40[13]"):
            await reader.call("GET", "/api/v1/services")


async def test_a_restart_forgets_the_history_of_watches(
    make_kube: Make[KubeApiserver],
) -> None:
    """A watch that goes on from before is told 410, so that clients list again."""
    server = make_kube()
    await server.start()
    async with server.client() as client:
        await client.create_namespace("a")
        listing = await client.call("GET", "/api/v1/namespaces")
        await client.create_namespace("b")
        await client.create_namespace("c")
        await server.restart()
        version = listing["metadata"]["resourceVersion"]
        path = f"/api/v1/namespaces?watch=1&timeoutSeconds=2&resourceVersion={version}"
        event = await client.call("GET", path)
        assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
