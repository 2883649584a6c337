"""A raw xDS client over real gRPC, of either variant: says what a test tells it, and shows what
comes.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
import grpc.aio
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2,
)
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2
from google.protobuf.json_format import ParseDict
from msgspec import Struct

from aggregator.generators.spec import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    VIRTUAL_HOST,
    ResourceType,
)

SECONDS: Final = 10.0
AGGREGATED: Final = ("discovery.v3.AggregatedDiscoveryService", "AggregatedResources")
SINGLE: Final = {
    CLUSTER: ("cluster.v3.ClusterDiscoveryService", "Clusters"),
    ENDPOINT: ("endpoint.v3.EndpointDiscoveryService", "Endpoints"),
    LISTENER: ("listener.v3.ListenerDiscoveryService", "Listeners"),
    ROUTE: ("route.v3.RouteDiscoveryService", "Routes"),
    VIRTUAL_HOST: ("route.v3.VirtualHostDiscoveryService", "VirtualHosts"),
}


class Response(Struct, frozen=True):
    """A response of either variant; `resources` are bodies by name."""

    type_url: str
    nonce: str
    version: str
    resources: Mapping[str, bytes]
    versions: Mapping[str, str]
    removed: Sequence[str]
    raw: bytes

    @property
    def names(self) -> list[str]:
        """What it holds."""
        return sorted(self.resources)


def node(
    name: str = "vm-1",
    *,
    metadata: Mapping[str, Any] | None = None,
    user_agent: str = "envoy",
    locality: str = "",
) -> base_pb2.Node:
    """A plain Envoy of namespace shop that binds ports itself."""
    region, _, zone = locality.partition("/")
    message = base_pb2.Node(
        id=name,
        cluster="tests",
        user_agent_name=user_agent,
        locality=base_pb2.Locality(region=region, zone=zone),
    )
    values = {"NAMESPACE": "shop", "INTERCEPTION_MODE": "NONE"} if metadata is None else metadata
    ParseDict(dict(values), message.metadata)
    return message


class XdsClient:
    """One stream. Nothing is acknowledged unless a test says so."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        delta: bool,
        who: base_pb2.Node,
        only: ResourceType | None,
        wait: bool,
    ) -> None:
        service, method = SINGLE[only] if only else AGGREGATED
        prefix = "Delta" if delta else "Stream"
        self.delta: Final = delta
        self.has: Final[dict[str, dict[str, bytes]]] = {}
        self.versions: Final[dict[str, dict[str, str]]] = {}
        path = f"/envoy.service.{service}/{prefix}{method}"
        self._call: Final[Any] = channel.stream_stream(path)(wait_for_ready=wait)
        self._node: base_pb2.Node | None = who
        self._names: Final[dict[str, list[str]]] = {}
        self._nonces: Final[dict[str, str]] = {}
        self._accepted: Final[dict[str, str]] = {}
        self._waiting: Final[deque[Response]] = deque()
        self._came: Final[asyncio.Queue[bytes | None]] = asyncio.Queue()
        self._may_read: Final = asyncio.Event()
        self._may_read.set()

    async def read(self) -> None:
        """Read until the stream ends, unless `pause` says not to."""
        raw = None
        while raw != grpc.aio.EOF:
            await self._may_read.wait()
            try:
                raw = await self._call.read()
            except (grpc.aio.AioRpcError, asyncio.CancelledError):
                break
            if raw != grpc.aio.EOF:
                self._came.put_nowait(raw)
        self._came.put_nowait(None)

    def pause(self) -> None:
        """Take nothing from the connection any more, but for one message."""
        self._may_read.clear()

    def resume(self) -> None:
        """Read on."""
        self._may_read.set()

    # What it says

    async def send_raw(self, raw: bytes) -> None:
        """Any bytes at all."""
        await self._call.write(raw)

    async def send(
        self,
        type_url: str,
        names: Iterable[str] = (),
        *,
        nonce: str = "",
        error: str = "",
        version: str = "",
        unsubscribe: Iterable[str] = (),
        versions: Mapping[str, str] | None = None,
    ) -> None:
        """A request as it is; the first one has the node."""
        message: discovery_pb2.DeltaDiscoveryRequest | discovery_pb2.DiscoveryRequest
        if self.delta:
            message = discovery_pb2.DeltaDiscoveryRequest(
                node=self._node,
                type_url=type_url,
                resource_names_subscribe=names,
                resource_names_unsubscribe=unsubscribe,
                response_nonce=nonce,
                initial_resource_versions=versions,
            )
        else:
            message = discovery_pb2.DiscoveryRequest(
                node=self._node,
                type_url=type_url,
                resource_names=names,
                response_nonce=nonce,
                version_info=version,
            )
        if error:
            message.error_detail.code = 13
            message.error_detail.message = error
        self._node = None
        await self.send_raw(message.SerializeToString())

    async def subscribe(
        self,
        kind: ResourceType,
        *names: str,
        versions: Mapping[str, str] | None = None,
        version: str = "",
    ) -> None:
        """Ask for names, in addition to those before; without any the first time for everything."""
        held = self._names.setdefault(kind.type_url, [])
        held.extend(name for name in names if name not in held)
        await self.send(
            kind.type_url,
            names if self.delta else held,
            nonce="" if self.delta else self._nonces.get(kind.type_url, ""),
            version=version or self._accepted.get(kind.type_url, ""),
            versions=versions,
        )

    async def unsubscribe(self, kind: ResourceType, *names: str) -> None:
        """Give names up."""
        held = self._names[kind.type_url]
        held[:] = [name for name in held if name not in names]
        if self.delta:
            await self.send(kind.type_url, unsubscribe=names)
        else:
            await self.send(kind.type_url, held, nonce=self._nonces[kind.type_url])

    async def ack(self, response: Response) -> None:
        """Accept a response, and have what it says."""
        mine = self.has.setdefault(response.type_url, {})
        versions = self.versions.setdefault(response.type_url, {})
        if not self.delta and response.type_url in (CLUSTER.type_url, LISTENER.type_url):
            mine.clear()
        mine.update(response.resources)
        versions.update(response.versions)
        for name in response.removed:
            mine.pop(name, None)
            versions.pop(name, None)
        self._accepted[response.type_url] = response.version
        await self._answer(response, "")

    async def nack(self, response: Response, error: str) -> None:
        """Refuse a response with a text."""
        await self._answer(response, error)

    async def _answer(self, response: Response, error: str) -> None:
        names = () if self.delta else self._names.get(response.type_url, ())
        await self.send(
            response.type_url,
            names,
            nonce=response.nonce,
            error=error,
            version="" if self.delta else self._accepted.get(response.type_url, ""),
        )

    # What it gets

    async def receive(self, seconds: float = SECONDS) -> Response:
        """The next response, of whatever type. Raises grpc.aio.AioRpcError if the stream is closed
        instead, TimeoutError if nothing comes.
        """
        if self._waiting:
            return self._waiting.popleft()
        async with asyncio.timeout(seconds):
            raw = await self._came.get()
        if raw is None:
            self._came.put_nowait(None)
            raise await self.error()
        response = _decode(raw, delta=self.delta)
        self._nonces[response.type_url] = response.nonce
        return response

    async def next(self, kind: ResourceType) -> Response:
        """The next response of a type; others wait for their turn."""
        kept: list[Response] = []
        try:
            while (response := await self.receive()).type_url != kind.type_url:
                kept.append(response)
        finally:
            self._waiting.extendleft(reversed(kept))
        return response

    async def take(self, kind: ResourceType) -> Response:
        """The next response of a type, accepted."""
        response = await self.next(kind)
        await self.ack(response)
        return response

    async def is_quiet(self, seconds: float = 0.15) -> bool:
        """Whether nothing comes for a while."""
        try:
            self._waiting.append(await self.receive(seconds))
        except TimeoutError:
            return True
        return False

    async def get(self, kind: ResourceType, *names: str) -> Response:
        """Subscribe and accept the first answer."""
        await self.subscribe(kind, *names)
        return await self.take(kind)

    async def boot(self) -> None:
        """Get everything, as an Envoy does when it starts."""
        await self.get(CLUSTER)
        clusters = map(cluster_pb2.Cluster.FromString, self.has[CLUSTER.type_url].values())
        eds = [each.name for each in clusters if each.type == cluster_pb2.Cluster.EDS]
        if eds:
            await self.get(ENDPOINT, *eds)
        await self.get(LISTENER)
        routes = sorted(routes_of(self.has[LISTENER.type_url].values()))
        if routes:
            await self.get(ROUTE, *routes)

    async def error(self) -> grpc.aio.AioRpcError:
        """How the server closed the stream."""
        return grpc.aio.AioRpcError(
            await self._call.code(),
            await self._call.initial_metadata(),
            await self._call.trailing_metadata(),
            await self._call.details(),
        )

    async def closed(self, seconds: float = SECONDS) -> grpc.aio.AioRpcError:
        """Wait until the server closes the stream; what comes before is left out."""
        async with asyncio.timeout(seconds):
            while True:
                try:
                    await self.receive(seconds)
                except grpc.aio.AioRpcError as error:
                    return error

    def cancel(self) -> None:
        """Break the stream off."""
        self._call.cancel()


