"""One connection to one etcd: its requests, its login and its errors. Knows no schema of ours.

The stubs are those of `aetcd`, on a channel of our own: its client has no TLS, no paging and no
sign of life on a watch.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Protocol, TypeVar

import grpc
import grpc.aio
from aetcd.rpc import kv_pb2, rpc_pb2, rpc_pb2_grpc
from msgspec import Struct

from adapters.etcd.settings import EtcdSettings, EtcdTls
from aggregator.model.errors import AdapterRejectedError, AdapterUnavailableError

Q = TypeVar("Q", contravariant=True)
A = TypeVar("A", covariant=True)
Metadata = tuple[tuple[str, str], ...]

_PAGE_BYTES: Final = 2**20
"""What one page of a listing should be like; a value alone may be larger."""

_FIRST_PAGE: Final = 50
_LARGEST_PAGE: Final = 2000
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    # A connection must not wait because another one to the same place has failed before.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)
_NEEDS_LEADER: Final = ("hasleader", "true")
"""Ends a watch on a member that has lost the others, which would be silent for ever."""

_NOISE: Final = re.compile(r"^(UNKNOWN: |ipv[46]:\S+: |etcdserver: )+")
_TOKEN_FAULTS: Final = ("user name is empty", "revision of auth store is old")


class DeniedError(AdapterRejectedError):
    """The user may not do this; perhaps other things."""


class CompactedError(AdapterUnavailableError):
    """The revision asked for is no longer known: only a new listing helps."""


class Page(Struct, frozen=True):
    """Some keys in order, all as of one revision."""

    revision: int
    kvs: tuple[kv_pb2.KeyValue, ...]


class Happened(Struct, frozen=True):
    """Changes that came together; none in a mere sign of life."""

    revision: int
    events: tuple[kv_pb2.Event, ...] = ()


class _Method(Protocol[Q, A]):
    """A unary method of a stub."""

    def __call__(self, request: Q, /, *, timeout: float, metadata: Metadata) -> Awaitable[A]: ...


@asynccontextmanager
async def connect(
    endpoint: str, settings: EtcdSettings, base_dir: str
) -> AsyncIterator["EtcdClient"]:
    """A connection to one member for the block, logged in where there is a user.

    Everything raises AdapterUnavailableError or AdapterRejectedError.
    """
    if settings.tls is None:
        channel = grpc.aio.insecure_channel(endpoint, options=_OPTIONS)
    else:
        credentials = await asyncio.to_thread(_credentials, settings.tls, Path(base_dir))
        named = (("grpc.ssl_target_name_override", settings.tls.server_name),)
        options = _OPTIONS + (named if settings.tls.server_name else ())
        channel = grpc.aio.secure_channel(endpoint, credentials, options=options)
    async with channel:
        client = EtcdClient(channel, endpoint, settings, Path(base_dir))
        await client.log_in()
        yield client


class EtcdClient:
    """Requests to one member, each of which is answered in time or fails."""

    def __init__(
        self, channel: grpc.aio.Channel, endpoint: str, settings: EtcdSettings, base: Path
    ) -> None:
        self._endpoint: Final = endpoint
        self._settings: Final = settings
        self._base: Final = base
        self._timeout: Final = float(settings.timeout)
        self._token: Metadata = ()
        self._kv: Final = rpc_pb2_grpc.KVStub(channel)
        self._leases: Final = rpc_pb2_grpc.LeaseStub(channel)
        self._watches: Final = rpc_pb2_grpc.WatchStub(channel)
        self._auth: Final = rpc_pb2_grpc.AuthStub(channel)

    # Reading

    async def pages(self, key: bytes, end: bytes, revision: int = 0) -> AsyncIterator[Page]:
        """The keys from *key* up to *end*, as of *revision*, by default the present one.

        Raises DeniedError, and CompactedError if it takes so long that the revision is gone.
        """
        limit = _FIRST_PAGE
        while True:
            request = rpc_pb2.RangeRequest(key=key, range_end=end, revision=revision, limit=limit)
            answer = await self._call(self._kv.Range, request)
            revision = revision or answer.header.revision
            kvs = tuple(answer.kvs)
            yield Page(revision, kvs)
            if not answer.more:
                return
            key = kvs[-1].key + b"\0"
            mean = sum(len(kv.value) + len(kv.key) for kv in kvs) // len(kvs) + 1
            limit = max(1, min(_LARGEST_PAGE, _PAGE_BYTES // mean))

    async def some_keys(self, key: bytes, end: bytes, revision: int, limit: int) -> list[bytes]:
        """The first keys from *key* up to *end*, without their values."""
        request = rpc_pb2.RangeRequest(
            key=key, range_end=end, revision=revision, limit=limit, keys_only=True
        )
        return [kv.key for kv in (await self._call(self._kv.Range, request)).kvs]

    async def get(self, key: bytes) -> kv_pb2.KeyValue | None:
        """One key."""
        answer = await self._call(self._kv.Range, rpc_pb2.RangeRequest(key=key))
        return answer.kvs[0] if answer.kvs else None

    async def lease_lives(self, lease: int) -> bool:
        """Whether the lease has not run out, and was not revoked."""
        request = rpc_pb2.LeaseTimeToLiveRequest(ID=lease)
        answer = await self._call(self._leases.LeaseTimeToLive, request)
        return answer.TTL >= 0

    @asynccontextmanager
    async def watch(
        self, ranges: Iterable[tuple[bytes, bytes]], revision: int
    ) -> AsyncIterator["Watch"]:
        """Follow what happens in *ranges* from *revision* on, for the block."""
        call = self._watches.Watch(metadata=(*self._token, _NEEDS_LEADER))
        watch = Watch(call, self._endpoint, self._timeout)
        try:
            for key, end in ranges:
                create = rpc_pb2.WatchCreateRequest(
                    key=key, range_end=end, start_revision=revision, fragment=True
                )
                await watch.ask(rpc_pb2.WatchRequest(create_request=create))
            yield watch
        finally:
            await watch.aclose()

    # Writing

    async def put(self, values: Iterable[tuple[bytes, bytes]], lease: int = 0) -> int:
        """Write all of *values* or none; the revision."""
        puts = [rpc_pb2.PutRequest(key=key, value=value, lease=lease) for key, value in values]
        request = rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_put=put) for put in puts])
        answer = await self._call(self._kv.Txn, request)
        return int(answer.header.revision)

    async def delete(self, key: bytes) -> bool:
        """Delete one key; whether it was there."""
        answer = await self._call(self._kv.DeleteRange, rpc_pb2.DeleteRangeRequest(key=key))
        return bool(answer.deleted)

    async def grant(self, seconds: int) -> int:
        """A lease that runs out after *seconds* unless it is kept alive."""
        request = rpc_pb2.LeaseGrantRequest(TTL=seconds)
        return int((await self._call(self._leases.LeaseGrant, request)).ID)

    async def revoke(self, lease: int) -> None:
        """End a lease, and with it its keys."""
        await self._call(self._leases.LeaseRevoke, rpc_pb2.LeaseRevokeRequest(ID=lease))

    async def refresh(self, lease: int) -> bool:
        """Let the lease live on; False if it has run out."""
        call = self._leases.LeaseKeepAlive(metadata=self._token, timeout=self._timeout)
        try:
            await call.write(rpc_pb2.LeaseKeepAliveRequest(ID=lease))
            answer = await call.read()
        except grpc.aio.AioRpcError as error:
            raise self._mapped(error) from error
        finally:
            call.cancel()
        if not isinstance(answer, rpc_pb2.LeaseKeepAliveResponse):
            message = f"{self._endpoint}: the lease could not be kept alive"
            raise AdapterUnavailableError(message)
        return answer.TTL > 0

    # Login

    async def log_in(self) -> None:
        """Get a token, where there is a user; an etcd without users does not ask for one."""
        if not self._settings.user:
            return
        password = await asyncio.to_thread(self._password)
        request = rpc_pb2.AuthenticateRequest(name=self._settings.user, password=password)
        try:
            answer = await self._auth.Authenticate(request, timeout=self._timeout)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                self._token = ()
                return
            raise self._mapped(error) from error
        self._token = (("token", answer.token),)

    def _password(self) -> str:
        if not self._settings.password_file:
            return ""
        path = self._base / self._settings.password_file
        try:
            return _read(path).decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise AdapterRejectedError(f"{path}: expected text in UTF-8") from error

    # Inside

    async def _call(self, method: _Method[Q, A], request: Q) -> A:
        """Ask, and once more with a new token if the one we have is too old."""
        try:
            return await method(request, timeout=self._timeout, metadata=self._token)
        except grpc.aio.AioRpcError as error:
            if not self._settings.user or not _is_about_token(error):
                raise self._mapped(error) from error
        await self.log_in()
        try:
            return await method(request, timeout=self._timeout, metadata=self._token)
        except grpc.aio.AioRpcError as error:
            raise self._mapped(error) from error

    def _mapped(
        self, error: grpc.aio.AioRpcError
    ) -> AdapterRejectedError | AdapterUnavailableError:
        return mapped(error, self._endpoint, self._timeout)


class Watch:
    """What happens on one stream, with a sign of life at least every two time-outs."""

    def __init__(
        self,
        call: grpc.aio.StreamStreamCall[rpc_pb2.WatchRequest, rpc_pb2.WatchResponse],
        endpoint: str,
        timeout: float,
    ) -> None:
        self._call: Final = call
        self._endpoint: Final = endpoint
        self._timeout: Final = timeout
        self._reading: asyncio.Future[object] | None = None
        self._asked = False

    async def ask(self, request: rpc_pb2.WatchRequest) -> None:
        """Send a request."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._call.write(request)
        except TimeoutError as error:
            raise self._silent() from error
        except grpc.aio.AioRpcError as error:
            raise mapped(error, self._endpoint, self._timeout) from error
        except asyncio.InvalidStateError as error:
            raise await self._ended() from error

    async def next(self) -> Happened:
        """The next changes, or a sign of life.

        Raises CompactedError if changes were missed, DeniedError, and AdapterUnavailableError if
        the server ends the stream or says nothing although it was asked to.
        """
        events: list[kv_pb2.Event] = []
        while True:
            answer = await self._answer()
            if answer.canceled:
                raise self._cancelled(answer)
            events += answer.events
            # That the watch was created says nothing yet: it may be too late for its revision.
            if not answer.fragment and not answer.created:
                return Happened(answer.header.revision, tuple(events))

    async def _answer(self) -> rpc_pb2.WatchResponse:
        while True:
            if self._reading is None:
                # Cancelling a read ends the stream, so it is kept over time-outs.
                self._reading = asyncio.ensure_future(self._call.read())
            done, _ = await asyncio.wait([self._reading], timeout=self._timeout)
            if done:
                break
            if self._asked:
                raise self._silent()
            self._asked = True
            progress = rpc_pb2.WatchProgressRequest()
            await self.ask(rpc_pb2.WatchRequest(progress_request=progress))
        reading, self._reading, self._asked = self._reading, None, False
        try:
            answer = reading.result()
        except grpc.aio.AioRpcError as error:
            raise mapped(error, self._endpoint, self._timeout) from error
        if not isinstance(answer, rpc_pb2.WatchResponse):
            raise await self._ended()
        return answer

    def _silent(self) -> AdapterUnavailableError:
        message = f"{self._endpoint}: the watch says nothing, and does not answer within "
        return AdapterUnavailableError(f"{message}{self._timeout:g} s")

    async def _ended(self) -> AdapterUnavailableError:
        details = await self._call.details() if self._call.done() else ""
        return AdapterUnavailableError(f"{self._endpoint}: the watch ended {details}".rstrip())

    def _cancelled(
        self, answer: rpc_pb2.WatchResponse
    ) -> AdapterRejectedError | AdapterUnavailableError:
        reason = f"{self._endpoint}: the watch was cancelled: {answer.cancel_reason}"
        if answer.compact_revision:
            return CompactedError(reason)
        if "denied" in reason or "auth" in reason:
            return DeniedError(reason)
        return AdapterUnavailableError(reason)

    async def aclose(self) -> None:
        """End the stream."""
        self._call.cancel()
        reading, self._reading = self._reading, None
        if reading is not None:
            await asyncio.wait([reading])
            if not reading.cancelled():
                reading.exception()


