"""Many keys and changes of an etcd: nothing is lost. The times are printed; `-s` shows them."""

import asyncio
import statistics
import time
from typing import Final

import pytest

from adapters.etcd.adapter import EtcdAdapter
from adapters.etcd.settings import EtcdSettings, Member, Prefix
from aggregator.generators.spec import CLUSTER, ENDPOINT
from aggregator.model.registry import RegistryContext
from tests.support.daemon import running_parts
from tests.support.etcd_follower import following, instance, service
from tests.support.poll import eventually
from tests.support.servers.etcd import EtcdClient, EtcdServer
from tests.support.xds_client import XdsClient, many_connected

pytestmark = pytest.mark.servers
KEYS: Final = 10_000
STREAMS: Final = 100
ROUNDS: Final = 30
SECONDS: Final = 3
A_SECOND: Final = 1000


def show(figures: str) -> None:
    """For whoever looks; the machine decides too much of it to be judged."""
    print(f"\n{figures}")  # noqa: T201


class Lags:
    """How long the event loop did not turn."""

    def __init__(self) -> None:
        self.worst = 0.0

    async def watch(self) -> None:
        """Look every millisecond, until cancelled."""
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            self.worst = max(self.worst, time.perf_counter() - before - 0.001)


async def test_ten_thousand_keys_are_read(etcd: EtcdServer) -> None:
    """Page by page, while everything else goes on."""
    async with etcd.client() as client:
        await client.put_all(
            {
                f"/many/services/shop/s{number}.mesh": service(f"10.1.{number >> 8}.{number & 255}")
                for number in range(KEYS)
            }
        )
        lags = Lags()
        watching = asyncio.create_task(lags.watch())
        began = time.perf_counter()
        async with following(etcd, prefix="/many/", synced=False) as follower:
            await eventually(lambda: follower.status.scopes == KEYS, seconds=40)
            took = time.perf_counter() - began
            assert follower.status.services == follower.status.endpoints == KEYS
            await client.delete("/many/services/shop/s7777.mesh")
            await eventually(lambda: len(follower.hosts()) == KEYS - 1)
        watching.cancel()
        await client.delete("/many/", prefix=True)
    still = lags.worst * 1e3
    show(f"{KEYS} keys listed in {took:.2f} s; the loop stood still for {still:.0f} ms")


async def test_a_thousand_changes_a_second_end_exact(etcd: EtcdServer) -> None:
    """Instances come, move and go; what is there in the end is what etcd has."""
    async with etcd.client() as client:
        services = {f"/churn/services/shop/s{number}.mesh": service() for number in range(100)}
        await client.put_all(services)
        async with following(etcd, prefix="/churn/") as follower:
            wanted: dict[int, str] = {}
            changes = 0
            began = time.perf_counter()
            for batch in range(SECONDS * A_SECOND // 20):
                await _change(client, batch, wanted)
                changes += 20
                await asyncio.sleep(max(0.0, began + changes / A_SECOND - time.perf_counter()))
            written = time.perf_counter() - began
            expected: dict[str, list[str]] = {}
            for number, address in wanted.items():
                expected.setdefault(f"s{number % 100}.mesh", []).append(address)

            def is_exact() -> bool:
                return all(
                    follower.addresses(host) == sorted(addresses)
                    for host, addresses in expected.items()
                )

            began = time.perf_counter()
            await eventually(is_exact)
            late = time.perf_counter() - began
            assert follower.status.endpoints == len(wanted)
            assert follower.status.reconnects == 0
            assert follower.problems() == []
    show(f"{changes} changes in {written:.2f} s, exact {late * 1e3:.0f} ms later")


async def _change(client: EtcdClient, batch: int, wanted: dict[int, str]) -> None:
    """Write 18 instances, most of them anew, and delete two."""
    values = {}
    for step in range(18):
        number = (batch * 7 + step * 13) % 1000
        wanted[number] = f"10.{batch >> 8}.{batch & 255}.{step + 1}"
        values[_instance(number)] = instance(wanted[number])
    await client.put_all(values)
    for number in list(wanted)[:2]:
        del wanted[number]
        await client.delete(_instance(number))


def _instance(number: int) -> str:
    return f"/churn/instances/shop/s{number % 100}.mesh/{number}"


async def test_a_change_reaches_a_hundred_streams(etcd: EtcdServer) -> None:
    """From the moment etcd has taken it to the last stream."""
    key = "/streams/services/shop/a.mesh"
    settings = EtcdSettings((Member(etcd.address),), Prefix("/streams/"))
    times: list[float] = []
    async with etcd.client() as client:
        await client.put(key, service("10.0.0.1"))
        async with running_parts(name="kv") as parts:
            adapter = EtcdAdapter(RegistryContext(name="kv", cluster_id=""), settings)
            feeding = asyncio.create_task(adapter.run(parts.sink))
            async with many_connected(parts.grpc, STREAMS, delta=True) as streams:
                for stream in streams:
                    await stream.get(CLUSTER)
                    await stream.get(ENDPOINT, "outbound|80||a.mesh")
                for number in range(ROUNDS):
                    waiting = [asyncio.create_task(_one(stream)) for stream in streams]
                    await client.put(key, service(f"10.0.1.{number}"))
                    began = time.perf_counter()
                    arrivals = await asyncio.gather(*waiting)
                    times.append(max(arrivals) - began)
            feeding.cancel()
            await asyncio.wait([feeding])
    worst = max(times) * 1e3
    show(f"to {STREAMS} streams: p50 {statistics.median(times) * 1e3:.1f} ms, worst {worst:.1f}")


async def _one(stream: XdsClient) -> float:
    """Take the next endpoints; when they came."""
    await stream.take(ENDPOINT)
    return time.perf_counter()
