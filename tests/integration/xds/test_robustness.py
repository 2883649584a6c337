"""One client's faults, slowness or disappearance are nobody else's, and leave nothing behind."""

import asyncio
import gc
import weakref
from collections.abc import Mapping
from typing import Any, Final

import grpc
import grpc.aio
import pytest
import structlog
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2

from aggregator.generators.spec import CLUSTER, ENDPOINT, ResourceType
from aggregator.model.service import ServiceKey
from aggregator.push.engine import PushSettings
from aggregator.xds.server import XdsServer
from tests.support.builders import endpoint, service
from tests.support.mesh import MemorySource, Mesh, make_engine, resource_types, running_mesh
from tests.support.poll import eventually
from tests.support.xds_client import XdsClient, connected, many_connected, node

VARIANTS: Final = pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])
HOST: Final = "reviews.shop.svc.cluster.local"
KEY: Final = ServiceKey("shop", HOST)
NARROW: Final = (("grpc.http2.bdp_probe", 0),)
"""Options of a client whose connection takes 64 kB without its reader, however fast it is."""
LARGE: Final = 1500
"""So many services are more than a connection takes without its reader."""


def small() -> MemorySource:
    """One service."""
    source = MemorySource()
    source.put_service(service(HOST), endpoint())
    return source


def large() -> MemorySource:
    """Half a megabyte of clusters."""
    source = small()
    for number in range(LARGE):
        source.put_service(service(f"s{number}.shop.svc.cluster.local"), endpoint())
    return source


async def is_served(client: XdsClient) -> bool:
    """Whether it gets its clusters."""
    return f"outbound|80||{HOST}" in (await client.get(CLUSTER)).names


def settled(mesh: Mesh) -> bool:
    """Whether nothing is left of any stream."""
    views = mesh.engine.views.values()
    return not mesh.server.streams and not any(view.subscribers for view in views)


# Clients that break the protocol


@VARIANTS
async def test_bytes_that_are_no_request_close_their_stream_alone(delta: bool) -> None:
    """Whoever wrote a client reads what was wrong; the others notice nothing."""
    async with (
        running_mesh(small()) as mesh,
        connected(mesh.address, delta=delta) as good,
        connected(mesh.address, delta=delta) as bad,
    ):
        assert await is_served(good)
        await bad.send_raw(b"\xff\xff\xff")
        error = await bad.closed()
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "not a discovery request" in str(error.details())
        await mesh.apply(mesh.source.put_service(service("new.example.com"), endpoint()))
        assert "outbound|80||new.example.com" in (await good.take(CLUSTER)).names


@VARIANTS
async def test_unknown_type_is_told_by_its_name(delta: bool) -> None:
    """A typo in a type URL would else be a client that waits for ever."""
    async with running_mesh(small()) as mesh, connected(mesh.address, delta=delta) as client:
        await client.send("type.googleapis.com/no.such.Type")
        error = await client.closed()
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "'type.googleapis.com/no.such.Type'" in str(error.details())


async def test_service_of_one_type_takes_no_other() -> None:
    """Endpoints are not to be had from the service of clusters."""
    async with running_mesh(small()) as mesh, connected(mesh.address, only=CLUSTER) as client:
        await client.send(ENDPOINT.type_url, [HOST])
        assert "CDS only" in str((await client.closed()).details())


@VARIANTS
async def test_first_request_without_a_node_is_refused(delta: bool) -> None:
    """Without it nobody can tell what the client is to get."""
    request = (
        discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER.type_url)
        if delta
        else discovery_pb2.DiscoveryRequest(type_url=CLUSTER.type_url)
    )
    async with running_mesh(small()) as mesh, connected(mesh.address, delta=delta) as client:
        await client.send_raw(request.SerializeToString())
        assert "must have a node" in str((await client.closed()).details())


# Clients that say strange things of themselves


