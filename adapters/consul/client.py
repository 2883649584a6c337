"""Consul's HTTP API: questions, what answers tell of themselves, and errors in our words.

Knows nothing of services. The library's HTTP layer is used, since its methods lack parameters.
"""

import asyncio
import errno
import os
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import Final, NoReturn

import aiohttp
from consul import base
from consul.aio import HTTPClient
from msgspec import Struct

from adapters.consul.pace import backoff
from adapters.consul.settings import Consistency, ConsulSettings, ConsulTls
from adapters.consul.token import Token
from aggregator.model.errors import AdapterRejectedError, AdapterUnavailableError

Params = Sequence[tuple[str, str]]

MOST_CONNECTIONS: Final = 190
"""Consul grants a client's address 200 by default; a few are left for its own command line."""

AT_ONCE: Final = 12
"""Questions that do not wait for news, at most."""

_LONGEST_SHOWN: Final = 200


class AgentBusyError(AdapterUnavailableError):
    """The agent grants this machine no further connection at present."""


class Answer(Struct, frozen=True):
    """What came back, with the index to wait from for the next one.

    `found` is false where the API answers 404 for "nothing there". `filtered` says that the token
    may not see all of it.
    """

    body: bytes
    index: int
    found: bool = True
    filtered: bool = False

    @property
    def shown(self) -> bytes:
        """Equal for answers that say the same. What a token may see changes without the index."""
        key = b"filtered" if self.filtered else b""
        return blake2b(self.body, digest_size=16, key=key).digest()


class _Question(Struct, frozen=True):
    """One request, and how many seconds its answer may take."""

    method: str
    path: str
    patience: float
    params: Params = ()
    body: bytes = b""


class _Layer(HTTPClient):
    """The library's asyncio layer on a session of ours, with our limits and certificates."""

    def __init__(
        self, address: str, scheme: str, context: ssl.SSLContext | None, most: int
    ) -> None:
        host, _, port = address.rpartition(":")
        base.HTTPClient.__init__(self, host, int(port), scheme)
        connector = aiohttp.TCPConnector(limit=most, ssl=context or True)
        self._session = aiohttp.ClientSession(connector=connector)


