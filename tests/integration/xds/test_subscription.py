"""Who asks for what gets just that, on ADS and on services of single types, in both variants."""

from typing import Final

import pytest

from aggregator.generators.spec import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    VIRTUAL_HOST,
    ResourceType,
)
from aggregator.model.service import ServiceKey
from tests.support.builders import endpoint, port, service
from tests.support.mesh import MemorySource, Mesh, running_mesh
from tests.support.poll import eventually
from tests.support.xds_client import XdsClient, connected, node

VARIANTS: Final = pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])
HOSTS: Final = tuple(f"s{number}.shop.svc.cluster.local" for number in range(3))
NAMES: Final = tuple(f"outbound|80||{host}" for host in HOSTS)
FIXED: Final = {"BlackHoleCluster", "PassthroughCluster"}


def source() -> MemorySource:
    """Three services on one port."""
    made = MemorySource()
    for number, host in enumerate(HOSTS):
        made.put_service(service(host, port(80)), endpoint(f"10.0.0.{number}"))
    return made


async def change_endpoints(mesh: Mesh, number: int, address: str) -> None:
    """Move the only endpoint of a service."""
    key = ServiceKey("shop", HOSTS[number])
    await mesh.apply(mesh.source.put_endpoints(key, endpoint(address)))


async def change_cluster(mesh: Mesh, number: int, san: str) -> None:
    """Change what is in a service's cluster."""
    made = service(HOSTS[number], port(80), resolution="DNS", subject_alt_names=[san])
    await mesh.apply(mesh.source.put_service(made, endpoint(f"10.0.0.{number}")))


async def heard(mesh: Mesh, kind: ResourceType, *names: str, wildcard: bool = False) -> None:
    """Wait until the server knows that the one client wants just this."""
    (stream,) = mesh.server.streams
    subscription = stream.session.subscriptions[kind.type_url]
    wanted = (wildcard, frozenset(names))
    await eventually(lambda: (subscription.wildcard, subscription.names) == wanted)


@VARIANTS
async def test_envoy_boots_on_ads(delta: bool) -> None:
    """Clusters, their endpoints, listeners and their routes, one after the other on one stream."""
    async with running_mesh(source()) as mesh, connected(mesh.address, delta=delta) as client:
        await client.boot()
        assert client.has[CLUSTER.type_url].keys() == {*NAMES, *FIXED}
        assert client.has[ENDPOINT.type_url].keys() == set(NAMES)
        assert client.has[LISTENER.type_url].keys() == {"127.0.0.1_80"}
        assert client.has[ROUTE.type_url].keys() == {"80"}
        assert await client.is_quiet()


@VARIANTS
async def test_change_of_endpoints_sends_endpoints_alone(delta: bool) -> None:
    """The commonest change costs one assignment."""
    async with running_mesh(source()) as mesh, connected(mesh.address, delta=delta) as client:
        await client.boot()
        await change_endpoints(mesh, 1, "10.0.0.99")
        response = await client.receive()
        assert response.type_url == ENDPOINT.type_url
        assert response.names == [NAMES[1]]
        await client.ack(response)
        assert await client.is_quiet()


@VARIANTS
@pytest.mark.parametrize("kind", [CLUSTER, ENDPOINT, LISTENER, ROUTE], ids=lambda kind: kind.short)
async def test_service_of_one_type_needs_no_type_url(kind: ResourceType, delta: bool) -> None:
    """The method says which type it is."""
    names = {ENDPOINT: (NAMES[0],), ROUTE: ("80",)}.get(kind, ())
    async with (
        running_mesh(source()) as mesh,
        connected(mesh.address, delta=delta, only=kind) as client,
    ):
        await client.send("", names)
        response = await client.receive()
        assert response.type_url == kind.type_url
        assert set(response.names) >= set(names)
        assert response.names
        await client.send("", () if delta else names, nonce=response.nonce)
        assert await client.is_quiet()


async def test_virtual_hosts_have_a_service_of_their_own() -> None:
    """What is on one stream whole is not on another in parts: there is nothing to be had there."""
    async with (
        running_mesh(source()) as mesh,
        connected(mesh.address, only=VIRTUAL_HOST) as client,
    ):
        await client.subscribe(VIRTUAL_HOST, f"80/{HOSTS[0]}:80")
        assert (await client.receive()).removed == (f"80/{HOSTS[0]}:80",)