@pytest.mark.parametrize(
    ("name", "metadata", "expected"),
    [
        (
            "sidecar~10.1.0.1~app-1.bank~bank.svc.cluster.local",
            {},
            {"namespace": "bank", "istio_id": True, "domain": "bank.svc.cluster.local"},
        ),
        (
            "router~10.1.0.1~gate.edge~edge.svc.cluster.local",
            {"NAMESPACE": "other"},
            {"namespace": "other", "kind": "router"},
        ),
        ("sidecar~10.1.0.1~app-1", {}, {"namespace": "default", "istio_id": False}),
        ("teapot~10.1.0.1~a.b~c", {}, {"namespace": "default", "istio_id": False}),
        ("sidecar~10.1.0.1~app-1~d", {}, {"namespace": "default", "istio_id": True}),
        ("~~~~", {}, {"namespace": "default", "istio_id": False}),
        ("", {}, {"namespace": "default", "istio_id": False}),
        (
            "vm",
            {
                "NAMESPACE": 7,
                "LABELS": ["a"],
                "CLUSTER_ID": {"a": "b"},
                "INSTANCE_IPS": None,
                "PROXY_CONFIG": {"drainDuration": "soon"},
            },
            {"namespace": "default", "labels": (), "cluster_id": "", "drain_seconds": 600.0},
        ),
        ("vm", {"LABELS": {"app": "x", "n": 7}}, {"labels": (("app", "x"),)}),
    ],
)
async def test_any_node_is_served(
    name: str, metadata: Mapping[str, Any], expected: Mapping[str, Any]
) -> None:
    """What is not understood of a node is ignored; no proxy is turned away for its label."""
    async with (
        running_mesh(small()) as mesh,
        connected(mesh.address, who=node(name, metadata=metadata)) as client,
    ):
        assert await is_served(client)
        (stream,) = mesh.server.streams
        assert stream.proxy is not None
        assert {field: getattr(stream.proxy, field) for field in expected} == expected


async def test_metadata_that_is_no_json_is_told() -> None:
    """A number that JSON does not have cannot be shown to anybody."""
    who = base_pb2.Node(id="vm")
    who.metadata.fields["weight"].number_value = float("nan")
    async with running_mesh(small()) as mesh, connected(mesh.address, who=who) as client:
        await client.subscribe(CLUSTER)
        error = await client.closed()
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "metadata" in str(error.details())


# Our own mistakes


async def test_mistake_of_ours_ends_one_stream_and_is_logged() -> None:
    """It must neither take the others along nor vanish."""
    without_order: Any = None
    broken = ResourceType("broken", "BROKEN", without_order)
    engine = make_engine(small())
    server = XdsServer(engine, {**resource_types(), "broken": broken})
    address = f"127.0.0.1:{await server.listen('127.0.0.1:0')}"
    with structlog.testing.capture_logs() as logs:
        async with connected(address) as good, connected(address) as bad:
            assert await is_served(good)
            assert await is_served(bad)
            await bad.send("broken")
            error = await bad.closed()
            assert error.code() is grpc.StatusCode.INTERNAL
            assert "NoneType" not in str(error.details()), "what is inside stays inside"
            assert (await good.get(ENDPOINT, f"outbound|80||{HOST}")).names
    await server.aclose(0)
    (event,) = [each for each in logs if each["event"] == "stream_failed"]
    assert event["log_level"] == "error"


# Clients that are slow or go away