class ConsulClient:
    """Asks one of several agents, and the next one when that fails. Open it by `connect`."""

    def __init__(
        self,
        settings: ConsulSettings,
        token: Token,
        layers: Sequence[HTTPClient],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._settings = settings
        self._token = token
        self._layers = layers
        self._current = 0
        self._at_once = asyncio.Semaphore(AT_ONCE)

    @property
    def agent(self) -> str:
        """The address that is asked at present."""
        return str(self._layers[self._current].base_uri)

    async def get(
        self,
        path: str,
        params: Params = (),
        *,
        index: int = 0,
        by_leader: bool = False,
        patient: bool = True,
    ) -> Answer:
        """Read *path*; with *index*, once there is news since then, or the settings' wait is over.

        Where the agent grants no connection, a *patient* question is tried again until those that
        an earlier run left behind have surely ended. Raises AdapterUnavailableError (AgentBusyError
        if it is that) or AdapterRejectedError.
        """
        deadline = self._clock() + self._settings.wait * 2 + self._settings.timeout
        for failures in count():
            try:
                return await self._get_once(path, params, index, by_leader=by_leader)
            except AgentBusyError:
                if not patient or self._clock() >= deadline:
                    raise
            await self._sleep(backoff(failures))
        raise AssertionError

    async def _get_once(self, path: str, params: Params, index: int, *, by_leader: bool) -> Answer:
        if index:
            answer = await self._get_certain(path, params, index, by_leader=by_leader)
            if answer.found and answer.body.strip() not in _NOTHING:
                return answer
            # Empty or hidden: of an answer that came late Consul does not always say which.
        async with self._at_once:
            return await self._get_certain(path, params, 0, by_leader=by_leader)

    async def _get_certain(
        self, path: str, params: Params, index: int, *, by_leader: bool
    ) -> Answer:
        consistency = Consistency.DEFAULT if by_leader else self._settings.consistency
        answer = await self._get(path, params, index, consistency)
        if answer is None:
            # The server has lost touch with the rest: only the leader's word counts.
            answer = await self._get(path, params, index, Consistency.DEFAULT)
        if answer is None:
            message = f"{self.agent}{path}: the servers have no leader"
            raise AdapterUnavailableError(message)
        return answer

    async def put(self, path: str, body: bytes = b"", params: Params = ()) -> None:
        """Write *path* on the agent that is asked at present."""
        await self._ask(_Question("PUT", path, self._settings.timeout, params, body))

    async def _get(
        self, path: str, params: Params, index: int, consistency: Consistency
    ) -> Answer | None:
        """The answer; None if the server that gave it is too far behind."""
        asked = list(params)
        if consistency is not Consistency.DEFAULT:
            asked.append((consistency.value, ""))
        patience = float(self._settings.timeout)
        if index:
            wait = self._settings.wait
            asked += (("index", str(index)), ("wait", f"{max(1, round(wait * 1000))}ms"))
            # Consul adds up to a sixteenth, so that not all come at once.
            patience += wait * 17 / 16
        response = await self._ask(_Question("GET", path, patience, asked))
        headers = response.headers
        if consistency is Consistency.STALE and self._too_stale(headers):
            return None
        body = response.body
        return Answer(
            body if isinstance(body, bytes) else body.encode(),
            _number(headers, "X-Consul-Index"),
            found=response.code != _NOT_FOUND,
            filtered=self._is_filtered(headers),
        )

    def _is_filtered(self, headers: Mapping[str, str]) -> bool:
        if headers.get("X-Consul-Results-Filtered-By-ACLs", "") == "true":
            return True
        # Of those without a token Consul does not say it.
        return not self._token.value and headers.get("X-Consul-Default-ACL-Policy", "") == "deny"

    def _too_stale(self, headers: Mapping[str, str]) -> bool:
        if headers.get("X-Consul-KnownLeader", "true") != "true":
            return True
        return _number(headers, "X-Consul-LastContact") > self._settings.max_stale * 1000

    async def _ask(self, question: _Question) -> base.Response:
        """Ask the present agent; the others in turn where one cannot be reached."""
        for _ in self._layers[1:]:
            number = self._current
            try:
                return await self._ask_one(self._layers[number], question)
            except AdapterUnavailableError:
                if self._current == number:
                    self._current = (number + 1) % len(self._layers)
        return await self._ask_one(self._layers[self._current], question)

    async def _ask_one(self, layer: HTTPClient, question: _Question) -> base.Response:
        used = self._token.value
        response = await self._send(layer, question)
        if response.code == _FORBIDDEN:
            # The token may have been exchanged while we waited, or just now.
            await self._token.read()
            if self._token.value != used:
                response = await self._send(layer, question)
        missing = response.code == _NOT_FOUND and question.method == "GET"
        if response.code != _OK and not missing:
            _refuse(f"{layer.base_uri}{question.path}", response)
        return response

    async def _send(self, layer: HTTPClient, question: _Question) -> base.Response:
        headers = {"X-Consul-Token": self._token.value} if self._token.value else {}
        where = f"{layer.base_uri}{question.path}"
        path, params, patience = question.path, list(question.params), question.patience
        try:
            if question.method == "PUT":
                return await layer.put(
                    _whole, path, params, question.body, headers, connections_timeout=patience
                )
            return await layer.get(
                _whole, path, params, headers, raw=True, connections_timeout=patience
            )
        except TimeoutError as error:
            message = f"{where}: no answer within {patience:g} s"
            raise AdapterUnavailableError(message) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise AdapterUnavailableError(f"{where}: {_shown(_reason(error))}") from error

    async def aclose(self) -> None:
        """Close all connections."""
        for layer in self._layers:
            await layer.close()


_NOTHING: Final = (b"[]", b"{}", b"null")
_OK: Final = 200
_FORBIDDEN: Final = 403
_NOT_FOUND: Final = 404
_BUSY: Final = 429
_REFUSALS: Final = frozenset({400, 401, 403})


@asynccontextmanager
async def connect(
    settings: ConsulSettings, token: Token, base_dir: Path
) -> AsyncIterator[ConsulClient]:
    """A client for the block. Nothing is asked yet.

    Raises AdapterRejectedError if the token or certificates cannot be read.
    """
    await token.read()
    context = None
    if settings.tls is not None or any(each.startswith("https:") for each in settings.addresses):
        context = await asyncio.to_thread(_tls_context, settings.tls or ConsulTls(), base_dir)
    layers = [_layer(each, settings, context) for each in settings.addresses]
    client = ConsulClient(settings, token, layers)
    try:
        yield client
    finally:
        await client.aclose()


def _layer(address: str, settings: ConsulSettings, context: ssl.SSLContext | None) -> HTTPClient:
    scheme, _, bare = address.rpartition("://")
    scheme = scheme or ("https" if settings.tls is not None else "http")
    return _Layer(bare, scheme, context, MOST_CONNECTIONS)


def _tls_context(tls: ConsulTls, base_dir: Path) -> ssl.SSLContext:
    path = ""
    try:
        path = tls.ca
        context = ssl.create_default_context(cafile=str(base_dir / tls.ca) if tls.ca else None)
        if tls.cert:
            path = tls.cert
            key = str(base_dir / tls.key) if tls.key else None
            context.load_cert_chain(str(base_dir / tls.cert), key)
    except (OSError, ssl.SSLError) as error:
        message = f"tls file {path or tls.key}: {(error.strerror or str(error)).lower()}"
        raise AdapterRejectedError(message) from error
    return context


def _whole(response: base.Response) -> base.Response:
    return response


def _number(headers: Mapping[str, str], name: str) -> int:
    text = headers.get(name, "0")
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 20 else 0


def _refuse(where: str, response: base.Response) -> NoReturn:
    body = response.body
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
    message = f"{where}: {response.code} {_shown(text)}"
    if response.code == _BUSY:
        raise AgentBusyError(message)
    if response.code in _REFUSALS or "ACL not found" in text or "Permission denied" in text:
        raise AdapterRejectedError(message)
    raise AdapterUnavailableError(message)


def _reason(error: Exception) -> str:
    """Why there is no answer, without the address, which the library repeats in its own form."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return str(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        known = cause.errno is not None and cause.errno in errno.errorcode
        return f"cannot connect: {os.strerror(cause.errno or 0) if known else cause}".lower()
    return str(error) or type(error).__name__


def _shown(text: str) -> str:
    """One line of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_SHOWN else line[:_LONGEST_SHOWN] + "…"