@VARIANTS
async def test_named_subscription_gets_these_and_their_changes_only(delta: bool) -> None:
    """gRPC's clients ask for the few resources that they use."""
    async with running_mesh(source()) as mesh, connected(mesh.address, delta=delta) as client:
        assert (await client.get(CLUSTER, NAMES[0])).names == [NAMES[0]]
        await change_cluster(mesh, 1, "b.example.com")
        assert await client.is_quiet()
        await change_cluster(mesh, 0, "a.example.com")
        assert (await client.take(CLUSTER)).names == [NAMES[0]]
        assert set((await client.get(CLUSTER, NAMES[1])).names) >= {NAMES[1]}


@VARIANTS
async def test_unsubscribed_name_is_not_sent_any_more(delta: bool) -> None:
    """What a client gave up costs nothing, and comes back when it is asked for again."""
    async with running_mesh(source()) as mesh, connected(mesh.address, delta=delta) as client:
        await client.get(ENDPOINT, NAMES[0], NAMES[1])
        await client.unsubscribe(ENDPOINT, NAMES[0])
        await heard(mesh, ENDPOINT, NAMES[1])
        await change_endpoints(mesh, 0, "10.0.0.50")
        assert await client.is_quiet()
        await change_endpoints(mesh, 1, "10.0.0.51")
        assert (await client.take(ENDPOINT)).names == [NAMES[1]]
        assert NAMES[0] in (await client.get(ENDPOINT, NAMES[0])).names


@VARIANTS
async def test_star_is_the_wildcard_beside_names(delta: bool) -> None:
    """Names can be given up while everything is still wanted, and everything while names are."""
    async with running_mesh(source()) as mesh, connected(mesh.address, delta=delta) as client:
        first = await client.get(CLUSTER, "*", NAMES[0])
        assert set(first.names) == {*NAMES, *FIXED}
        await client.unsubscribe(CLUSTER, "*")
        await heard(mesh, CLUSTER, NAMES[0])
        await change_cluster(mesh, 1, "b.example.com")
        assert await client.is_quiet()
        await change_cluster(mesh, 0, "a.example.com")
        assert (await client.take(CLUSTER)).names == [NAMES[0]]
        await client.unsubscribe(CLUSTER, NAMES[0])
        await heard(mesh, CLUSTER)
        await change_cluster(mesh, 0, "c.example.com")
        assert await client.is_quiet(), "no names any more is no wildcard"


async def test_name_given_up_beside_the_wildcard_is_told() -> None:
    """The client cannot know whether the wildcard has it."""
    async with running_mesh(source()) as mesh, connected(mesh.address) as client:
        await client.get(CLUSTER, "*", NAMES[0], "no such")
        await client.unsubscribe(CLUSTER, NAMES[0], "no such")
        response = await client.take(CLUSTER)
        assert response.names == [NAMES[0]]
        assert response.removed == ("no such",)


async def test_names_added_to_an_implicit_wildcard_leave_it() -> None:
    """On delta no names at first means everything, until that is given up by name."""
    async with running_mesh(source()) as mesh, connected(mesh.address) as client:
        await client.get(CLUSTER)
        assert (await client.get(CLUSTER, NAMES[0])).names == [NAMES[0]], "asked is answered"
        await change_cluster(mesh, 1, "b.example.com")
        assert (await client.take(CLUSTER)).names == [NAMES[1]]
        await client.unsubscribe(CLUSTER, "*")
        await heard(mesh, CLUSTER, NAMES[0])
        await change_cluster(mesh, 1, "c.example.com")
        assert await client.is_quiet()


async def test_missing_name_is_removed_on_delta_and_comes_when_it_exists() -> None:
    """A client that asked must not wait for ever, nor have to ask again."""
    name = "outbound|80||new.shop.svc.cluster.local"
    async with running_mesh(source()) as mesh, connected(mesh.address) as client:
        assert (await client.get(CLUSTER, name)).removed == (name,)
        made = service("new.shop.svc.cluster.local", port(80))
        await mesh.apply(mesh.source.put_service(made, endpoint()))
        assert (await client.take(CLUSTER)).names == [name]


