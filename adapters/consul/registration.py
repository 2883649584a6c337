"""Keeps the daemon itself registered as a service of the agent, until it ends."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

import msgspec

from adapters.consul.client import ConsulClient
from adapters.consul.settings import ConsulRegistration
from aggregator.model.errors import AdapterError, Origin, Problem

SCOPE: Final = "registration"

_EVERY: Final = 5.0
_TTL: Final = "20s"
_GONE_AFTER: Final = "30m"
_LAST_WORD: Final = 2.0


class Registration:
    """One service of one instance, whose id tells daemons on several addresses apart."""

    def __init__(
        self,
        client: ConsulClient,
        settings: ConsulRegistration,
        remark: Callable[[str, Problem | None], None],
    ) -> None:
        self._client = client
        self._settings = settings
        self._remark = remark
        self.id: Final = f"{settings.name}-{settings.address}-{settings.port}"

    async def run(self) -> None:
        """Register, and again whenever the agent has forgotten; cancelled, say good-bye."""
        try:
            while True:
                try:
                    await self._assert()
                except AdapterError as error:
                    message = f"the daemon is not registered as {self.id!r}: {error}"
                    self._remark(SCOPE, Problem(Origin(self._client.agent), "", message))
                else:
                    self._remark(SCOPE, None)
                await asyncio.sleep(_EVERY)
        except asyncio.CancelledError:
            # It ends anyway; Consul finds out by the check if it cannot be told.
            with contextlib.suppress(AdapterError, TimeoutError):
                async with asyncio.timeout(_LAST_WORD):
                    await self._client.put(f"/v1/agent/service/deregister/{self.id}")
            raise

    async def _assert(self) -> None:
        """Register if the agent does not know of us, and say that we live."""
        if not await self._is_known():
            await self._client.put("/v1/agent/service/register", msgspec.json.encode(self._body()))
        if not self._settings.check:
            await self._client.put(f"/v1/agent/check/pass/service:{self.id}")

    async def _is_known(self) -> bool:
        return (await self._client.get(f"/v1/agent/service/{self.id}")).found

    def _body(self) -> dict[str, Any]:
        settings = self._settings
        check: dict[str, Any] = {"TTL": _TTL, "Status": "passing"}
        if settings.check:
            check = {"HTTP": settings.check, "Interval": "5s", "Timeout": "2s"}
        return {
            "ID": self.id,
            "Name": settings.name,
            "Address": settings.address,
            "Port": settings.port,
            "Tags": list(settings.tags),
            "Check": check | {"DeregisterCriticalServiceAfter": _GONE_AFTER},
        }
