"""Keeps keys in a store while their owner lives: granted, refreshed, written again, revoked.

Knows neither what the keys hold nor which registry the store is.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Final

from aggregator.model.errors import AdapterError, AdapterRejectedError
from aggregator.model.store import OpenStore, Store
from aggregator.registry.backoff import wait_after

_REFRESHES: Final = 3
"""How often a lease is refreshed in its time: two may fail."""

_GOODBYE: Final = 5.0
"""Seconds for taking the keys away at the end, which the lease does later anyway."""


class Registration:
    """Keys with a lease of *seconds*. *tell* takes lines for people."""

    def __init__(
        self,
        open_store: Callable[[], OpenStore],
        values: Mapping[str, bytes],
        seconds: int,
        tell: Callable[[str], None],
    ) -> None:
        self._open: Final = open_store
        self._values: Final = values
        self._seconds: Final = seconds
        self._tell: Final = tell
        self._lease = 0

    async def run(self) -> None:
        """Keep the keys there until cancelled, then take them away.

        A store that does not answer is tried again; being refused is an error at first only.
        """
        try:
            await self._keep_registered()
        finally:
            await self._revoke()

    async def _keep_registered(self) -> None:
        failures = 0
        while True:
            try:
                async with self._open() as store:
                    await self._register(store)
                    failures = 0
                    await self._keep_alive(store)
            except AdapterError as error:
                if isinstance(error, AdapterRejectedError) and not self._lease:
                    raise
                failures += 1
                if failures == 1:
                    self._tell(f"{error}; trying again")
            await asyncio.sleep(wait_after(failures, self._seconds / _REFRESHES, random.random))

    async def _register(self, store: Store) -> None:
        lease = await store.grant(self._seconds)
        # Keys that still had an earlier lease have this one from now on.
        await store.put(self._values, lease=lease)
        self._lease = lease
        for key in self._values:
            self._tell(f"registered {key}")

    async def _keep_alive(self, store: Store) -> None:
        """Refresh the lease until it turns out to be lost."""
        alive = True
        while alive:
            await asyncio.sleep(self._seconds / _REFRESHES)
            alive = await store.refresh(self._lease)
        self._tell("the lease ran out; registering again")

    async def _revoke(self) -> None:
        if not self._lease:
            return
        try:
            async with asyncio.timeout(_GOODBYE), self._open() as store:
                await store.revoke(self._lease)
        except (AdapterError, TimeoutError) as error:
            self._tell(f"{str(error) or 'no answer'}; the keys go when their lease runs out")
        else:
            self._tell("deregistered")