@asynccontextmanager
async def connected(
    address: str,
    *,
    delta: bool = True,
    who: base_pb2.Node | None = None,
    only: ResourceType | None = None,
    credentials: grpc.ChannelCredentials | None = None,
    options: Sequence[tuple[str, Any]] = (),
    wait: bool = False,
) -> AsyncIterator[XdsClient]:
    """A client of ADS, or of the service of one type, for the block. It may *wait* for a server."""
    # A connection of its own for each client, as Envoys have.
    options = (("grpc.use_local_subchannel_pool", 1), *options)
    channel = (
        grpc.aio.secure_channel(address, credentials, options=options)
        if credentials
        else grpc.aio.insecure_channel(address, options=options)
    )
    client = XdsClient(channel, delta=delta, who=who or node(), only=only, wait=wait)
    reader = asyncio.create_task(client.read())
    try:
        yield client
    finally:
        client.resume()
        client.cancel()
        await asyncio.wait([reader])
        await channel.close()


@asynccontextmanager
async def many_connected(
    address: str, count: int, *, delta: bool
) -> AsyncIterator[list[XdsClient]]:
    """Many clients over a few connections."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(10)]
    clients = [
        XdsClient(
            channels[number % len(channels)],
            delta=delta,
            who=node(f"vm-{number}"),
            only=None,
            wait=False,
        )
        for number in range(count)
    ]
    readers = [asyncio.create_task(client.read()) for client in clients]
    try:
        yield clients
    finally:
        for client in clients:
            client.resume()
            client.cancel()
        await asyncio.wait(readers)
        await asyncio.gather(*(channel.close() for channel in channels))


def routes_of(listeners: Iterable[bytes]) -> set[str]:
    """Route tables that these listeners name."""
    found: set[str] = set()
    for raw in listeners:
        listener = listener_pb2.Listener.FromString(raw)
        for chain in listener.filter_chains:
            for each in chain.filters:
                if each.name == "envoy.filters.network.http_connection_manager":
                    found.add(_rds_name(each.typed_config))
    return found - {""}


def _rds_name(typed_config: any_pb2.Any) -> str:
    manager = http_connection_manager_pb2.HttpConnectionManager()
    typed_config.Unpack(manager)
    return manager.rds.route_config_name


_NAMES: Final[Mapping[str, Any]] = {
    CLUSTER.type_url: lambda raw: cluster_pb2.Cluster.FromString(raw).name,
    ENDPOINT.type_url: lambda raw: endpoint_pb2.ClusterLoadAssignment.FromString(raw).cluster_name,
    LISTENER.type_url: lambda raw: listener_pb2.Listener.FromString(raw).name,
    ROUTE.type_url: lambda raw: route_pb2.RouteConfiguration.FromString(raw).name,
    VIRTUAL_HOST.type_url: lambda raw: route_components_pb2.VirtualHost.FromString(raw).name,
}


def _decode(raw: bytes, *, delta: bool) -> Response:
    if delta:
        message = discovery_pb2.DeltaDiscoveryResponse.FromString(raw)
        return Response(
            message.type_url,
            message.nonce,
            message.system_version_info,
            {each.name: each.resource.value for each in message.resources},
            {each.name: each.version for each in message.resources},
            tuple(message.removed_resources),
            raw,
        )
    sotw = discovery_pb2.DiscoveryResponse.FromString(raw)
    name_of = _NAMES[sotw.type_url]
    bodies = {name_of(each.value): each.value for each in sotw.resources}
    return Response(sotw.type_url, sotw.nonce, sotw.version_info, bodies, {}, (), raw)
