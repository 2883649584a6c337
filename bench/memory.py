"""A registry in memory: lists the mesh that is measured, then changes it when it is told to.

What comes after an adapter is measured from here, without any registry's own delays.
"""

import asyncio
from typing import Final

from msgspec import Struct

from aggregator.model.registry import Content, Item, RegistryContext, RegistrySink, ShardKey
from bench.mesh import Change, Mesh

LISTED_AT_ONCE: Final = 250
"""So many services are listed before others have a turn, as adapters of large registries do."""


LAST_MARK: Final = "172.31.255.255"
"""The address that the last change of a churn brings."""


class MemorySettings(Struct, frozen=True):
    """It takes none."""


class MemoryAdapter:
    """Each service is a scope of its own."""

    def __init__(self, context: RegistryContext, mesh: Mesh) -> None:
        self._name: Final = context.name
        self._mesh: Final = mesh
        self._sink: RegistrySink | None = None

    async def run(self, sink: RegistrySink) -> None:
        """List everything, and stay."""
        for number in range(self._mesh.services):
            self._put(sink, Content.SERVICES, self._mesh.item(number))
            if number % LISTED_AT_ONCE == 0:
                await asyncio.sleep(0)
        self._put(sink, Content.RULES, self._mesh.rule(0, "none"))
        sink.synced()
        self._sink = sink
        await asyncio.get_running_loop().create_future()

    def change(self, change: Change, mark: str) -> None:
        """Tell the sink of one change. Raises RuntimeError before the listing is complete."""
        if self._sink is None:
            message = "nothing was listed yet"
            raise RuntimeError(message)
        match change:
            case Change.ENDPOINT:
                self._put(self._sink, Content.SERVICES, self._mesh.item(0, mark))
            case Change.RULE:
                self._put(self._sink, Content.RULES, self._mesh.rule(0, mark))
            case Change.SERVICE:
                self._put(self._sink, Content.SERVICES, self._mesh.new_item(mark))
            case _:
                message = f"memory knows no change of kind {change}"
                raise ValueError(message)

    async def churn(self, seconds: float, per_second: int) -> int:
        """Change one endpoint after the other, evenly spread; returns how many changes were made.

        The last of them is that of the mark ``172.31.255.255``, at the first service.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        made = 0
        while (passed := loop.time() - began) < seconds:
            while made < passed * per_second:
                self._move(made % self._mesh.services, f"172.16.{made >> 8 & 255}.{made & 255}")
                made += 1
            await asyncio.sleep(0.001)
        self._move(0, LAST_MARK)
        return made + 1

    def _move(self, number: int, mark: str) -> None:
        if self._sink is None:
            message = "nothing was listed yet"
            raise RuntimeError(message)
        self._put(self._sink, Content.SERVICES, self._mesh.item(number, mark))

    def _put(self, sink: RegistrySink, content: Content, item: Item) -> None:
        host = getattr(item, "host", "rules")
        sink.update(ShardKey(self._name, host, content), host, item)
