"""Asks one API server over HTTP, and maps whatever goes wrong to the errors of adapters.

Knows no kind of object. Credentials are read again while it runs, so that they may be rotated.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final

import aiohttp
import msgspec
from msgspec import Struct

from adapters.kubernetes.credential import Credential, build_tls, run_exec
from adapters.kubernetes.kubeconfig import Access
from aggregator.model.errors import (
    AdapterError,
    AdapterRejectedError,
    AdapterUnavailableError,
    ConfigError,
)

CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 60.0
WATCH_READ_SECONDS: Final = 150.0
"""A watch of which nothing is heard for this long is dead: bookmarks come every minute."""

REREAD_SECONDS: Final = 10.0
"""How old what we know of the credential files may be when a request is made."""

JSON: Final = "application/json"
METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

LoadAccess = Callable[[], Access]
"""Reads kubeconfig, tokens and certificates, in a thread; raises ConfigError."""


class Status(Struct, frozen=True):
    """Kubernetes' own word on why it refuses something."""

    message: str = ""
    reason: str = ""
    code: int = 0


class ApiError(AdapterError):
    """The API server answered, and said no to this one request."""

    def __init__(self, code: int, reason: str, message: str, retry_after: float = 0.0) -> None:
        super().__init__(f"{code} {reason or 'error'}: {message}" if message else f"HTTP {code}")
        self.code: Final = code
        self.retry_after: Final = retry_after

    @property
    def forbidden(self) -> bool:
        """Whether it is a matter of permissions."""
        return self.code == 403

    @property
    def absent(self) -> bool:
        """Whether the server does not know the kind."""
        return self.code == 404

    @property
    def expired(self) -> bool:
        """Whether one has to list again: the history is gone, or the server's was set back."""
        return self.code == 410 or (self.code == 504 and "resource version" in str(self).lower())


