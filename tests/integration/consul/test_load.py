"""Many services and changes of a Consul. The times are printed; `-s` shows them."""

import asyncio
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from aggregator.generators.spec import CLUSTER, ENDPOINT
from tests.support.daemon_process import serving
from tests.support.fault_proxy import FaultProxy
from tests.support.poll import eventually
from tests.support.servers.consul import ConsulClient, ConsulServer
from tests.support.xds_client import Response, XdsClient, connected, many_connected

pytestmark = [pytest.mark.servers, pytest.mark.slow]
SERVICES: Final = 5_000
INSTANCES: Final = 2
STREAMS: Final = 100
ROUNDS: Final = 30
LARGEST_MB: Final = 300
MOST_CONNECTIONS: Final = 190
AT_ONCE: Final = 64
"""Operations in one transaction, at most."""


def show(figures: str) -> None:
    """For whoever looks; the machine decides too much of it to be judged."""
    print(f"\n{figures}")  # noqa: T201


async def test_a_watched_change_reaches_a_hundred_streams(
    consul: ConsulServer, api: ConsulClient, prefix: str, tmp_path: Path
) -> None:
    """From the moment Consul tells whoever watches to the last stream."""
    name = f"{prefix}-web"
    cluster = f"outbound|80||{name}.service.dc1.consul"
    await api.register(name, "1", "10.0.0.1", 80)
    file = tmp_path / "mesh.yaml"
    settings = f"address: '{consul.address}', services: ['{prefix}-*'], namespace: shop"
    file.write_text(f"registries: [{{name: dc1, type: consul, {settings}}}]\n")
    times: list[float] = []
    async with serving("-c", str(file)) as daemon, AsyncExitStack() as stack:
        await daemon.ready()
        streams = await stack.enter_async_context(many_connected(daemon.grpc, STREAMS, delta=True))
        for stream in streams:
            await stream.get(CLUSTER)
            await stream.get(ENDPOINT, cluster)
        for number in range(ROUNDS):
            waiting = [asyncio.create_task(_arrival(stream)) for stream in streams]
            told = asyncio.create_task(_told(consul, name))
            await asyncio.sleep(0.3)  # Until the watches are open again, which nobody tells.
            await api.register(name, "1", f"10.0.1.{number}", 80)
            began = await told
            arrivals = await asyncio.gather(*waiting)
            times += (at - began for at, _ in arrivals)
            for stream, (_, response) in zip(streams, arrivals, strict=True):
                await stream.ack(response)
    times.sort()
    show(
        f"a watched change to {STREAMS} streams: p50 {statistics.median(times) * 1e3:.1f} ms, "
        f"p99 {times[len(times) * 99 // 100] * 1e3:.1f} ms, worst {times[-1] * 1e3:.1f} ms"
    )


async def _arrival(stream: XdsClient) -> tuple[float, Response]:
    response = await stream.next(ENDPOINT)
    return time.perf_counter(), response


async def _told(consul: ConsulServer, name: str) -> float:
    """When Consul tells another watcher of a change."""
    async with consul.client() as watcher:
        (entry,) = await watcher.call("GET", f"health/service/{name}")
        index = max(check["ModifyIndex"] for check in entry["Checks"])
        index = max(index, entry["Service"]["ModifyIndex"])
        await watcher.call("GET", f"health/service/{name}?index={index}&wait=10s")
        return time.perf_counter()


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulServer]:
    """A server with thousands of services."""
    server = ConsulServer(tmp_path_factory.mktemp("crowded"))
    server.start_now()
    asyncio.run(_crowd(server))
    yield server
    server.kill()


async def _crowd(server: ConsulServer) -> None:
    async with server.client() as api:
        for node in range(50):
            await api.add_node(f"n{node}", f"10.9.0.{node}")
        operations = [
            each
            for number in range(SERVICES)
            for copy in range(INSTANCES)
            for each in _operations(number, copy)
        ]
        for start in range(0, len(operations), AT_ONCE):
            part = operations[start : start + AT_ONCE]
            await api.call("PUT", "txn", json.dumps(part).encode())


def _operations(number: int, copy: int) -> list[dict[str, Any]]:
    node, instance = f"n{(number + copy) % 50}", f"s{number}-{copy}"
    service = {
        "Service": f"s{number}",
        "ID": instance,
        "Address": f"10.{copy}.{number >> 8}.{number & 255}",
        "Port": 80,
        "Tags": ["version=v1", "prod"],
        "Meta": {"team": f"team-{number % 30}", "protocol": "http"},
    }
    check = {
        "Node": node,
        "CheckID": f"check-{instance}",
        "Name": "check",
        "Status": "passing",
        "ServiceID": instance,
    }
    return [
        {"Service": {"Verb": "set", "Node": node, "Service": service}},
        {"Check": {"Verb": "set", "Check": check}},
    ]


async def test_thousands_of_services_need_little_memory_and_few_connections(
    crowded: ConsulServer, tmp_path: Path
) -> None:
    """Most of them are swept, and what changes is found within seconds."""
    async with FaultProxy(crowded.port) as proxy, crowded.client() as api:
        file = tmp_path / "mesh.yaml"
        registry = (
            f"{{name: dc1, type: consul, address: '127.0.0.1:{proxy.port}', namespace: shop}}"
        )
        file.write_text(f"registries: [{registry}]\n")
        began = time.perf_counter()
        async with serving("-c", str(file)) as daemon:
            await eventually(lambda: daemon.logged("registry_synced"), seconds=60)
            synced = time.perf_counter() - began
            most = proxy.open
            async with connected(daemon.grpc) as stream:
                found: dict[str, list[float]] = {"health": [], "address": [], "new": []}
                # An address without a check of its own shows only when its turn comes.
                for number, what in enumerate(("health", "new") * 4 + ("address",), 4000):
                    found[what].append(await _until(stream, api, number, what))
                    most = max(most, proxy.open)
            memory = _resident_mb(daemon.process.pid)
        show(
            f"{SERVICES} services of {INSTANCES} instances: in sync after {synced:.1f} s, "
            f"{memory:.0f} MB, {most} connections; from the write of a swept one: "
            + ", ".join(
                f"{what} {statistics.median(times):.2f} s (worst {max(times):.2f})"
                for what, times in found.items()
            )
        )
        assert memory <= LARGEST_MB
        assert most <= MOST_CONNECTIONS


async def _until(stream: XdsClient, api: ConsulClient, number: int, what: str) -> float:
    """Seconds from the write of a change to the stream."""
    cluster = f"outbound|80||s{number}.service.dc1.consul"
    before = (await stream.get(ENDPOINT, cluster)).resources[cluster]
    service, check = _operations(number, 0)
    operations = [service]
    match what:
        case "health":
            check["Check"]["Check"]["Status"] = "critical"
            operations = [check]
        case "address":
            service["Service"]["Service"]["Address"] = "10.7.7.7"
        case _:
            operations = _operations(number, 0)
            operations[0]["Service"]["Service"] |= {"ID": "new", "Address": "10.8.8.8"}
            operations[1]["Check"]["Check"] |= {"CheckID": f"new-{number}", "ServiceID": "new"}
            operations[0]["Service"]["Node"] = operations[1]["Check"]["Check"]["Node"] = "n7"
    began = time.perf_counter()
    await api.call("PUT", "txn", json.dumps(operations).encode())
    async with asyncio.timeout(60):
        while (await stream.receive(60)).resources.get(cluster, before) == before:
            pass
    return time.perf_counter() - began


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [each for each in status.splitlines() if each.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024
