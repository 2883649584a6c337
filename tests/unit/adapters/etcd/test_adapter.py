"""Listing and watching, on a connection that a test scripts."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from aetcd.rpc import kv_pb2

from adapters.etcd.adapter import EtcdAdapter
from adapters.etcd.client import CompactedError, DeniedError, EtcdClient, Happened, Page
from adapters.etcd.settings import EtcdSettings, Member
from aggregator.model.errors import AdapterRejectedError, AdapterUnavailableError, Problem
from aggregator.model.registry import Item, RegistryContext, RegistrySink, ShardKey

SERVICE = {"apiVersion": "mesh-aggregator/v1", "kind": "Service", "ports": [{"number": 80}]}
CONTEXT = RegistryContext(name="kv", cluster_id="")


def kv(name: str, revision: int, lease: int = 0) -> kv_pb2.KeyValue:
    """A service's key."""
    value = json.dumps(SERVICE).encode()
    key = f"/mesh/services/shop/{name}.mesh".encode()
    return kv_pb2.KeyValue(key=key, value=value, mod_revision=revision, lease=lease)


def put(name: str, revision: int, lease: int = 0) -> kv_pb2.Event:
    """A key was written."""
    return kv_pb2.Event(type=kv_pb2.Event.PUT, kv=kv(name, revision, lease))


def delete(name: str, revision: int) -> kv_pb2.Event:
    """A key is gone."""
    key = f"/mesh/services/shop/{name}.mesh".encode()
    gone = kv_pb2.KeyValue(key=key, mod_revision=revision)
    return kv_pb2.Event(type=kv_pb2.Event.DELETE, kv=gone)


class FakeClient:
    """One connection: what is listed each time, and what each watch tells before it is silent."""

    def __init__(
        self,
        listings: Sequence[Sequence[kv_pb2.KeyValue]] = ((),),
        watches: Sequence[Sequence[Happened | Exception]] = (),
        *,
        denied: Iterable[bytes] = (),
        living: Iterable[int] = (),
    ) -> None:
        self.listings: Final = list(listings)
        self.watches: Final = list(watches)
        self.denied: Final = set(denied)
        self.living: Final = set(living)
        self.watched: list[tuple[int, int]] = []
        self.asked: list[int] = []
        self._told: list[Happened | Exception] = []

    async def pages(self, key: bytes, end: bytes, revision: int = 0) -> AsyncIterator[Page]:
        """Services only; each listing is one revision later."""
        if key in self.denied:
            raise DeniedError("permission denied")
        if key == b"/mesh/services/":
            listing = self.listings.pop(0) if len(self.listings) > 1 else self.listings[0]
            yield Page(revision or 10, tuple(listing))
        else:
            yield Page(revision or 10, ())

    async def some_keys(self, key: bytes, end: bytes, revision: int, limit: int) -> list[bytes]:
        """No key is astray."""
        return []

    async def lease_lives(self, lease: int) -> bool:
        """As the test says."""
        self.asked.append(lease)
        return lease in self.living

    @asynccontextmanager
    async def watch(
        self, ranges: Iterable[tuple[bytes, bytes]], revision: int
    ) -> AsyncIterator["FakeClient"]:
        """The next script."""
        self.watched.append((len(list(ranges)), revision))
        self._told = list(self.watches.pop(0)) if self.watches else []
        yield self

    async def next(self) -> Happened:
        """The next step of the script; then nothing any more."""
        if not self._told:
            await asyncio.Event().wait()
        step = self._told.pop(0)
        if isinstance(step, Exception):
            raise step
        return step


class Recorder:
    """A sink that writes down what it is told, in short."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.problems: dict[str, int] = {}

    def replace(
        self, shard: ShardKey, items: Mapping[str, Item], *, revision: str, explicit: bool
    ) -> None:
        """A key's value."""
        self.said.append(f"{'put' if explicit else 'listed'} {_name(shard.scope)}")

    def update(self, shard: ShardKey, key: str, item: Item | None, *, expired: bool) -> None:
        """A key that ran out."""
        assert (item, expired) == (None, True)
        self.said.append(f"expired {_name(shard.scope)}")

    def drop(self, shard: ShardKey) -> None:
        """A key that was deleted."""
        self.said.append(f"deleted {_name(shard.scope)}")

    def retain(self, scopes: Iterable[str]) -> None:
        """A later listing."""
        self.said.append(f"retained {' '.join(sorted(map(_name, scopes)))}".rstrip())

    def report(self, scope: str, problems: Sequence[Problem]) -> None:
        """What is wrong."""
        self.problems[scope] = len(problems)

    def synced(self) -> None:
        """The first listing."""
        self.said.append("synced")


def _name(scope: str) -> str:
    return scope.removeprefix("services/shop/").removesuffix(".mesh")


async def run(*clients: FakeClient | Exception) -> tuple[Recorder, str]:
    """Run until the fakes have nothing more to tell: what was said, and the error if it ended."""
    recorder = Recorder()
    waiting = list(clients)

    @asynccontextmanager
    async def connect(_endpoint: str, _settings: EtcdSettings, _base: str) -> Any:
        client = waiting.pop(0)
        if isinstance(client, Exception):
            raise client
        yield cast(EtcdClient, client)

    endpoints = tuple(Member(f"etcd-{number}:2379") for number in range(len(clients)))
    adapter = EtcdAdapter(CONTEXT, EtcdSettings(endpoints), connect=connect)
    task = asyncio.create_task(adapter.run(cast(RegistrySink, recorder)))
    done, _ = await asyncio.wait([task], timeout=0.1)
    if not done:
        task.cancel()
        await asyncio.wait([task])
        return recorder, ""
    error = task.exception()
    return recorder, f"{type(error).__name__}: {error}"