@VARIANTS
async def test_missing_assignment_is_answered_empty(delta: bool) -> None:
    """Left out, the cluster that waits for it would never be warm."""
    async with running_mesh(source()) as mesh, connected(mesh.address, delta=delta) as client:
        assert (await client.get(ENDPOINT, "outbound|1||no.such")).names == ["outbound|1||no.such"]


@VARIANTS
async def test_removed_service_is_removed(delta: bool) -> None:
    """What is gone is not left in a client that can be told."""
    async with running_mesh(source()) as mesh, connected(mesh.address, delta=delta) as client:
        await client.get(CLUSTER)
        await mesh.apply(mesh.source.remove_service(ServiceKey("shop", HOSTS[2])))
        await client.take(CLUSTER)
        assert client.has[CLUSTER.type_url].keys() == {*NAMES[:2], *FIXED}


@VARIANTS
async def test_late_answer_is_counted_and_changes_nothing(delta: bool) -> None:
    """A nonce that is not the newest one answers a question of yesterday."""
    async with running_mesh(source()) as mesh, connected(mesh.address, delta=delta) as client:
        first = await client.get(CLUSTER)
        await change_cluster(mesh, 0, "a.example.com")
        second = await client.take(CLUSTER)
        assert first.nonce != second.nonce
        await client.send(CLUSTER.type_url, nonce="no such nonce")
        await client.send(CLUSTER.type_url, nonce=first.nonce, error="too late")
        assert await client.is_quiet()
        registry = mesh.engine.metrics.registry
        assert registry.get_sample_value("pilot_xds_expired_nonce", {"type": CLUSTER.label}) == 2
        subscription = next(iter(mesh.server.streams)).session.subscriptions[CLUSTER.type_url]
        assert not subscription.unacknowledged
        assert subscription.nacks == 0


async def test_late_request_of_the_world_asks_for_nothing() -> None:
    """On state of the world it will say so again with the newest nonce; sending twice is waste."""
    async with running_mesh(source()) as mesh, connected(mesh.address, delta=False) as client:
        await client.get(ENDPOINT, NAMES[0])
        await change_endpoints(mesh, 0, "10.0.0.60")
        response = await client.receive()
        await client.send(ENDPOINT.type_url, NAMES[:2], nonce="older")
        assert await client.is_quiet()
        await client.send(ENDPOINT.type_url, NAMES[:2], nonce=response.nonce)
        assert (await client.receive()).names == [NAMES[1]]


async def boot_with(client: XdsClient) -> bool:
    """Boot; returns whether the route table has its virtual hosts in it."""
    await client.boot()
    return HOSTS[0].encode() in client.has[ROUTE.type_url]["80"]


async def test_virtual_hosts_come_one_by_one_to_envoys_on_delta_only() -> None:
    """Others get them inside their route tables."""
    async with running_mesh(source()) as mesh:
        async with connected(mesh.address) as envoy:
            assert not await boot_with(envoy)
            assert f"80/{HOSTS[0]}:80" in (await envoy.get(VIRTUAL_HOST)).names
        async with connected(mesh.address, who=node(user_agent="other")) as other:
            assert await boot_with(other)
        async with connected(mesh.address, delta=False) as sotw:
            assert await boot_with(sotw)
        async with connected(mesh.address, only=ROUTE) as routes:
            assert HOSTS[0].encode() in (await routes.get(ROUTE, "80")).resources["80"]


async def test_new_service_adds_one_virtual_host() -> None:
    """Not a route table of the whole mesh."""
    host = "new.shop.svc.cluster.local"
    async with running_mesh(source()) as mesh, connected(mesh.address) as client:
        await client.boot()
        await client.get(VIRTUAL_HOST)
        await mesh.apply(mesh.source.put_service(service(host, port(80)), endpoint()))
        await client.take(CLUSTER)
        response = await client.take(VIRTUAL_HOST)
        assert response.names == [f"80/{host}:80"]
        assert await client.is_quiet()