def end_of(start: bytes) -> bytes:
    """The first key after all those that begin with *start*, which does not end in 0xff."""
    return start[:-1] + bytes([start[-1] + 1])


def mapped(
    error: grpc.aio.AioRpcError, endpoint: str, timeout: float
) -> AdapterRejectedError | AdapterUnavailableError:
    """What an error of the library means to whoever runs us."""
    # The library tells of every address that it tried, and repeats the target.
    details = (error.details() or "").rpartition("last error: ")[2]
    text = f"{endpoint}: {_NOISE.sub('', details)}"
    match error.code():
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return AdapterUnavailableError(f"{endpoint}: no answer within {timeout:g} s")
        case grpc.StatusCode.PERMISSION_DENIED:
            return DeniedError(text)
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.INVALID_ARGUMENT:
            return AdapterRejectedError(text)
        case grpc.StatusCode.OUT_OF_RANGE:
            return CompactedError(text)
        case _:
            return AdapterUnavailableError(text)


def _is_about_token(error: grpc.aio.AioRpcError) -> bool:
    details = error.details() or ""
    return error.code() is grpc.StatusCode.UNAUTHENTICATED or details.endswith(_TOKEN_FAULTS)


def _credentials(tls: EtcdTls, base: Path) -> grpc.ChannelCredentials:
    ca, cert, key = (_read(base / path) if path else None for path in (tls.ca, tls.cert, tls.key))
    # gRPC itself would take anything, and fail to connect for no reason that can be understood.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if ca is not None:
            context.load_verify_locations(base / tls.ca)
    except ssl.SSLError as error:
        raise AdapterRejectedError(f"{base / tls.ca}: expected certificates in PEM") from error
    try:
        if cert is not None:
            context.load_cert_chain(base / tls.cert, base / tls.key, password="")
    except ssl.SSLError as error:
        message = f"{base / tls.cert}: expected a certificate in PEM, to which {tls.key} is the key"
        raise AdapterRejectedError(message) from error
    return grpc.ssl_channel_credentials(ca, key, cert)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror or error}"
        raise AdapterRejectedError(message) from error
