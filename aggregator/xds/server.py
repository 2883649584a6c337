"""The gRPC server: ADS and the services of single types, plaintext and TLS, over one engine."""

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn, cast

import grpc
import grpc.aio
import structlog
from msgspec import Struct

from aggregator.generators.spec import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    VIRTUAL_HOST,
    ResourceType,
)
from aggregator.model.errors import ConfigError, Origin, Problem, StreamError
from aggregator.model.proxy import Proxy
from aggregator.push.engine import Engine
from aggregator.xds.budget import Budget
from aggregator.xds.cache import PlanCache
from aggregator.xds.isolation import Rejection
from aggregator.xds.message import Request, RequestDecoder
from aggregator.xds.node import decode_node
from aggregator.xds.session import Session, Waits
from aggregator.xds.stall import StallWatch
from aggregator.xds.stream import DisconnectedError, Stream, WriteTimeoutError

log = structlog.get_logger()

REMEMBERED_NODES: Final = 10_000
"""How many proxies with unsettled rejections are remembered over a reconnect."""

STALL_PATIENCE: Final = 1.0
"""For how many seconds a write may hold a share of the bytes in flight before others get it."""

SERVICE: Final = "envoy.service.{}.v3.{}"
METHODS: Final[tuple[tuple[str, str, bool, ResourceType | None], ...]] = (
    ("discovery.AggregatedDiscoveryService", "StreamAggregatedResources", False, None),
    ("discovery.AggregatedDiscoveryService", "DeltaAggregatedResources", True, None),
    ("cluster.ClusterDiscoveryService", "StreamClusters", False, CLUSTER),
    ("cluster.ClusterDiscoveryService", "DeltaClusters", True, CLUSTER),
    ("endpoint.EndpointDiscoveryService", "StreamEndpoints", False, ENDPOINT),
    ("endpoint.EndpointDiscoveryService", "DeltaEndpoints", True, ENDPOINT),
    ("listener.ListenerDiscoveryService", "StreamListeners", False, LISTENER),
    ("listener.ListenerDiscoveryService", "DeltaListeners", True, LISTENER),
    ("route.RouteDiscoveryService", "StreamRoutes", False, ROUTE),
    ("route.RouteDiscoveryService", "DeltaRoutes", True, ROUTE),
    ("route.VirtualHostDiscoveryService", "DeltaVirtualHosts", True, VIRTUAL_HOST),
)

OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    # Envoy and gRPC clients ping idle connections; the defaults would close them for it.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1000),
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.bdp_probe", 0),
    # A reconnect that names 20,000 resources is about 2 MB.
    ("grpc.max_receive_message_length", 32 * 1024 * 1024),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_concurrent_streams", 100_000),
    ("grpc.so_reuseport", 0),
)


class TlsFiles(Struct, frozen=True):
    """Certificate files of the TLS listener. Clients are asked for a certificate, which `client_ca`
    must have signed, only where it is required.
    """

    cert: Path
    key: Path
    client_ca: Path | None = None
    require_client_certificate: bool = False


