"""An API server that dies, forgets, hangs or refuses takes away only what it deleted."""

import asyncio

import pytest

from adapters.kubernetes.reflector import Pace
from aggregator.registry.status import RegistryState
from tests.support.fault_proxy import FaultProxy, Hang, Pass, Refuse
from tests.support.kube_follower import following_kube, fresh_namespace, pod
from tests.support.poll import eventually
from tests.support.servers.etcd import EtcdServer
from tests.support.servers.fixture import Make
from tests.support.servers.kube_apiserver import (
    KubeApiserver,
    KubeClient,
    endpoint_slice,
    service,
)

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]
HTTP = {"http": 80}
PATIENT = Pace(patience=60.0, poll=0.3, longest=0.5)
"""One run of the adapter sees the whole test through."""

QUICK = Pace(patience=0.5, poll=0.3, probe=1.0, longest=0.5)


async def serve(client: KubeClient, shop: str, name: str, *addresses: str) -> None:
    """Have a service with these endpoints."""
    await client.apply(service(name, shop, HTTP), endpoint_slice(name, shop, HTTP, addresses))


async def remove(client: KubeClient, shop: str, name: str) -> None:
    """Delete a service with its slice, as a cluster with controllers would."""
    await client.delete(service(name, shop, {}), endpoint_slice(name, shop, {}, []))


async def test_everything_stays_while_the_server_is_away(make_kube: Make[KubeApiserver]) -> None:
    """And what happened as soon as it was back, deletions too, arrives."""
    server = make_kube()
    await server.start()
    shop = fresh_namespace()
    async with server.client() as client, following_kube(server, pace=QUICK) as follower:
        await client.create_namespace(shop)
        for name in "abc":
            await serve(client, shop, name, "10.1.0.1")
            await follower.has(name, shop, "10.1.0.1")
        server.kill()
        await eventually(lambda: follower.status.state is RegistryState.DEGRADED)
        assert server.url in follower.status.last_error
        assert all(follower.addresses(name, shop) == ["10.1.0.1"] for name in "abc")
        follower.changes.clear()

        await server.start()
        await remove(client, shop, "a")
        await serve(client, shop, "b", "10.1.0.2")
        await follower.has("b", shop, "10.1.0.2", seconds=20)
        await eventually(lambda: follower.service("a", shop) is None)
        await eventually(lambda: follower.status.state is RegistryState.SYNCED)
        assert follower.addresses("c", shop) == ["10.1.0.1"]
        touched = {str(each) for each in follower.changes}
        assert not any(f"c.{shop}" in each for each in touched), "what is as before is no change"


async def test_a_short_cut_goes_on_where_it_was(kube: KubeApiserver) -> None:
    """Nothing is listed again; what happened meanwhile is in the history."""
    shop = fresh_namespace()
    async with kube.client() as client, FaultProxy(kube.port) as proxy:
        await client.create_namespace(shop)
        await serve(client, shop, "a", "10.1.0.1")
        kubeconfig = await asyncio.to_thread(kube.kubeconfig, url=f"https://{proxy.address}")
        async with following_kube(kubeconfig, pace=PATIENT) as follower:
            listed = proxy.bytes_down
            await proxy.set(Refuse())
            await remove(client, shop, "a")
            await serve(client, shop, "b", "10.1.0.2")
            assert follower.addresses("a", shop) == ["10.1.0.1"]
            await proxy.set(Pass())
            await follower.has("b", shop, "10.1.0.2")
            await eventually(lambda: follower.service("a", shop) is None)
            assert follower.status.reconnects == 0
            assert proxy.bytes_down - listed < listed