class RateLimit:
    """Lets `rate` requests a second through, after a burst of twice as many."""

    def __init__(
        self,
        rate: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._interval: Final = 1 / rate
        self._ahead: Final = 2.0
        self._clock: Final = clock
        self._sleep: Final = sleep
        self._next = clock() - self._ahead

    async def wait(self) -> None:
        """Return once a request may be made."""
        now = self._clock()
        self._next = max(self._next, now - self._ahead) + self._interval
        if self._next > now:
            await self._sleep(self._next - now)


class KubernetesClient:
    """Requests to one API server; an asynchronous context manager.

    Every method raises ApiError for what the server refuses, AdapterRejectedError if it does not
    know us, AdapterUnavailableError if it does not answer, or became another server.
    """

    def __init__(
        self, load: LoadAccess, *, rate: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._load: Final = load
        self._limit: Final = RateLimit(rate)
        self._clock: Final = clock
        self._lock: Final = asyncio.Lock()
        self._access: Access | None = None
        self._credential = Credential()
        self._read_at = float("-inf")
        self._unreadable = False
        self._session: aiohttp.ClientSession | None = None
        self._retired: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "KubernetesClient":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for session in (self._session, self._retired):
            if session is not None:
                await session.close()

    @property
    def server(self) -> str:
        """The server's address, as far as it is known."""
        return self._access.server if self._access else ""

    async def get(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        accept: str = JSON,
        read_seconds: float = READ_SECONDS,
    ) -> bytes:
        """The whole answer."""
        async with self._request(path, params or {}, accept, read_seconds) as response:
            return await response.read()

    @asynccontextmanager
    async def watch(
        self, path: str, params: Mapping[str, str], *, accept: str = JSON
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The pieces of an answer that has no end, as they arrive."""
        async with self._request(path, params, accept, WATCH_READ_SECONDS) as response:
            yield response.content.iter_any()

    @asynccontextmanager
    async def _request(
        self, path: str, params: Mapping[str, str], accept: str, read_seconds: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        await self._limit.wait()
        before = await self._refresh(force=False)
        async with self._send(path, params, accept, read_seconds) as response:
            if response.status != 401:
                await _raise_refusal(response)
                yield response
                return
            refusal = await _refusal(response)
        # A token that was rotated since we read it.
        if await self._refresh(force=True) != before:
            async with self._send(path, params, accept, read_seconds) as response:
                if response.status != 401:
                    await _raise_refusal(response)
                    yield response
                    return
        message = f"{self.server} does not accept our credentials: {refusal}"
        raise AdapterRejectedError(message)

    @asynccontextmanager
    async def _send(
        self, path: str, params: Mapping[str, str], accept: str, read_seconds: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        access, session = self._access, self._session
        if access is None or session is None:
            message = "the client has no connection yet"
            raise AdapterUnavailableError(message)
        token = (access.token or self._credential.token).reveal().decode("latin-1")
        headers = [("Accept", accept), *access.impersonate]
        if token:
            headers.append(("Authorization", f"Bearer {token}"))
        options: dict[str, Any] = {"proxy": access.proxy} if access.proxy else {}
        if access.server_name:
            options["server_hostname"] = access.server_name
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=min(CONNECT_SECONDS, read_seconds), sock_read=read_seconds
        )
        async with (
            server_errors(access.server),
            session.get(
                access.server + path,
                params=params,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                **options,
            ) as response,
        ):
            yield response

    async def _refresh(self, *, force: bool) -> tuple[Access | None, Credential]:
        """Read the credentials again if that is due, and connect anew if TLS changed with them."""
        async with self._lock:
            now = self._clock()
            if not force and now - self._read_at < REREAD_SECONDS and self._fresh():
                return self._access, self._credential
            try:
                access = await asyncio.to_thread(self._load)
            except ConfigError as error:
                if force or self._access is None or self._unreadable:
                    raise AdapterRejectedError(_joined(error)) from error
                # Somebody may be writing it; if not, the next time tells.
                self._unreadable, self._read_at = True, now
                return self._access, self._credential
            self._unreadable = False
            old, old_credential = self._access, self._credential
            if old is not None and old.server != access.server:
                message = f"the kubeconfig names {access.server} now in place of {old.server}"
                raise AdapterUnavailableError(message)
            if access.exec is None:
                self._credential = Credential()
            elif force or old is None or access.exec != old.exec or not self._fresh():
                self._credential = await run_exec(access.exec, access)
            self._access = access
            self._read_at = now
            if old is None or _tls_of(old, old_credential) != _tls_of(access, self._credential):
                await self._connect(access)
            return self._access, self._credential

    def _fresh(self) -> bool:
        return self._credential.fresh(time.time())

    async def _connect(self, access: Access) -> None:
        """New requests go over new connections; those that run go on over the old ones."""
        tls = await asyncio.to_thread(build_tls, access, self._credential)
        connector = aiohttp.TCPConnector(limit=0, ssl=tls, socket_factory=_socket)
        session = aiohttp.ClientSession(
            connector=connector,
            # Compression costs the server more than the wire saves.
            headers={"User-Agent": "mesh-aggregator", "Accept-Encoding": "identity"},
            read_bufsize=1 << 18,
        )
        if self._retired is not None:
            await self._retired.close()
        self._retired, self._session = self._session, session


def _tls_of(access: Access, credential: Credential) -> tuple[object, ...]:
    return (
        access.ca,
        access.insecure,
        access.certificate or credential.certificate,
        access.key or credential.key,
    )


def _socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket that notices within half a minute that the other machine is gone."""
    family, kind, protocol = address[0], address[1], address[2]
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    return made


async def _raise_refusal(response: aiohttp.ClientResponse) -> None:
    if response.status != 200:
        raise await _refusal(response)


async def _refusal(response: aiohttp.ClientResponse) -> ApiError:
    body = await response.read()
    try:
        status = msgspec.json.decode(body, type=Status)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        status = Status(message=response.reason or "")
    try:
        retry_after = float(response.headers.get("Retry-After", "0"))
    except ValueError:
        retry_after = 0.0
    return ApiError(response.status, status.reason, status.message[:500], retry_after)


def _joined(error: ConfigError) -> str:
    return "; ".join(str(problem) for problem in error.problems)


@asynccontextmanager
async def server_errors(server: str) -> AsyncIterator[None]:
    """Map what the HTTP library raises."""
    try:
        yield
    except aiohttp.ClientConnectorCertificateError as error:
        reason = getattr(error.certificate_error, "verify_message", "") or error.certificate_error
        message = f"{server}: its certificate is not trusted: {reason}"
        raise AdapterUnavailableError(message) from error
    except aiohttp.ClientConnectorError as error:
        message = f"{server}: cannot connect: {error.os_error.strerror or error.os_error}"
        raise AdapterUnavailableError(message) from error
    except TimeoutError as error:
        message = f"{server} does not answer"
        raise AdapterUnavailableError(message) from error
    except (aiohttp.ClientError, ssl.SSLError, OSError) as error:
        message = f"{server}: the connection broke: {str(error) or type(error).__name__}"
        raise AdapterUnavailableError(message) from error
