from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import ClientSession
from consul import base

T = TypeVar("T")

class HTTPClient(base.HTTPClient):
    _session: ClientSession
    def get(
        self,
        callback: Callable[[base.Response], T],
        path: str,
        params: list[tuple[str, str]] | None = ...,
        headers: dict[str, str] | None = ...,
        raw: bool = ...,
        connections_timeout: float | None = ...,
    ) -> Awaitable[T]: ...
    def put(
        self,
        callback: Callable[[base.Response], T],
        path: str,
        params: list[tuple[str, str]] | None = ...,
        data: str | bytes = ...,
        headers: dict[str, str] | None = ...,
        connections_timeout: float | None = ...,
    ) -> Awaitable[T]: ...
    def close(self) -> Awaitable[None]: ...
