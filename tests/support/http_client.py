"""An HTTP client for tests: says whom a request is for apart from where it is sent."""

import json
import ssl
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final

import aiohttp
from msgspec import Struct
from yarl import URL

TIMEOUT_SECONDS: Final = 10.0


class Answer(Struct, frozen=True):
    """A response; `headers` have lower-case names, `seconds` is how long it took."""

    status: int
    headers: Mapping[str, str]
    body: str
    seconds: float

    @property
    def data(self) -> dict[str, Any]:
        """The body of a backend's answer."""
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found

    @property
    def backend(self) -> str:
        """Which backend answered; "" if it was none."""
        return self.headers.get("x-backend", "")


class HttpClient:
    """Keeps connections open between requests, unless *keep_alive* is false. Follows nothing."""

    def __init__(self, *, keep_alive: bool = True, source: str = "") -> None:
        connector = aiohttp.TCPConnector(
            limit=0,
            force_close=not keep_alive,
            local_addr=(source, 0) if source else None,
        )
        self._session: Final = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
            skip_auto_headers=("Accept", "User-Agent", "Accept-Encoding"),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def __aenter__(self) -> "HttpClient":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def send(
        self,
        url: str,
        *,
        method: str = "GET",
        host: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        proxy: str = "",
        tls: ssl.SSLContext | None = None,
        server_name: str = "",
    ) -> Answer:
        """One request. *host* is the authority that it names, *server_name* the SNI.

        Raises OSError where no response came, whatever the reason.
        """
        sent = dict(headers or {})
        if host:
            sent["Host"] = host
        options: dict[str, Any] = {}
        if tls is not None:
            options["ssl"] = tls
            options["server_hostname"] = server_name or None
        started = time.monotonic()
        try:
            async with self._session.request(
                method,
                URL(url, encoded=True),
                headers=sent,
                data=body,
                proxy=proxy or None,
                allow_redirects=False,
                **options,
            ) as response:
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            message = f"{method} {url}: {type(error).__name__}: {error}"
            raise OSError(message) from error
        found = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, found, text, time.monotonic() - started)
