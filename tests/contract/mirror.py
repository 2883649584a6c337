"""A stream that takes everything as a proxy would, and remembers what was ever taken away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import grpc.aio
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from msgspec import Struct

from aggregator.generators.spec import CLUSTER, ENDPOINT
from tests.support.xds_client import Response, XdsClient, connected, node

FOREVER: Final = 3600.0

Services = dict[str, tuple[str, ...]]
"""Sorted addresses by host; () is a service without endpoints."""


class Loss(Struct, frozen=True):
    """Addresses of a service that a stream was told to forget; `whole` if the service went."""

    host: str
    addresses: frozenset[str]
    whole: bool = False


class Mirror:
    """One stream of clusters and their endpoints, by either variant of the protocol."""

    def __init__(self, client: XdsClient) -> None:
        self.losses: Final[list[Loss]] = []
        self.responses = 0
        self._client: Final = client
        self._clusters: Final[dict[str, str]] = {}
        self._addresses: Final[dict[str, frozenset[str]]] = {}

    async def run(self) -> None:
        """Accept whatever comes until the stream ends."""
        await self._client.subscribe(CLUSTER)
        with suppress(grpc.aio.AioRpcError):
            while True:
                response = await self._client.receive(FOREVER)
                self.responses += 1
                await self._client.ack(response)
                if response.type_url == CLUSTER.type_url:
                    await self._take_clusters()
                elif response.type_url == ENDPOINT.type_url:
                    self._take_endpoints(response)

    def services(self) -> Services:
        """What a proxy would send requests to."""
        found: dict[str, set[str]] = {}
        for name, host in self._clusters.items():
            found.setdefault(host, set()).update(self._addresses.get(name, ()))
        return {host: tuple(sorted(addresses)) for host, addresses in found.items()}

    async def _take_clusters(self) -> None:
        now: dict[str, str] = {}
        for name, raw in self._client.has[CLUSTER.type_url].items():
            if name in self._clusters or _has_eds(raw):
                now[name] = name.rpartition("|")[2]
        gone, new = self._clusters.keys() - now.keys(), now.keys() - self._clusters.keys()
        for name in gone:
            addresses = self._addresses.pop(name, frozenset())
            self.losses.append(Loss(self._clusters.pop(name), addresses, whole=True))
            self._client.has.get(ENDPOINT.type_url, {}).pop(name, None)
        if gone:
            await self._client.unsubscribe(ENDPOINT, *gone)
        self._clusters.update((name, now[name]) for name in new)
        if new:
            await self._client.subscribe(ENDPOINT, *new)

    def _take_endpoints(self, response: Response) -> None:
        for name, raw in response.resources.items():
            now = _addresses(raw)
            lost = self._addresses.get(name, frozenset()) - now
            if lost:
                self.losses.append(Loss(name.rpartition("|")[2], lost))
            self._addresses[name] = now


def _has_eds(raw: bytes) -> bool:
    return cluster_pb2.Cluster.FromString(raw).type == cluster_pb2.Cluster.EDS


def _addresses(raw: bytes) -> frozenset[str]:
    assignment = endpoint_pb2.ClusterLoadAssignment.FromString(raw)
    return frozenset(
        endpoint.endpoint.address.socket_address.address
        for locality in assignment.endpoints
        for endpoint in locality.lb_endpoints
    )


@asynccontextmanager
async def mirrored(address: str, *, delta: bool, name: str) -> AsyncIterator[Mirror]:
    """A mirror of the server at *address* for the block."""
    async with connected(address, delta=delta, who=node(name)) as client:
        mirror = Mirror(client)
        task = asyncio.create_task(mirror.run(), name=f"mirror {name}")
        try:
            yield mirror
        finally:
            client.cancel()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
