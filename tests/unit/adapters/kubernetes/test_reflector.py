"""Tests of adapters.kubernetes.reflector: what is asked of the server, and when."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from msgspec import Raw

from adapters.kubernetes.client import JSON, METADATA_LIST, ApiError
from adapters.kubernetes.decode import decode_metadata
from adapters.kubernetes.reflector import Pace, Reflector
from adapters.kubernetes.resource import Resource
from aggregator.model.errors import AdapterUnavailableError
from tests.support.clock import FakeClock, settle

PODS = Resource("Pod", "", "v1", "pods")
CUT = AdapterUnavailableError("cut")
Answer = Exception | Sequence[Mapping[str, Any]]


def event(kind: str, name: str, version: int) -> dict[str, Any]:
    """A line of a watch."""
    return {"type": kind, "object": {"metadata": {"name": name, "resourceVersion": str(version)}}}


def failure(code: int, message: str = "") -> ApiError:
    """A refusal."""
    return ApiError(code, "", message)


class Script:
    """A server that answers as it is told, and remembers what it was asked.

    Listings answer with `names` at `version`, glances at the version with `now`. Each watch takes
    the next of `watches`: events and then the end, or an error at once. After the last one, watches
    stay open.
    """

    def __init__(self, *names: str, version: int = 7) -> None:
        self.names = list(names)
        self.version = version
        self.now = 1000
        self.refusal: Exception | None = None
        self.watches: list[tuple[list[Mapping[str, Any]], Exception | None]] = []
        self.asked: list[str] = []
        self.accepted: set[str] = set()

    async def get(
        self, path: str, params: Mapping[str, str] | None = None, *, accept: str = JSON
    ) -> bytes:
        """A page of the listing."""
        given = dict(params or {})
        start, size = int(given.get("continue", "0")), int(given["limit"])
        self.accepted.add(accept)
        self.asked.append("peek" if size == 1 else f"list {start}")
        await asyncio.sleep(0)
        if self.refusal is not None:
            raise self.refusal
        end = start + size
        following = str(end) if end < len(self.names) else ""
        version = self.now if size == 1 else self.version
        metadata = {"resourceVersion": str(version), "continue": following}
        items = [{"metadata": {"name": name}} for name in self.names[start:end]]
        return json.dumps({"metadata": metadata, "items": items}).encode()

    @asynccontextmanager
    async def watch(
        self, path: str, params: Mapping[str, str], *, accept: str = JSON
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The next watch."""
        self.asked.append(f"watch {params['resourceVersion']}")
        assert params["allowWatchBookmarks"] == "true"
        events: list[Mapping[str, Any]] = []
        error: Exception | None = None
        last = not self.watches
        if not last:
            events, error = self.watches.pop(0)
        if error is not None and not events:
            raise error

        async def lines() -> AsyncIterator[bytes]:
            for each in events:
                yield json.dumps(each).encode() + b"\n"
            if error is not None:
                raise error
            if last:
                await asyncio.Event().wait()

        yield lines()


class Record:
    """A feed that remembers."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def begin(self) -> None:
        """A listing starts."""
        self.seen.append("begin")

    def page(self, items: Sequence[Raw]) -> None:
        """A part of it."""
        self.seen += [decode_metadata(each).name for each in items]

    async def end(self) -> None:
        """All of it."""
        self.seen.append("end")

    def changed(self, raw: Raw, *, deleted: bool) -> None:
        """One object."""
        self.seen.append(f"{'-' if deleted else '+'}{decode_metadata(raw).name}")

    def refused(self, error: ApiError | None) -> None:
        """Whether the resource can be read."""
        self.seen.append(f"refused {error.code}" if error else "told")


class Case:
    """A reflector of a script, on a clock of the test."""

    def __init__(self, script: Script, resource: Resource = PODS, page_size: int = 10) -> None:
        self.clock = FakeClock()
        self.script = script
        self.record = Record()
        pace = Pace(clock=self.clock, sleep=self.clock.sleep, random=lambda: 1.0)
        self.reflector = Reflector(script, resource, self.record, page_size=page_size, pace=pace)
        self.task = asyncio.create_task(self.reflector.run())

    async def advance(self, seconds: float = 0.0) -> None:
        """Let time pass."""
        await settle(50)
        await self.clock.advance(seconds)
        await settle(50)

    async def aclose(self) -> None:
        """End it."""
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


async def test_a_long_list_comes_in_pages_and_is_watched_from_its_version() -> None:
    """The listing counts once its last page is there."""
    case = Case(Script("a", "b", "c"), page_size=2)
    await case.advance()

    assert case.script.asked == ["list 0", "list 2", "watch 7"]
    assert case.record.seen == ["begin", "a", "b", "c", "end", "told"]
    assert case.reflector.settled.is_set()
    await case.aclose()


async def test_metadata_are_asked_for_where_they_are_enough() -> None:
    """A Node's status is large, and changes all the time."""
    case = Case(Script(), Resource("Node", "", "v1", "nodes", metadata_only=True))
    await case.advance()

    assert case.script.accepted == {METADATA_LIST}
    await case.aclose()