@VARIANTS
async def test_client_that_stops_reading_delays_nobody_and_is_closed(delta: bool) -> None:
    """Its share of the bytes in flight goes to the others, and its stream ends in time."""
    bounds = PushSettings(write_timeout=2.0, in_flight=64 * 1024)
    async with (
        running_mesh(large(), settings=bounds) as mesh,
        connected(mesh.address, delta=delta, options=NARROW) as slow,
        connected(mesh.address, delta=delta, who=node("vm-2")) as quick,
    ):
        slow.pause()
        await slow.subscribe(CLUSTER)
        await eventually(lambda: mesh.server.budget.used)
        await quick.get(CLUSTER)
        await quick.get(ENDPOINT, f"outbound|80||{HOST}")
        await mesh.apply(mesh.source.put_endpoints(KEY, endpoint("10.0.0.77")))
        assert (await quick.next(ENDPOINT)).names == [f"outbound|80||{HOST}"]
        assert len(mesh.server.streams) == 2, "all this while the other one is stalled"
        await eventually(lambda: len(mesh.server.streams) == 1)
        slow.resume()
        error = await slow.closed()
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED, "told as soon as it can be"
        registry = mesh.engine.metrics.registry
        assert registry.get_sample_value("pilot_xds_write_timeout") == 1
    assert mesh.server.budget.used == 0


@VARIANTS
async def test_client_that_reads_again_in_time_catches_up(delta: bool) -> None:
    """What it missed comes as what differs now, not as all that happened."""
    async with (
        running_mesh(large()) as mesh,
        connected(mesh.address, delta=delta, options=NARROW) as slow,
    ):
        slow.pause()
        await slow.subscribe(CLUSTER)
        await eventually(lambda: mesh.server.budget.used)
        for number in range(20):
            made = service(f"new{number}.shop.svc.cluster.local")
            await mesh.apply(mesh.source.put_service(made, endpoint()))
        slow.resume()
        responses = 0
        while len(slow.has.get(CLUSTER.type_url, {})) < LARGE + 1 + 20 + 2:
            await slow.take(CLUSTER)
            responses += 1
        assert responses < 10
    assert mesh.server.budget.used == 0


@VARIANTS
async def test_clients_that_vanish_leave_nothing_behind(
    delta: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """A reset connection is no event that anybody has to read a traceback of."""
    with structlog.testing.capture_logs() as logs:
        async with running_mesh(large()) as mesh:
            async with many_connected(mesh.address, 60, delta=delta) as clients:
                for number, client in enumerate(clients):
                    if number % 3 == 0:
                        client.pause()
                    await client.subscribe(CLUSTER)
                    if number % 2:
                        client.cancel()
                await clients[0].is_quiet(0.1)
                for client in clients:
                    client.cancel()
            await eventually(lambda: settled(mesh))
            assert mesh.server.budget.used == 0
            async with connected(mesh.address, delta=delta) as other:
                assert await is_served(other)
    assert {each["event"] for each in logs} <= {"client_connected", "client_disconnected"}
    assert "Traceback" not in "".join(capfd.readouterr())


@VARIANTS
async def test_a_thousand_idle_streams_leave_nothing_behind(delta: bool) -> None:
    """Every proxy of a mesh may come and go over the life of a server."""
    async with running_mesh(small()) as mesh:
        with structlog.testing.capture_logs():
            async with connected(mesh.address, delta=delta) as first:
                assert await is_served(first)
            await eventually(lambda: settled(mesh))
            tasks = len(asyncio.all_tasks())
            async with many_connected(mesh.address, 1000, delta=delta) as clients:
                served = await asyncio.gather(*(is_served(client) for client in clients))
                assert all(served)
                assert len(mesh.server.streams) == 1000
                assert len(mesh.engine.views) == 1
            await eventually(lambda: settled(mesh))
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks)
        assert mesh.server.budget.used == 0
        (view,) = mesh.engine.views.values()
        assert view.idle_since is not None


@VARIANTS
async def test_a_stream_that_ended_is_freed_without_the_collector(delta: bool) -> None:
    """What lasts is never looked at again, so a stream in a circle would stay for ever."""
    gc.collect()
    gc.disable()
    try:
        async with running_mesh(small()) as mesh:
            async with connected(mesh.address, delta=delta) as client:
                assert await is_served(client)
                (stream,) = mesh.server.streams
                alive = weakref.ref(stream)
                del stream
            await eventually(lambda: alive() is None)
    finally:
        gc.enable()
