"""Make, warm, switch, drain, break: what goes first, what waits for what, and for how long."""

import asyncio
from collections.abc import Iterable
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
from aggregator.model.change import Change
from aggregator.model.config import Config
from aggregator.model.service import ServiceKey
from aggregator.push.engine import PushSettings
from config.kinds.destination_rule import DestinationRule
from config.kinds.virtual_service import VirtualService
from config.mesh import MeshConfig
from tests.support.builders import endpoint, port, rule, service
from tests.support.mesh import MemorySource, Mesh, running_mesh
from tests.support.xds_client import Response, XdsClient, connected, node

VARIANTS: Final = pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])
HOSTS: Final = ("old.shop.svc.cluster.local", "other.shop.svc.cluster.local")
NEW: Final = "new.shop.svc.cluster.local"
QUICK: Final = PushSettings(warm_wait=0.4, separate_wait=0.4)
PATIENT: Final = PushSettings(warm_wait=60, separate_wait=60)


def name(host: str) -> str:
    """A service's cluster."""
    return f"outbound|80||{host}"


def source() -> MemorySource:
    """Two services on one port."""
    made = MemorySource()
    for number, host in enumerate(HOSTS):
        made.put_service(service(host, port(80)), endpoint(f"10.0.0.{number}"))
    return made


def lead(made: MemorySource, host: str, to: str, **more: object) -> Change:
    """Send the requests for one host to another."""
    route = {"route": [{"destination": {"host": to}}], **more}
    return made.put_config(
        rule(VirtualService, {"hosts": [host], "http": [route]}, name=host.partition(".")[0])
    )


def encrypt(made: MemorySource, host: str) -> Change:
    """Change what is in a cluster."""
    spec = {"host": host, "trafficPolicy": {"tls": {"mode": "SIMPLE"}}}
    return made.put_config(rule(DestinationRule, spec))


def switch(mesh: Mesh) -> Iterable[Change]:
    """A new service takes over from an old one; another rule changes too."""
    made = mesh.source
    return (
        made.put_service(service(NEW, port(80)), endpoint("10.0.0.9")),
        lead(made, HOSTS[0], NEW),
        lead(made, HOSTS[1], HOSTS[1], timeout="7s"),
    )


async def boot(client: XdsClient) -> None:
    """Everything, virtual hosts too where they come apart."""
    await client.boot()
    if client.delta:
        await client.get(VIRTUAL_HOST)


def leads_to(response: Response, host: str) -> bool:
    """Whether some route of a response sends to a host."""
    return any(name(host).encode() in body for body in response.resources.values())


@VARIANTS
async def test_types_come_in_the_order_of_make_before_break(delta: bool) -> None:
    """Clusters and their endpoints before what uses them, in whatever order they were changed."""
    async with running_mesh(source()) as mesh, connected(mesh.address, delta=delta) as client:
        await boot(client)
        mesh.engine.set_mesh(MeshConfig(access_log_file="/dev/stdout"))
        await mesh.apply(lead(mesh.source, HOSTS[0], HOSTS[1]), encrypt(mesh.source, HOSTS[0]))
        seen = [_short(await client.receive()) for _ in range(4)]
        assert seen == ["CDS", "EDS", "LDS", "VHDS" if delta else "RDS"]


def _short(response: Response) -> str:
    types = (CLUSTER, ENDPOINT, LISTENER, ROUTE, VIRTUAL_HOST)
    return next(each.short for each in types if each.type_url == response.type_url)


async def test_only_routes_to_the_new_cluster_wait_for_it() -> None:
    """A cluster that takes minutes to get warm must not hold back the rest of the push."""
    async with (
        running_mesh(source(), settings=PATIENT) as mesh,
        connected(mesh.address) as client,
    ):
        await boot(client)
        await mesh.apply(*switch(mesh))
        clusters = await client.next(CLUSTER)
        assert clusters.names == [name(NEW)]
        first = await client.take(VIRTUAL_HOST)
        assert first.names == [f"80/{HOSTS[1]}:80"]
        assert await client.is_quiet()
        await client.ack(clusters)
        second = await client.take(VIRTUAL_HOST)
        assert second.names == [f"80/{NEW}:80", f"80/{HOSTS[0]}:80"]
        assert leads_to(second, NEW)


@VARIANTS
async def test_routes_wait_no_longer_than_the_bound(delta: bool) -> None:
    """A cluster that is never warm must not hold its routes for ever; the stream stays open."""
    kind = VIRTUAL_HOST if delta else ROUTE
    async with (
        running_mesh(source(), settings=QUICK) as mesh,
        connected(mesh.address, delta=delta) as client,
    ):
        await boot(client)
        await mesh.apply(*switch(mesh))
        clusters = await client.next(CLUSTER)
        routes = await client.take(kind)
        if delta:
            assert not leads_to(routes, NEW)
            routes = await client.take(kind)
        assert leads_to(routes, NEW)
        await client.ack(clusters)
        assert await client.is_quiet()