class XdsServer:
    """Serves every connected client; knows them for debugging.

    Streams are taken at once but wait for *ready* before they are answered: a client that is told
    nothing keeps what it has, one that is told too early loses it.
    """

    def __init__(
        self,
        engine: Engine,
        types: Mapping[str, ResourceType],
        *,
        ready: asyncio.Event | None = None,
    ) -> None:
        self.engine: Final = engine
        self._ready: Final = ready
        self.streams: Final[set[Stream]] = set()
        self.ended = 0
        self.types: Final = types
        self.budget: Final = Budget(engine.settings.in_flight)
        self._stalls: Final = StallWatch(engine.settings.write_timeout, STALL_PATIENCE)
        self.cache: Final = PlanCache()
        self._decoders: Final = {delta: RequestDecoder(delta=delta) for delta in (False, True)}
        self._servers: Final[list[grpc.aio.Server]] = []
        self._unsettled: Final[OrderedDict[str, dict[str, frozenset[str]]]] = OrderedDict()
        self._logged: Final[OrderedDict[tuple[str, str, str], None]] = OrderedDict()

    # Listening

    async def listen(self, address: str, tls: TlsFiles | None = None) -> int:
        """Listen on ``host:port`` (port 0 picks one); returns the port. Raises ConfigError if it is
        taken.
        """
        credentials = await asyncio.to_thread(_reloading_credentials, tls) if tls else None
        server = grpc.aio.server(options=OPTIONS)
        for service, method, delta, kind in METHODS:
            server.add_generic_rpc_handlers((self._handler(service, method, delta, kind),))
        try:
            port = (
                server.add_secure_port(address, credentials)
                if credentials
                else server.add_insecure_port(address)
            )
        except RuntimeError as error:
            message = f"cannot listen on {address}: {error}"
            raise ConfigError(Problem(Origin("listen"), "", message)) from error
        await server.start()
        self._servers.append(server)
        return port

    async def aclose(self, grace: float = 1.0) -> None:
        """Stop accepting, and close every stream after *grace* seconds."""
        await asyncio.gather(*(server.stop(grace) for server in self._servers))

    def _handler(
        self, service: str, method: str, delta: bool, kind: ResourceType | None
    ) -> grpc.GenericRpcHandler:
        async def serve(
            requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]
        ) -> None:
            transport = _GrpcTransport(requests, context)
            if not await self._serve(transport, context, delta=delta, kind=kind):
                # gRPC keeps the error, and with it every frame that it came through, in a cycle:
                # this one is new, and has not seen the stream.
                raise asyncio.CancelledError

        name = SERVICE.format(*service.split("."))
        # No serializers: messages are bytes on this side of the transport.
        return grpc.method_handlers_generic_handler(
            name, {method: grpc.stream_stream_rpc_method_handler(serve)}
        )

    # Streams

    async def _serve(
        self,
        transport: "_GrpcTransport",
        context: "grpc.aio.ServicerContext[Any, Any]",
        *,
        delta: bool,
        kind: ResourceType | None,
    ) -> bool:
        """Serve one stream; whether the client is still there to be told how it ended."""
        if self._ready is not None:
            await self._ready.wait()
        settings = self.engine.settings
        session = Session(
            self.types,
            delta=delta,
            aggregated=kind is None,
            waits=Waits(warm=settings.warm_wait, separate=settings.separate_wait),
            cache=self.cache,
            chunk=settings.chunk,
        )
        stream = Stream(
            transport,
            self.engine,
            session,
            self._decoders[delta],
            self.budget,
            self._stalls,
            identify=self._identify,
            fixed_type=kind,
            on_reject=self._rejected,
            on_identified=self._identified,
            on_stalled=self._gone,
        )
        self.streams.add(stream)
        self.engine.metrics.connected.inc()
        try:
            await stream.run()
        except (DisconnectedError, asyncio.CancelledError) as error:
            # What it came through holds it in turn (a cancelled TaskGroup does): cut that circle.
            error.__traceback__ = None
            return False
        except StreamError as error:
            log.warning("stream_closed", proxy=_id(stream), peer=stream.peer, reason=str(error))
            await context.abort(_status_of(error), str(error))
        except Exception:
            # The boundary of a stream: a mistake of ours in serving one client must not reach the
            # others, nor be lost in gRPC's own log.
            log.exception("stream_failed", proxy=_id(stream), peer=stream.peer)
            await context.abort(grpc.StatusCode.INTERNAL, "the server failed on this stream")
        finally:
            self._gone(stream)
        return True

    def _gone(self, stream: Stream) -> None:
        """The client left, or counts as gone because it takes nothing."""
        if stream not in self.streams:
            return
        self.streams.discard(stream)
        self.ended += 1
        self.engine.metrics.connected.dec()
        self._remember(stream)
        log.info("client_disconnected", proxy=_id(stream), peer=stream.peer)

    def _identify(self, request: Request) -> Proxy:
        world = self.engine.world
        if request.node is None:
            message = "the first request on a stream must have a node"
            raise StreamError(message)
        drain = float(world.mesh.default_config.drain_duration)
        return decode_node(request.node, world.domain, drain)

    def _identified(self, stream: Stream) -> None:
        node = _id(stream)
        stream.session.carried_over.update(self._unsettled.pop(node, {}))
        log.info(
            "client_connected",
            proxy=node,
            peer=stream.peer,
            variant="delta" if stream.session.delta else "state of the world",
        )

    def _remember(self, stream: Stream) -> None:
        """What a client may have kept of a rejected response is not believed when it comes back."""
        unknown = stream.session.left_unknown()
        if stream.proxy is not None and unknown:
            self._unsettled[stream.proxy.id] = unknown
            if len(self._unsettled) > REMEMBERED_NODES:
                self._unsettled.popitem(last=False)

    def _rejected(self, stream: Stream, rejection: Rejection, nonce: str) -> None:
        """Log a rejected resource once, however many clients reject it."""
        key = (rejection.type_url, rejection.name, rejection.version)
        if key in self._logged:
            return
        self._logged[key] = None
        if len(self._logged) > REMEMBERED_NODES:
            self._logged.popitem(last=False)
        log.error(
            "resource_rejected",
            proxy=_id(stream),
            type_url=rejection.type_url,
            nonce=nonce,
            resource=rejection.name,
            error=rejection.error,
            origins=list(rejection.origins),
        )


