"""A stream that remembers every set of endpoints of one service that it was ever told."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import grpc.aio
from envoy.config.endpoint.v3 import endpoint_pb2

from aggregator.generators.spec import CLUSTER, ENDPOINT
from tests.support.xds_client import XdsClient, connected, node

FOREVER: Final = 3600.0


class EndpointWatch:
    """`history` has the sorted addresses of each assignment, with those that are there twice;
    `gone` is how often the cluster itself was taken away.
    """

    def __init__(self, client: XdsClient, host: str, port: int) -> None:
        self.history: Final[list[list[str]]] = []
        self.gone = 0
        self._client: Final = client
        self._name: Final = f"outbound|{port}||{host}"

    @property
    def addresses(self) -> list[str]:
        """What a proxy would send requests to now."""
        return self.history[-1] if self.history else []

    async def run(self) -> None:
        """Accept whatever comes until the stream ends."""
        await self._client.subscribe(CLUSTER)
        await self._client.subscribe(ENDPOINT, self._name)
        known = False
        with suppress(grpc.aio.AioRpcError):
            while True:
                response = await self._client.receive(FOREVER)
                await self._client.ack(response)
                if response.type_url == CLUSTER.type_url:
                    here = self._name in self._client.has[CLUSTER.type_url]
                    self.gone += known and not here
                    known = here
                elif self._name in response.resources:
                    self.history.append(_addresses(response.resources[self._name]))

    def never_lacked(self, addresses: Sequence[str]) -> bool:
        """Whether each assignment had all of these, once each, and nothing was ever taken away."""
        return not self.gone and all(
            all(assigned.count(address) == 1 for address in addresses) for assigned in self.history
        )


def _addresses(raw: bytes) -> list[str]:
    assignment = endpoint_pb2.ClusterLoadAssignment.FromString(raw)
    return sorted(
        endpoint.endpoint.address.socket_address.address
        for locality in assignment.endpoints
        for endpoint in locality.lb_endpoints
    )


@asynccontextmanager
async def endpoint_watch(
    address: str, host: str, port: int = 80, *, delta: bool = True
) -> AsyncIterator[EndpointWatch]:
    """Watch one service at the xDS server at *address* for the block."""
    async with connected(address, delta=delta, who=node(f"watch-{delta}")) as client:
        watch = EndpointWatch(client, host, port)
        task = asyncio.create_task(watch.run())
        try:
            yield watch
            assert not task.done()
        finally:
            client.cancel()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