@VARIANTS
async def test_answer_lets_routes_go_before_the_bound(delta: bool) -> None:
    """The acknowledgement of clusters is what says that they are warm."""
    kind = VIRTUAL_HOST if delta else ROUTE
    async with (
        running_mesh(source(), settings=PATIENT) as mesh,
        connected(mesh.address, delta=delta) as client,
    ):
        await boot(client)
        await mesh.apply(*switch(mesh))
        await client.take(CLUSTER)
        while not leads_to(await client.take(kind), NEW):
            pass


@VARIANTS
async def test_cluster_is_removed_after_the_routes_are_switched(delta: bool) -> None:
    """Removed first, it would answer 503 to all requests in between."""
    kind = VIRTUAL_HOST if delta else ROUTE
    who = node(metadata={"NAMESPACE": "shop", "PROXY_CONFIG": {"drainDuration": "0s"}})
    async with (
        running_mesh(source(), settings=PATIENT) as mesh,
        connected(mesh.address, delta=delta, who=who) as client,
    ):
        await boot(client)
        await mesh.apply(lead(mesh.source, "www.example.com", HOSTS[0]))
        await client.take(kind)
        key = ServiceKey("shop", HOSTS[0])
        gone = mesh.source.remove_service(key)
        await mesh.apply(gone, lead(mesh.source, "www.example.com", HOSTS[1]))
        switched = await client.next(kind)
        assert await client.is_quiet(), "the switch is not acknowledged yet"
        await client.ack(switched)
        await client.take(CLUSTER)
        assert name(HOSTS[0]) not in client.has[CLUSTER.type_url]


@pytest.mark.parametrize(
    ("kind", "names"), [(ROUTE, ("80",)), (LISTENER, ())], ids=["routes", "listeners"]
)
async def test_separate_streams_are_ordered_by_delay(
    kind: ResourceType, names: tuple[str, ...]
) -> None:
    """Without a common stream nothing tells that the clusters are there: time must do."""
    made = source()
    made.put_service(service("tcp.shop.svc.cluster.local", port(9000, "TCP")), endpoint())
    made.put_config(_tcp("tcp.shop.svc.cluster.local"))
    async with (
        running_mesh(made, settings=QUICK) as mesh,
        connected(mesh.address, only=CLUSTER) as clusters,
        connected(mesh.address, only=kind) as users,
    ):
        await clusters.get(CLUSTER)
        await users.get(kind, *names)
        await mesh.apply(
            made.put_service(service(NEW, port(80), port(9000, "TCP")), endpoint("10.0.0.9")),
            lead(made, HOSTS[0], NEW),
            made.put_config(_tcp(NEW)),
        )
        early = asyncio.create_task(users.take(kind))
        assert name(NEW) in (await clusters.take(CLUSTER)).names
        assert not early.done()
        response = await early
        assert any(NEW.encode() in body for body in response.resources.values())


def _tcp(to: str) -> Config:
    spec = {
        "hosts": ["tcp.shop.svc.cluster.local"],
        "tcp": [{"route": [{"destination": {"host": to, "port": {"number": 9000}}}]}],
    }
    return rule(VirtualService, spec, name="tcp")


async def test_separate_stream_removes_clusters_after_the_drain() -> None:
    """What uses them is on streams that this one knows nothing of."""
    who = node(metadata={"NAMESPACE": "shop", "PROXY_CONFIG": {"drainDuration": "0.4s"}})
    async with (
        running_mesh(source(), settings=QUICK) as mesh,
        connected(mesh.address, only=CLUSTER, who=who) as clusters,
        connected(mesh.address, only=ENDPOINT, who=who) as endpoints,
    ):
        await clusters.get(CLUSTER)
        await endpoints.get(ENDPOINT, name(HOSTS[0]))
        await mesh.apply(mesh.source.remove_service(ServiceKey("shop", HOSTS[0])))
        assert await clusters.is_quiet()
        assert (await clusters.take(CLUSTER)).removed == (name(HOSTS[0]),)
        assert await endpoints.is_quiet(), "what it has stays, for requests that are under way"


@VARIANTS
async def test_changed_cluster_takes_its_endpoints_along(delta: bool) -> None:
    """It warms anew, and waits for them though they are the same."""
    async with running_mesh(source()) as mesh, connected(mesh.address, delta=delta) as client:
        await boot(client)
        await mesh.apply(encrypt(mesh.source, HOSTS[0]))
        await client.take(CLUSTER)
        assert name(HOSTS[0]) in (await client.take(ENDPOINT)).names