async def test_what_follows_the_listing_is_watched() -> None:
    """From the very next revision on, so that nothing is missed between the two."""
    client = FakeClient(
        [[kv("a", 5)]], [[Happened(11, (put("b", 11),)), Happened(12, (delete("a", 12),))]]
    )

    recorder, _ = await run(client)

    assert recorder.said == ["listed a", "synced", "put b", "deleted a"]
    assert client.watched == [(3, 11)]


async def test_what_comes_is_told_before_what_goes() -> None:
    """Within one transaction, so that nothing is without endpoints in between."""
    steps = [Happened(12, (delete("a", 11), put("b", 11), delete("c", 12)))]

    recorder, _ = await run(FakeClient([[kv("a", 5), kv("c", 5)]], [steps]))

    assert recorder.said[3:] == ["put b", "deleted a", "deleted c"]


async def test_of_a_key_only_the_last_word_counts() -> None:
    """Whoever catches up does not live through it all again."""
    steps = [Happened(13, (put("a", 11), delete("b", 11), put("b", 12), delete("a", 13)))]

    recorder, _ = await run(FakeClient([[kv("a", 5), kv("b", 5)]], [steps]))

    assert recorder.said[3:] == ["put b", "deleted a"]


async def test_a_compacted_watch_lists_again_and_compares() -> None:
    """What is unchanged is not told again, and nothing is cleared first."""
    client = FakeClient(
        [[kv("a", 5), kv("b", 5)], [kv("b", 5), kv("c", 9)]],
        [[Happened(11), CompactedError("compacted")]],
    )

    recorder, error = await run(client)

    assert recorder.said == ["listed a", "listed b", "synced", "listed c", "retained b c"]
    assert error == ""
    assert len(client.watched) == 2


async def test_what_is_compacted_at_once_again_is_an_error() -> None:
    """Listing in a loop would help nobody."""
    _, error = await run(FakeClient([[]], [[CompactedError("compacted")]]))

    assert error == "AdapterUnavailableError: compacted"


async def test_the_next_member_goes_on_where_the_last_one_failed() -> None:
    """What was told stays; only differences are told."""
    failing = FakeClient([[kv("a", 5)]], [[AdapterUnavailableError("gone")]])
    next_one = FakeClient([[kv("a", 5), kv("b", 6)]])

    recorder, error = await run(AdapterUnavailableError("away"), failing, next_one)

    assert recorder.said == ["listed a", "synced", "listed b", "retained a b"]
    assert error == ""


async def test_when_no_member_is_left_all_reasons_are_told() -> None:
    """Each may fail in its own way."""
    _, error = await run(AdapterUnavailableError("one"), AdapterUnavailableError("two"))

    assert error == "AdapterUnavailableError: one; two"


async def test_a_refusal_is_not_tried_elsewhere() -> None:
    """Users are the same on all members."""
    _, error = await run(AdapterRejectedError("wrong password"), FakeClient())

    assert error == "AdapterRejectedError: wrong password"


async def test_a_denied_folder_is_kept_and_told() -> None:
    """Its name ends in a slash, which stands for all below it."""
    client = FakeClient([[kv("a", 5)]], denied=[b"/mesh/rules/"])

    recorder, _ = await run(client)

    assert recorder.said == ["listed a", "synced"]
    assert recorder.problems["rules/"] == 1
    assert client.watched == [(2, 11)]


async def test_who_may_read_nothing_is_refused() -> None:
    """That is no empty listing."""
    folders = (b"/mesh/services/", b"/mesh/instances/", b"/mesh/rules/")

    recorder, error = await run(FakeClient(denied=folders))

    assert recorder.said == []
    assert error == "DeniedError: permission denied"


async def test_a_key_whose_lease_is_gone_has_expired() -> None:
    """The event does not tell; the lease does."""
    client = FakeClient(
        [[kv("a", 5, lease=1), kv("b", 5, lease=2), kv("c", 5)]],
        [[Happened(13, (delete("a", 11), delete("b", 12), delete("c", 13)))]],
        living=[2],
    )

    recorder, _ = await run(client)

    assert recorder.said[4:] == ["expired a", "deleted b", "deleted c"]
    assert sorted(client.asked) == [1, 2]


async def test_keys_of_several_leases_that_go_in_one_revision_were_deleted() -> None:
    """A lease that runs out takes its own keys along, and no others."""
    client = FakeClient(
        [[kv("a", 5, lease=1), kv("b", 5, lease=2)]],
        [[Happened(11, (delete("a", 11), delete("b", 11)))]],
    )

    recorder, _ = await run(client)

    assert recorder.said[3:] == ["deleted a", "deleted b"]
    assert client.asked == []


async def test_many_leases_that_go_together_are_not_asked_about() -> None:
    """A mass expiry must not become a storm of requests."""
    names = [f"s{number}" for number in range(40)]
    client = FakeClient(
        [[kv(name, 5, lease=number + 1) for number, name in enumerate(names)]],
        [[Happened(50, tuple(delete(name, 11 + at) for at, name in enumerate(names)))]],
    )

    recorder, _ = await run(client)

    assert recorder.said[41:] == [f"expired {name}" for name in names]
    assert client.asked == []


async def test_a_key_that_changed_its_lease_has_the_new_one() -> None:
    """Its owner came back with another lease, and the old one ran out."""
    client = FakeClient(
        [[kv("a", 5, lease=1)]],
        [[Happened(11, (put("a", 11, lease=2),)), Happened(12, (delete("a", 12),))]],
        living=[1],
    )

    recorder, _ = await run(client)

    assert recorder.said[2:] == ["put a", "expired a"]
    assert client.asked == [2]
