"""Looks up the host names of gateways: a cloud's load balancer may have nothing else, and proxies
are sent addresses only.

What is known of a name stays while nobody answers. Knows no registry.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from aggregator.registry.aggregate import Aggregate

log = structlog.get_logger(__name__)

LookUp = Callable[[str], Awaitable[tuple[str, ...]]]
"""The addresses of a host name. Raises OSError if nobody knows, socket.gaierror with EAI_NONAME if
there is no such name.
"""

LONGEST_ANSWER: Final = 10.0
BELIEVED: Final = 2
"""So many times in a row a name has to be unknown until it is believed."""


async def look_up(name: str) -> tuple[str, ...]:
    """Ask the system."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return tuple(sorted({str(address[0]) for _, _, _, _, address in found}))


class GatewayResolver:
    """Tells the aggregate the addresses of gateways that have names, every *refresh* seconds and
    whenever there are other names.
    """

    def __init__(
        self, aggregate: Aggregate, *, refresh: Callable[[], float], look_up: LookUp = look_up
    ) -> None:
        self._aggregate: Final = aggregate
        self._refresh: Final = refresh
        self._look_up: Final = look_up
        self._wake: Final = asyncio.Event()
        self._known: Final[dict[str, tuple[str, ...]]] = {}
        self._unknown: Final[dict[str, int]] = {}
        self._told: Final[set[str]] = set()
        aggregate.watch_places(self._wake.set)

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            names = self._aggregate.gateway_names()
            await asyncio.gather(*(self._resolve(name) for name in sorted(names)))
            for gone in self._known.keys() - names:
                del self._known[gone]
            self._aggregate.set_gateway_addresses(self._known)
            await self._wait(names)

    async def _wait(self, names: frozenset[str]) -> None:
        """Return when it is time, or there are other names."""
        try:
            async with asyncio.timeout(self._refresh() if names else None):
                while self._aggregate.gateway_names() == names:
                    self._wake.clear()
                    await self._wake.wait()
        except TimeoutError:
            pass

    async def _resolve(self, name: str) -> None:
        try:
            async with asyncio.timeout(LONGEST_ANSWER):
                found = await self._look_up(name)
        except OSError as error:
            unknown = isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME
            self._unknown[name] = self._unknown.get(name, 0) + 1 if unknown else 0
            if self._unknown[name] >= BELIEVED:
                self._known.pop(name, None)
            if name not in self._told:
                self._told.add(name)
                kept = list(self._known.get(name, ()))
                log.warning("gateway_unresolved", gateway=name, error=str(error), kept=kept)
            return
        self._unknown.pop(name, None)
        self._told.discard(name)
        self._known[name] = found