async def test_a_cut_watch_goes_on_from_the_last_version_that_it_told() -> None:
    """Bookmarks count as well; a glance at the version tells that the server was not set back."""
    script = Script("a")
    events: list[Mapping[str, Any]] = [
        event("ADDED", "b", 8),
        event("DELETED", "a", 9),
        event("BOOKMARK", "", 12),
    ]
    script.watches.append((events, CUT))
    case = Case(script)
    await case.advance(1)

    assert script.asked == ["list 0", "watch 7", "peek", "watch 12"]
    assert case.record.seen == ["begin", "a", "end", "told", "+b", "-a", "told"]
    await case.aclose()


async def test_a_server_that_was_set_back_is_listed_again() -> None:
    """It would let us wait for a version that is still to come, and tell nothing."""
    script = Script("a", version=100)
    script.watches.append(([event("ADDED", "b", 101)], CUT))
    script.now = 50
    case = Case(script)
    await case.advance(1)

    assert script.asked == ["list 0", "watch 100", "peek", "list 0", "watch 100"]
    await case.aclose()


@pytest.mark.parametrize(
    "error",
    [
        failure(410),
        failure(504, "Timeout: Too large resource version: 9, current: 3"),
    ],
)
@pytest.mark.parametrize("within", [True, False])
async def test_a_version_that_the_server_does_not_have_is_listed_anew(
    error: ApiError, *, within: bool
) -> None:
    """Whether it says so at once or as an event of the watch."""
    script = Script("a")
    status = {"code": error.code, "message": str(error)}
    told: list[Mapping[str, Any]] = [{"type": "ERROR", "object": status}]
    script.watches.append((told, None) if within else ([], error))
    case = Case(script)
    await case.advance(1)

    assert script.asked == ["list 0", "watch 7", "list 0", "watch 7"]
    assert case.record.seen.count("end") == 2
    await case.aclose()


async def test_a_forbidden_resource_is_told_and_asked_for_more_and_more_rarely() -> None:
    """Nobody grants a right within a second; the others do not wait for this one."""
    script = Script()
    script.refusal = failure(403)
    case = Case(script)
    for _ in range(50):
        await case.advance(0.1)
    assert "refused 403" in case.record.seen
    assert case.reflector.settled.is_set()
    assert case.reflector.forbidden
    for _ in range(60):
        await case.advance(1)
    asked = len(script.asked)
    assert asked <= 10

    await case.advance(29)
    assert len(script.asked) <= asked + 1
    script.refusal = None
    await case.advance(31)
    assert case.record.seen[-3:] == ["begin", "end", "told"]
    assert not case.reflector.forbidden
    await case.aclose()


async def test_a_server_that_starts_may_forbid_for_a_moment() -> None:
    """It has not read its roles yet: nothing is told, and nothing taken for all there is."""
    script = Script("a")
    script.refusal = failure(403)
    case = Case(script)
    for _ in range(10):
        await case.advance(0.1)
    assert not case.reflector.settled.is_set()
    script.refusal = None
    await case.advance(2)
    assert "refused 403" not in case.record.seen
    assert case.record.seen[-3:] == ["a", "end", "told"]
    await case.aclose()


async def test_what_may_be_listed_but_not_watched_is_listed_now_and_then() -> None:
    """Half a right is better than none, and still told."""
    script = Script("a")
    script.watches += [([], failure(403))] * 100
    case = Case(script)
    for _ in range(90):
        await case.advance(1)
    assert "refused 403" in case.record.seen
    assert "told" not in case.record.seen
    assert 5 <= case.record.seen.count("end") <= 10
    await case.aclose()


async def test_a_server_that_does_not_answer_at_first_is_the_supervisors_business() -> None:
    """It has the back-off for that."""
    script = Script()
    script.refusal = CUT
    case = Case(script)
    await case.advance()

    with pytest.raises(AdapterUnavailableError):
        await case.task


async def test_later_it_is_waited_for_with_patience_first() -> None:
    """A cut of seconds costs no listing; a longer one shows in the registry's state."""
    script = Script("a")
    script.watches += [([], CUT)] * 100
    case = Case(script)
    for _ in range(45):
        await case.advance(0.1)
    assert not case.task.done()
    assert "list 0" not in script.asked[1:]
    assert len(script.asked) < 30, "with growing waits between"
    for _ in range(30):
        await case.advance(0.1)
    with pytest.raises(AdapterUnavailableError):
        await case.task


async def test_one_kind_that_fails_is_told_and_does_not_end_the_others() -> None:
    """A broken conversion of one kind is no outage of the cluster."""
    script = Script()
    script.refusal = failure(500)
    case = Case(script, Resource("Sidecar", "x", "v1", "sidecars", optional=True))
    for _ in range(100):
        await case.advance(0.1)
    assert case.reflector.settled.is_set()
    assert "refused 500" in case.record.seen
    assert not case.task.done()
    await case.aclose()


async def test_without_a_needed_kind_there_is_no_listing() -> None:
    """Endpoints that cannot be read are not the same as none."""
    script = Script()
    script.refusal = failure(500)
    case = Case(script)
    for _ in range(100):
        await case.advance(0.1)
    with pytest.raises(AdapterUnavailableError, match="cannot read pods: HTTP 500"):
        await case.task


async def test_watches_that_end_at_once_are_not_started_at_once_for_ever() -> None:
    """A server or proxy that closes every answer would be asked without end."""
    script = Script()
    script.watches += [([], None)] * 1000
    case = Case(script)
    for _ in range(40):
        await case.advance(0.1)
    assert len(script.asked) < 60
    await case.aclose()