async def test_a_watch_whose_history_is_gone_lists_again(make_kube: Make[KubeApiserver]) -> None:
    """410 after a restart of the server: what was deleted meanwhile is gone, the rest untouched."""
    server = make_kube()
    await server.start()
    shop = fresh_namespace()
    async with server.client() as client, FaultProxy(server.port) as proxy:
        await client.create_namespace(shop)
        for name in "abc":
            await serve(client, shop, name, "10.1.0.1")
        await client.apply(pod("one", shop, ["10.1.0.1"], labels={"app": "one"}))
        kubeconfig = await asyncio.to_thread(server.kubeconfig, url=f"https://{proxy.address}")
        async with following_kube(kubeconfig, pace=PATIENT) as follower:
            assert follower.endpoints("a", shop)[0].labels == (("app", "one"),)
            await proxy.set(Refuse())
            await remove(client, shop, "a")
            await serve(client, shop, "b", "10.1.0.2")
            await client.delete(pod("one", shop, [""]))
            await server.restart()
            follower.changes.clear()
            await proxy.set(Pass())
            await follower.has("b", shop, "10.1.0.2")
            await eventually(lambda: follower.service("a", shop) is None)
            await eventually(lambda: follower.endpoints("c", shop)[0].labels == ())
            assert follower.status.reconnects == 0, "one run saw it through"


async def test_a_compacted_history_is_listed_again(
    make_etcd: Make[EtcdServer], make_kube: Make[KubeApiserver]
) -> None:
    """Without its cache the server asks etcd, which has forgotten."""
    etcd = make_etcd()
    await etcd.start()
    server = make_kube(etcd=etcd, arguments=["--watch-cache=false"])
    await server.start()
    shop = fresh_namespace()
    async with (
        server.client() as client,
        etcd.client() as store,
        FaultProxy(server.port) as proxy,
    ):
        await client.create_namespace(shop)
        await serve(client, shop, "a", "10.1.0.1")
        await serve(client, shop, "b", "10.1.0.1")
        kubeconfig = await asyncio.to_thread(server.kubeconfig, url=f"https://{proxy.address}")
        async with following_kube(kubeconfig, pace=PATIENT) as follower:
            await proxy.set(Refuse())
            await remove(client, shop, "a")
            await serve(client, shop, "b", "10.1.0.2")
            await store.compact(await store.put("/other", "x"))
            await proxy.set(Pass())
            await follower.has("b", shop, "10.1.0.2")
            await eventually(lambda: follower.service("a", shop) is None)
            assert follower.status.reconnects == 0


async def test_a_server_that_hangs_is_noticed(kube: KubeApiserver) -> None:
    """Connections stay open and nothing comes: endpoints stay, and the status tells."""
    shop = fresh_namespace()
    async with kube.client() as client, FaultProxy(kube.port) as proxy:
        await client.create_namespace(shop)
        await serve(client, shop, "a", "10.1.0.1")
        kubeconfig = await asyncio.to_thread(kube.kubeconfig, url=f"https://{proxy.address}")
        async with following_kube(kubeconfig, pace=QUICK) as follower:
            await proxy.set(Hang())
            await serve(client, shop, "a", "10.1.0.2")
            await eventually(
                lambda: follower.status.state is RegistryState.DEGRADED, seconds=40, every=0.1
            )
            assert "does not answer" in follower.status.last_error
            assert follower.addresses("a", shop) == ["10.1.0.1"]
            await proxy.set(Pass())
            await follower.has("a", shop, "10.1.0.2", seconds=20)


async def test_a_server_that_lists_almost_nothing_is_not_believed_at_once(
    make_etcd: Make[EtcdServer], make_kube: Make[KubeApiserver]
) -> None:
    """An etcd that was set back to an empty state is no reason to lose the mesh."""
    etcd = make_etcd()
    await etcd.start()
    server = make_kube(etcd=etcd)
    await server.start()
    shop = fresh_namespace()
    addresses = [f"10.1.1.{number}" for number in range(1, 41)]
    async with server.client() as client:
        await client.create_namespace(shop)
        await serve(client, shop, "a", *addresses)
        async with following_kube(server, pace=QUICK) as follower:
            await follower.has("a", shop, *addresses)
            server.kill()
            etcd.kill()
            etcd.wipe()
            await etcd.start()
            await server.start()
            await eventually(lambda: follower.status, lambda found: found.held, seconds=20)
            assert len(follower.addresses("a", shop)) == 40
