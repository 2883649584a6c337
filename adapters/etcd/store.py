"""Writes and reads single keys below the prefix, for the command line."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from aetcd.rpc import kv_pb2

from adapters.etcd.client import EtcdClient, connect, end_of
from adapters.etcd.settings import EtcdSettings
from aggregator.model.errors import AdapterUnavailableError
from aggregator.model.registry import RegistryContext
from aggregator.model.store import Store, Stored

_OPERATIONS: Final = 100
"""Of one transaction; etcd takes 128 unless told otherwise."""

_NO_LEASE: Final = 1


class EtcdStore:
    """Keys below the prefix, on one member."""

    def __init__(self, client: EtcdClient, prefix: str) -> None:
        self._client: Final = client
        self._prefix: Final = prefix.encode()

    async def list(self, below: str) -> AsyncIterator[Stored]:
        """All that begins with *below*."""
        start = self._key(below)
        async for page in self._client.pages(start, end_of(start)):
            for kv in page.kvs:
                yield self._stored(kv)

    async def get(self, key: str) -> Stored | None:
        """One key."""
        kv = await self._client.get(self._key(key))
        return None if kv is None else self._stored(kv)

    async def put(self, values: Mapping[str, bytes], *, lease: int = 0) -> None:
        """Write *values*, a hundred of them in one transaction."""
        items = [(self._key(key), value) for key, value in values.items()]
        for start in range(0, len(items), _OPERATIONS):
            await self._client.put(items[start : start + _OPERATIONS], lease)

    async def delete(self, key: str) -> bool:
        """Delete one key."""
        return await self._client.delete(self._key(key))

    async def grant(self, seconds: int) -> int:
        """A lease."""
        return await self._client.grant(seconds)

    async def refresh(self, lease: int) -> bool:
        """Let the lease live on."""
        return await self._client.refresh(lease)

    async def revoke(self, lease: int) -> None:
        """End a lease."""
        await self._client.revoke(lease)

    def _key(self, key: str) -> bytes:
        return self._prefix + key.encode("utf-8", "surrogateescape")

    def _stored(self, kv: kv_pb2.KeyValue) -> Stored:
        key = kv.key[len(self._prefix) :].decode("utf-8", "surrogateescape")
        return Stored(key, kv.value, kv.mod_revision, kv.lease)


@asynccontextmanager
async def open_store(context: RegistryContext, settings: EtcdSettings) -> AsyncIterator[Store]:
    """Connect to the first member that answers."""
    failures: list[str] = []
    async with AsyncExitStack() as stack:
        for endpoint in settings.endpoints:
            try:
                client = await stack.enter_async_context(
                    connect(endpoint, settings, context.base_dir)
                )
                # Connecting happens with the first request only, and this one everybody may make.
                await client.lease_lives(_NO_LEASE)
            except AdapterUnavailableError as error:
                failures.append(str(error))
            else:
                yield EtcdStore(client, settings.prefix)
                return
        raise AdapterUnavailableError("; ".join(failures))
