"""A raw xDS client over real gRPC, of either variant, that answers only what it is told to
answer.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
import grpc.aio
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.any_pb2 import Any as Packed
from google.rpc import status_pb2

from aggregator.generators.spec import ResourceType

WAIT_SECONDS: Final = 10.0
QUIET_SECONDS: Final = 0.15
ADS: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"

Response = discovery_pb2.DiscoveryResponse | discovery_pb2.DeltaDiscoveryResponse


def node(name: str = "raw-1", *, agent: str = "", **metadata: Any) -> base_pb2.Node:
    """Who a client says that it is."""
    made = base_pb2.Node(id=name, user_agent_name=agent)
    made.metadata.update({"NAMESPACE": "shop", "INTERCEPTION_MODE": "NONE"} | metadata)
    return made


class RawStream:
    """One stream. The node goes with the first request."""

    def __init__(
        self,
        call: "grpc.aio.StreamStreamCall[bytes, bytes]",
        who: base_pb2.Node | None,
        *,
        delta: bool,
    ) -> None:
        self.call: Final = call
        self.delta: Final = delta
        self._who = who
        self._waiting: asyncio.Task[bytes | Any] | None = None

    async def send(self, raw: bytes) -> None:
        """Any bytes."""
        await self.call.write(raw)

    async def ask(
        self,
        kind: ResourceType,
        *names: str,
        nonce: str = "",
        version: str = "",
        error: str = "",
        unsubscribe: Iterable[str] = (),
        versions: Mapping[str, str] | None = None,
    ) -> None:
        """A request: a subscription, and an answer if there is a nonce."""
        detail = status_pb2.Status(code=3, message=error) if error else None
        who, self._who = self._who, None
        if self.delta:
            delta = discovery_pb2.DeltaDiscoveryRequest(
                node=who,
                type_url=kind.type_url,
                resource_names_subscribe=names,
                resource_names_unsubscribe=unsubscribe,
                initial_resource_versions=versions or {},
                response_nonce=nonce,
                error_detail=detail,
            )
            await self.send(delta.SerializeToString())
        else:
            sotw = discovery_pb2.DiscoveryRequest(
                node=who,
                type_url=kind.type_url,
                resource_names=names,
                version_info=version,
                response_nonce=nonce,
                error_detail=detail,
            )
            await self.send(sotw.SerializeToString())

    async def get(self, kind: ResourceType | None = None) -> Response:
        """The next response; of *kind*, where that is given."""
        raw = await self.read(WAIT_SECONDS)
        assert raw is not None, "no response came"
        response = self._parse(raw)
        if kind is not None:
            assert response.type_url == kind.type_url
        return response

    async def read(self, seconds: float) -> bytes | None:
        """The next message, or None if none comes in time."""
        if self._waiting is None:
            self._waiting = asyncio.ensure_future(self.call.read())
        done, _ = await asyncio.wait({self._waiting}, timeout=seconds)
        if not done:
            return None
        raw, self._waiting = self._waiting.result(), None
        assert isinstance(raw, bytes), "the server closed the stream"
        return raw

    async def is_quiet(self) -> bool:
        """Whether nothing comes for a while."""
        raw = await self.read(QUIET_SECONDS)
        return raw is None

    async def ack(self, response: Response, *names: str) -> None:
        """Accept; on state of the world *names* are the subscription again."""
        await self._answer(response, names, "")

    async def nack(self, response: Response, error: str, *names: str) -> None:
        """Reject."""
        await self._answer(response, names, error)

    async def _answer(self, response: Response, names: Iterable[str], error: str) -> None:
        kind = ResourceType(response.type_url, "", 0)
        if isinstance(response, discovery_pb2.DiscoveryResponse):
            await self.ask(
                kind, *names, nonce=response.nonce, version=response.version_info, error=error
            )
        else:
            await self.ask(kind, nonce=response.nonce, error=error)

    def _parse(self, raw: bytes) -> Response:
        if self.delta:
            return discovery_pb2.DeltaDiscoveryResponse.FromString(raw)
        return discovery_pb2.DiscoveryResponse.FromString(raw)


def bodies(response: Response) -> dict[str, bytes]:
    """What a response holds, by name."""
    if isinstance(response, discovery_pb2.DeltaDiscoveryResponse):
        return {each.name: each.resource.value for each in response.resources}
    return {_name_of(each): each.value for each in response.resources}


def _name_of(packed: Packed) -> str:
    """Clusters, listeners and routes have their name as field 1; assignments call it otherwise."""
    length = packed.value[1]
    assert packed.value[0] == 0x0A
    assert length < 0x80, "names of tests are short"
    return packed.value[2 : 2 + length].decode()


@asynccontextmanager
async def open_stream(
    address: str,
    *,
    delta: bool,
    who: base_pb2.Node | None = None,
    method: str = "",
    credentials: grpc.ChannelCredentials | None = None,
) -> AsyncIterator[RawStream]:
    """A stream to ``host:port``; *method* is ``service/Method``, ADS unless told otherwise."""
    name = "DeltaAggregatedResources" if delta else "StreamAggregatedResources"
    path = method or f"{ADS}/{name}"
    options = (("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1))
    channel = (
        grpc.aio.secure_channel(address, credentials, options)
        if credentials
        else grpc.aio.insecure_channel(address, options)
    )
    async with channel:
        call: Any = channel.stream_stream(f"/{path}")()
        stream = RawStream(call, who or node(), delta=delta)
        try:
            yield stream
        finally:
            call.cancel()
