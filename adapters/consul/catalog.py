"""Follows the services of one scope: a listing, watches for the few that change most, and sweeps.

Consul grants one machine about 200 connections, so most services cannot have a watch. They are
looked at again when something moved: first those whose checks did, then the rest, at a pace.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Final

from msgspec import Struct

from adapters.consul.answer import Check, read_answer
from adapters.consul.client import AgentBusyError, Answer, ConsulClient, Params
from adapters.consul.decode import Decoder, Scope
from adapters.consul.known import KnownServices
from adapters.consul.pace import Cursor, Pace, Slots, Step, SweepQueue, backoff
from adapters.consul.settings import ALL, ConsulSettings
from aggregator.model.errors import (
    AdapterRejectedError,
    AdapterUnavailableError,
    Origin,
    Problem,
)
from aggregator.model.registry import RegistrySink, ShardKey

RESYNC: Final = 600.0
"""How often everything is looked at although nothing moved, in seconds."""

_READERS: Final = 8
_SWEEPERS: Final = 4
_PATIENCE: Final = 3
"""Failures in a row of sweeps before the agent counts as not answering."""

_PAUSE: Final = 0.1
_SHARE: Final = 0.05
"""Of our time, what reading listings may take while they change all the time."""

_BUSY: Final = 15.0
_CHUNK: Final = 100

Listing = dict[str, list[str]]


class Marks(Struct, frozen=True):
    """What tells whether checks have changed: of each service, of each node, and who is on it."""

    services: Mapping[str, int]
    nodes: Mapping[str, int]
    tenants: Mapping[str, frozenset[str]]


class CatalogFollower:
    """Keeps one shard in line with what Consul lists."""

    def __init__(
        self,
        client: ConsulClient,
        sink: RegistrySink,
        shard: ShardKey,
        scope: Scope,
        settings: ConsulSettings,
        decoder: Decoder,
        slots: Slots,
        report: Callable[[tuple[Problem, ...]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._sink = sink
        self._shard = shard
        self._settings = settings
        self._slots = slots
        self._report = report
        self._clock = clock
        told = {"dc": scope.datacenter, "ns": scope.namespace, "partition": scope.partition}
        self._params: Params = [(key, value) for key, value in told.items() if value]
        self._origin = Origin(f"{shard.registry}/{scope}")
        self._decoder = decoder
        self._known = KnownServices(decoder, self._origin)
        self._names: Listing = {}
        self._revision = ""
        self._watched: set[str] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._queue = SweepQueue(
            Pace(settings.sweep_rate, _SWEEP_BURST * settings.sweep_rate, clock)
        )
        self._marks: Marks | None = None
        self._checks = Cursor(settings.wait)
        self._unread: set[str] = set()
        self._shrunk = False
        self._shrunk_at = -_CONFIRM_FOR
        self._busy_until = 0.0
        self._failures = 0

    async def follow(self, on_listed: Callable[[], None]) -> None:
        """Read everything, then all changes; *on_listed* is called after the first.

        Raises AdapterUnavailableError or AdapterRejectedError, alone or in groups.
        """
        answer = await self._client.get(_LIST, self._params)
        self._revision = str(answer.index)
        self._names = self._read_list(answer)
        if len(self._names) > self._settings.watches:
            # Taken before services are read, so that what changes meanwhile shows afterwards.
            await self._look_at_checks()
        await self._read_all()
        on_listed()
        async with asyncio.TaskGroup() as group:
            for name in self._names:
                self._slots.offer(self._key(name))
            group.create_task(self._follow_list(answer))
            group.create_task(self._follow_checks())
            group.create_task(self._resync())
            group.create_task(self._confirm())
            for _ in range(_SWEEPERS):
                group.create_task(self._sweep())
            group.create_task(self._keep_watching(group))

    # The listing

    async def _read_all(self) -> None:
        """Read every listed service, and commit them as a whole."""
        names = iter(list(self._names))
        async with asyncio.TaskGroup() as group:
            for _ in range(_READERS):
                group.create_task(self._read_some(names))
        # Bit by bit, because merging thousands of services takes its time.
        items = self._known.items()
        for number, (name, item) in enumerate(items.items(), 1):
            self._sink.update(self._shard, name, item, expired=True)
            if number % _CHUNK == 0:
                await asyncio.sleep(0)
        self._commit()

    async def _read_some(self, names: Iterator[str]) -> None:
        for name in names:
            for failures in range(_PATIENCE):
                try:
                    self._known.take(name, await self._ask(name))
                except AdapterUnavailableError:
                    if failures == _PATIENCE - 1:
                        raise
                    await asyncio.sleep(backoff(failures))
                else:
                    break

    async def _follow_list(self, first: Answer) -> None:
        index, shown = first.index, first.shown
        cursor = Cursor(self._settings.wait, index)
        while True:
            asked = self._clock()
            answer = await self._client.get(_LIST, self._params, index=cursor.ask)
            began = self._clock()
            step = cursor.take(answer.index, began - asked)
            if step is Step.BACK:
                await self._check_index(index)
            index = answer.index
            if step is not Step.STAYED or answer.shown != shown:
                shown = answer.shown
                self._take_list(answer)
            await asyncio.sleep(_pause(self._clock() - began))

    async def _check_index(self, index: int) -> None:
        """Tell a server that lags behind from a datacenter that was restored from a backup."""
        answer = await self._client.get(_LIST, self._params, by_leader=True)
        if answer.index < index:
            message = f"the index went back from {index} to {answer.index}: everything is read anew"
            raise AdapterUnavailableError(message)

    def _take_list(self, answer: Answer, *, sweep: bool = True) -> None:
        self._revision = str(answer.index)
        listed = self._read_list(answer)
        before, self._names = self._names, listed
        for name, tags in listed.items():
            if before.get(name) != tags:
                self._queue.hurry(name)
            elif sweep and name not in self._watched:
                self._queue.add(name)
        gone = [name for name in before if name not in listed]
        for name in gone:
            self._queue.drop(name)
            self._slots.forget(self._key(name))
        self._known.forget(gone)
        self._unread -= set(gone)
        self._unread |= listed.keys() - before.keys()
        if gone:
            self._shrunk_at = self._clock()
            self._shrunk = True
        self._commit_if_whole()
        self._tell_problems()

    def _read_list(self, answer: Answer) -> Listing:
        if answer.filtered and answer.body.strip() in (b"{}", b"null"):
            message = f"{self._client.agent}: the token may not read any service"
            raise AdapterRejectedError(message)
        listed: Listing = {}
        refused: dict[str, str] = {}
        for name, tags in read_answer(answer.body, dict[str, list[str] | None]).items():
            if self._takes(name, tags or ()):
                try:
                    self._decoder.host(name)
                except ValueError as error:
                    # Such a name cannot even be asked about.
                    refused[name] = str(error)
                else:
                    listed[name] = sorted(tags or ())
        self._known.refuse(refused, partial=answer.filtered)
        return listed

    def _takes(self, name: str, tags: list[str] | tuple[()]) -> bool:
        patterns = self._settings.services
        named = patterns == (ALL,) or any(fnmatchcase(name, each) for each in patterns)
        return named and set(self._settings.tags) <= set(tags)

    def _commit_if_whole(self) -> None:
        """Say that something is gone, but not while listed services have yet to be read, which
        would look gone too.
        """
        if self._shrunk and not self._unread:
            self._shrunk = False
            self._commit()

    def _commit(self) -> None:
        """Say all that is known as a full listing, which tells what is gone."""
        self._sink.replace(self._shard, self._known.items(), revision=self._revision)
        self._tell_problems()

    async def _confirm(self) -> None:
        """Read the list again after losses, for those who judge them."""
        while True:
            await asyncio.sleep(_CONFIRM)
            if self._clock() - self._shrunk_at < _CONFIRM_FOR:
                answer = await self._client.get(_LIST, self._params, by_leader=True)
                self._shrunk = True
                self._take_list(answer, sweep=False)

    def _tell_problems(self) -> None:
        problems = self._known.problems()
        if problems is not None:
            self._report(problems)

    # Services one by one

    async def _ask(self, name: str, index: int = 0, *, patient: bool = True) -> Answer:
        path = f"/v1/health/service/{name}"
        return await self._client.get(path, self._params, index=index, patient=patient)

    def _take(self, name: str, answer: Answer) -> None:
        if name not in self._names:
            return
        said = self._known.take(name, answer)
        self._unread.discard(name)
        for each, item in said.items():
            # Consul does not tell what was taken out from what ran out.
            self._sink.update(self._shard, each, item, expired=item is not None)
            self._slots.touch(self._key(each))
        if said:
            self._tell_problems()
        self._commit_if_whole()

    async def _sweep(self) -> None:
        """Look at what is queued, one after the other."""
        while True:
            name = await self._queue.next()
            try:
                self._take(name, await self._ask(name))
            except AdapterUnavailableError:
                self._failures += 1
                if self._failures > _PATIENCE * _SWEEPERS:
                    raise
                await asyncio.sleep(backoff(self._failures))
                if name in self._names:
                    self._queue.hurry(name)
            else:
                self._failures = 0

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(RESYNC * random.uniform(0.8, 1.2))  # noqa: S311 - spreads load.
            for name in self._names:
                self._queue.add(name)

    # Watches

    async def _keep_watching(self, group: asyncio.TaskGroup) -> None:
        """Start the watches that are due."""
        while True:
            if self._clock() >= self._busy_until:
                for name in self._slots.of(self._shard.scope):
                    if name in self._names and name not in self._tasks:
                        self._tasks[name] = group.create_task(self._watch(name))
            await asyncio.sleep(_PAUSE)

    async def _watch(self, name: str) -> None:
        """Watch one service for as long as it is among those that changed last."""
        try:
            async with self._slots.permits:
                self._watched.add(name)
                await self._watch_on(name)
        except AgentBusyError:
            # Others on this machine use Consul too: what has no watch is swept.
            self._busy_until = self._clock() + _BUSY
        except AdapterUnavailableError:
            self._queue.hurry(name)
            await asyncio.sleep(backoff(1))
        finally:
            self._watched.discard(name)
            del self._tasks[name]

    async def _watch_on(self, name: str) -> None:
        cursor = Cursor(self._settings.wait, self._known.index(name))
        pace = Pace(_RATE, _BURST, self._clock)
        while name in self._names and self._key(name) in self._slots:
            asked = self._clock()
            answer = await self._ask(name, cursor.ask, patient=False)
            cursor.take(answer.index, self._clock() - asked)
            self._take(name, answer)
            if wait := pace.take():
                await asyncio.sleep(wait)

    def _key(self, name: str) -> tuple[str, str]:
        return (self._shard.scope, name)

    # Checks, which tell what to sweep first

    async def _follow_checks(self) -> None:
        while True:
            if len(self._names) <= len(self._watched):
                await asyncio.sleep(1)
                continue
            began = await self._look_at_checks()
            await asyncio.sleep(_pause(self._clock() - began))

    async def _look_at_checks(self) -> float:
        """Find services whose checks have changed; when the answer came."""
        asked = self._clock()
        answer = await self._client.get(_CHECKS, self._params, index=self._checks.ask)
        came = self._clock()
        step = self._checks.take(answer.index, came - asked)
        if step is not Step.STAYED or self._marks is None:
            before, self._marks = self._marks, marks_of(read_answer(answer.body, list[Check]))
            if before is not None:
                for name in moved(before, self._marks):
                    if name in self._names and name not in self._watched:
                        self._queue.hurry(name)
        return came


_LIST: Final = "/v1/catalog/services"
_CHECKS: Final = "/v1/health/state/any"
_CONFIRM: Final = 6.0
_CONFIRM_FOR: Final = 90.0
"""How often, and for how long, a listing is read again after one that lacked something."""

_SWEEP_BURST: Final = 4
"""Seconds' worth of a sweep that may go at once, after a time without changes."""

_RATE: Final = 5.0
_BURST: Final = 5.0


def _pause(took: float) -> float:
    """How long to let a listing be after reading one took so many seconds."""
    return max(_PAUSE, took / _SHARE)


def marks_of(checks: list[Check]) -> Marks:
    """Sum up checks, such that any change in them changes a sum."""
    services: dict[str, int] = {}
    nodes: dict[str, int] = {}
    tenants: dict[str, set[str]] = {}
    for check in checks:
        mark = hash((check.node, check.check_id, check.index))
        if check.service:
            services[check.service] = services.get(check.service, 0) ^ mark
            tenants.setdefault(check.node, set()).add(check.service)
        else:
            nodes[check.node] = nodes.get(check.node, 0) ^ mark
    return Marks(services, nodes, {node: frozenset(names) for node, names in tenants.items()})


def moved(before: Marks, after: Marks) -> set[str]:
    """The services whose checks, or whose nodes' checks, differ."""
    names = _differing(before.services, after.services)
    for node in _differing(before.nodes, after.nodes):
        names |= before.tenants.get(node, frozenset()) | after.tenants.get(node, frozenset())
    return names


def _differing(before: Mapping[str, int], after: Mapping[str, int]) -> set[str]:
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
