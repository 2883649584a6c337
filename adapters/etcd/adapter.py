"""The keys below a prefix of etcd as a registry: listed at one revision, watched from the next.

A key that is deleted is deletion; one whose lease ran out is expiry, which is judged when it
befalls many, as is what a listing lacks. A key that cannot be decoded keeps what it said last.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import groupby
from typing import Final

import structlog
from aetcd.rpc import kv_pb2
from structlog.typing import FilteringBoundLogger

from adapters.etcd.client import (
    CompactedError,
    DeniedError,
    EtcdClient,
    Happened,
    Page,
    connect,
    end_of,
)
from adapters.etcd.decode import Read, digest_of, read_key, scope_of
from adapters.etcd.ledger import Ledger
from adapters.etcd.settings import EtcdSettings, validate
from adapters.etcd.store import open_store
from aggregator.model.errors import AdapterUnavailableError, Origin, Problem, Severity
from aggregator.model.registry import Adapter, AdapterSpec, RegistryContext, RegistrySink
from config.keyed import Section

RELIST: Final = 600.0
RELIST_DENIED: Final = 60.0
"""How soon everything is listed again; the second while a part of it may not be read."""

_OVERHEAD: Final = 1000
_INLINE: Final = 16_000
_CHUNK: Final = 100_000
"""What is decoded at once and in one piece: bytes of values, and so many more for each key."""

_AT_ONCE: Final = 200
"""Keys that are committed before others have their turn."""

_LEASES_ASKED: Final = 32
"""About so many leases we ask; if more are gone at once, nobody has deleted their keys."""

_STRAYS: Final = "*"
_STRAYS_TOLD: Final = 3


Connect = Callable[[str, EtcdSettings, str], AbstractAsyncContextManager[EtcdClient]]
"""A connection to an endpoint; relative paths start at the folder of the last argument."""


class EtcdAdapter:
    """Feeds the mesh from one etcd cluster."""

    def __init__(
        self,
        context: RegistryContext,
        settings: EtcdSettings,
        *,
        relist: float = RELIST,
        connect: Connect = connect,
        log: FilteringBoundLogger | None = None,
    ) -> None:
        self._context: Final = context
        self._settings: Final = settings
        self._relist: Final = relist
        self._connect: Final = connect
        bare: FilteringBoundLogger = log or structlog.get_logger(__name__)
        self._log: Final = bare.bind(adapter=context.name, cluster_id=context.cluster_id)

    async def run(self, sink: RegistrySink) -> None:
        """Feed *sink* until cancelled, from one member after the other.

        Raises AdapterUnavailableError when the last of them fails, AdapterRejectedError when one
        refuses us.
        """
        ledger = Ledger(sink, self._context.name)
        failures: list[str] = []
        for endpoint in self._settings.endpoints:
            try:
                connection = self._connect(endpoint, self._settings, self._context.base_dir)
                async with connection as client:
                    self._log.debug("etcd_member_followed", endpoint=endpoint)
                    await _Follower(
                        client, ledger, self._settings.prefix, self._context, self._relist
                    ).follow()
            except AdapterUnavailableError as error:
                failures.append(str(error))
                if endpoint != self._settings.endpoints[-1]:
                    # The last one's failure is the registry's, which the supervisor tells.
                    self._log.warning("etcd_member_failed", error=str(error))
        raise AdapterUnavailableError("; ".join(failures))


class _Follower:
    """Keeps what was told in line with one member."""

    def __init__(
        self,
        client: EtcdClient,
        ledger: Ledger,
        prefix: str,
        context: RegistryContext,
        relist: float,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._prefix = prefix.encode()
        self._context = context
        self._relist = relist
        self._sections = [each for each in Section if each != Section.RULES or context.rules]
        self._denied: set[Section] = set()

    async def follow(self) -> None:
        """List and watch, again and again; ends with an error only."""
        while True:
            revision = await self._list()
            await self._watch(revision)

    # Listing

    async def _list(self) -> int:
        """Read everything as of one revision, which is returned."""
        revision = 0
        scopes: set[str] = set()
        remarks: dict[str, Sequence[Problem]] = {}
        self._denied.clear()
        for section in self._sections:
            try:
                async for page in self._client.pages(*self._range(section), revision):
                    revision = page.revision
                    scopes |= await self._take_listed(page)
            except DeniedError as error:
                self._denied.add(section)
                if len(self._denied) == len(self._sections):
                    raise
                origin = self._origin(self._prefix + section.folder.encode())
                remarks[section.folder] = (Problem(origin, "", str(error)),)
        if strays := await self._strays(revision):
            remarks[_STRAYS] = strays
        self._ledger.listed(scopes, remarks)
        return revision

    async def _take_listed(self, page: Page) -> set[str]:
        scopes: set[str] = set()
        new: list[kv_pb2.KeyValue] = []
        for kv in page.kvs:
            scope = scope_of(kv.key, self._prefix)
            scopes.add(scope)
            if not self._ledger.has(scope, digest_of(kv.value, kv.lease)):
                new.append(kv)
        for chunk in _chunks(new):
            for read in await asyncio.to_thread(self._read, chunk):
                self._ledger.put(read, page.revision, changed=False)
        return scopes

    async def _strays(self, revision: int) -> tuple[Problem, ...]:
        """Keys below the prefix that nothing reads, which are most likely slips of the pen."""
        start, found = self._prefix, []
        for key, end in [*sorted(map(self._range, Section)), (end_of(self._prefix), b"")]:
            try:
                found += await self._client.some_keys(start, key, revision, _STRAYS_TOLD + 1)
            except DeniedError:
                return ()
            start = end
        expected = ", ".join(each.folder for each in Section)
        message = f"nothing reads this key; expected {expected} after the prefix"
        problems = [
            Problem(self._origin(key), "", message, Severity.WARNING)
            for key in found[:_STRAYS_TOLD]
        ]
        if len(found) > _STRAYS_TOLD:
            message = "nothing reads this key either; there may be more"
            origin = self._origin(found[_STRAYS_TOLD])
            problems.append(Problem(origin, "", message, Severity.WARNING))
        return tuple(problems)

    # Watching

    async def _watch(self, revision: int) -> None:
        """Follow what happened since *revision*; returns when it is time to list again."""
        clock = asyncio.get_running_loop().time
        heard = False
        interval = min(self._relist, RELIST_DENIED) if self._denied else self._relist
        due = clock() + interval * random.uniform(0.8, 1.2)  # noqa: S311 - only spreads load.
        ranges = [self._range(each) for each in self._sections if each not in self._denied]
        async with self._client.watch(ranges, revision + 1) as watch:
            while clock() < due:
                try:
                    happened = await watch.next()
                except CompactedError:
                    if not heard:
                        raise  # What was just listed is gone already; the next one would be too.
                    return
                heard = True
                if happened.events:
                    await self._take(happened)

    async def _take(self, happened: Happened) -> None:
        """Commit what happened, of each key only the last; what is of one revision in one step."""
        latest: dict[bytes, kv_pb2.Event] = {}
        for event in happened.events:
            latest.pop(event.kv.key, None)
            latest[event.kv.key] = event
        puts = [event.kv for event in latest.values() if event.type == kv_pb2.Event.PUT]
        expired = await self._expired(
            [event.kv for event in latest.values() if event.type == kv_pb2.Event.DELETE]
        )
        reads = {kv.key: read for kv, read in zip(puts, await self._decode(puts), strict=True)}
        done = 0
        for _, together in groupby(latest.values(), lambda event: event.kv.mod_revision):
            # What comes, before what goes.
            for event in sorted(together, key=lambda event: event.type):
                key = event.kv.key
                if key in reads:
                    self._ledger.put(reads[key], happened.revision, changed=True)
                else:
                    self._ledger.delete(scope_of(key, self._prefix), expired=key in expired)
                done += 1
            if done >= _AT_ONCE:
                done = 0
                await asyncio.sleep(0)

    async def _decode(self, kvs: Sequence[kv_pb2.KeyValue]) -> list[Read]:
        """Decode a few at once, many in a thread."""
        if sum(_OVERHEAD + len(kv.value) for kv in kvs) <= _INLINE:
            return self._read(kvs)
        reads: list[Read] = []
        for chunk in _chunks(kvs):
            reads += await asyncio.to_thread(self._read, chunk)
        return reads

    async def _expired(self, deletes: Sequence[kv_pb2.KeyValue]) -> set[bytes]:
        """The keys that went because their lease did.

        The event does not say so. A lease takes all its keys along in one revision, and no others;
        and it is gone thereafter.
        """
        leases: defaultdict[int, set[int]] = defaultdict(set)
        for kv in deletes:
            leases[kv.mod_revision].add(self._lease_of(kv))
        alone = {each.pop() for each in leases.values() if len(each) == 1} - {0}
        if len(alone) <= _LEASES_ASKED:
            lives = await asyncio.gather(*(self._lives(lease) for lease in alone))
            alone = {lease for lease, alive in zip(alone, lives, strict=True) if not alive}
        return {kv.key for kv in deletes if self._lease_of(kv) in alone}

    def _lease_of(self, kv: kv_pb2.KeyValue) -> int:
        return self._ledger.lease_of(scope_of(kv.key, self._prefix))

    async def _lives(self, lease: int) -> bool:
        try:
            return await self._client.lease_lives(lease)
        except DeniedError:
            # It has keys that we may not see; the loss can still be judged.
            return False

    # Keys

    def _range(self, section: Section) -> tuple[bytes, bytes]:
        folder = self._prefix + section.folder.encode()
        return folder, end_of(folder)

    def _origin(self, key: bytes) -> Origin:
        return Origin(f"{self._context.name}:{key.decode('utf-8', 'backslashreplace')}")

    def _read(self, kvs: Iterable[kv_pb2.KeyValue]) -> list[Read]:
        return [read_key(kv.key, kv.value, kv.lease, self._prefix, self._context) for kv in kvs]


def _chunks(kvs: Iterable[kv_pb2.KeyValue]) -> Iterator[list[kv_pb2.KeyValue]]:
    """Cut a long list so that decoding and committing each part takes some 20 ms."""
    part: list[kv_pb2.KeyValue] = []
    weight = 0
    for kv in kvs:
        part.append(kv)
        weight += _OVERHEAD + len(kv.value)
        if weight >= _CHUNK:
            yield part
            part, weight = [], 0
    if part:
        yield part


def create(context: RegistryContext, settings: EtcdSettings) -> Adapter:
    """Make the adapter of one etcd cluster."""
    return EtcdAdapter(context, settings)


ADAPTER: Final = AdapterSpec(
    "etcd",
    EtcdSettings,
    create,
    extra="etcd",
    longest_wait=15.0,
    validate=validate,
    open_store=open_store,
)