def _status_of(error: StreamError) -> grpc.StatusCode:
    late = isinstance(error, WriteTimeoutError)
    return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.INVALID_ARGUMENT


def _id(stream: Stream) -> str:
    return stream.proxy.id if stream.proxy else ""


class _GrpcTransport:
    """`Transport` over a grpc.aio call."""

    def __init__(
        self, requests: AsyncIterator[bytes], context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> None:
        self._requests: Final = requests
        self._context: Final = context

    @property
    def peer(self) -> str:
        return str(self._context.peer())

    def requests(self) -> AsyncIterable[bytes]:
        return self._requests

    async def write(self, payload: bytes) -> None:
        try:
            await self._context.write(payload)
        except grpc.aio.BaseError as error:
            raise DisconnectedError(str(error)) from error


def _reloading_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Credentials that read the files again when they change, at the next handshake.

    Files that do not fit together (half a rotation) leave the last good ones in use.
    """
    reader = _CertificateReader(files)
    first = reader.read()
    if first is None:
        message = f"cannot read a certificate and its key from {files.cert} and {files.key}"
        raise ConfigError(Problem(Origin(str(files.cert)), "listen.grpc_tls", message))
    return grpc.dynamic_ssl_server_credentials(
        first,
        # None says "unchanged"; the stub does not know.
        cast(Callable[[], grpc.ServerCertificateConfiguration], reader.fetch),
        require_client_authentication=files.require_client_certificate,
    )


class _CertificateReader:
    """Reads and checks the files; remembers what it last handed out."""

    def __init__(self, files: TlsFiles) -> None:
        self._files: Final = files
        self._stamp: tuple[tuple[int, ...], ...] | None = None
        self._refused: tuple[tuple[int, ...], ...] | None = None

    def fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """What gRPC asks at each handshake: a new configuration, or None for the present one."""
        stamp = self._stamp_now()
        return None if stamp in (None, self._stamp, self._refused) else self.read()

    def read(self) -> grpc.ServerCertificateConfiguration | None:
        """The files' content, or None if they cannot be used as they are."""
        stamp = self._stamp_now()
        try:
            # Checks that key and certificate belong together, which gRPC does only when it is too
            # late.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._files.cert, self._files.key, _refuse_passphrase)
            cert, key = self._files.cert.read_bytes(), self._files.key.read_bytes()
            client_ca = self._files.client_ca.read_bytes() if self._files.client_ca else None
            if client_ca is not None:
                context.load_verify_locations(cadata=client_ca.decode())
        except (OSError, ValueError) as error:
            self._refused = stamp
            log.warning(
                "certificate_rejected",
                cert=str(self._files.cert),
                reason=str(error),
            )
            return None
        if stamp is None or stamp != self._stamp_now():
            return None  # they were written meanwhile: the next handshake sees
        self._stamp = stamp
        return grpc.ssl_server_certificate_configuration([(key, cert)], client_ca)

    def _stamp_now(self) -> tuple[tuple[int, ...], ...] | None:
        paths = [self._files.cert, self._files.key]
        if self._files.client_ca:
            paths.append(self._files.client_ca)
        try:
            # The size too: one tick of the clock is enough to empty a file and write it.
            return tuple(
                (stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in (p.stat() for p in paths)
            )
        except OSError:
            return None


def _refuse_passphrase() -> NoReturn:
    # Else whoever started the daemon would be asked on the terminal, while everything waits.
    message = "the key is encrypted; expected one without a passphrase"
    raise ValueError(message)
