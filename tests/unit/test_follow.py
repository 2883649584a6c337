"""Following a file's content; with real events it is followed in tests/integration/daemon."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from aggregator.follow import follow


class Events:
    """A watcher that reports when it is told to, and can break."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Exception | None] = asyncio.Queue()
        self.refused: Exception | None = None

    async def __call__(self, *_: Any, **__: Any) -> AsyncIterator[None]:
        """Yield what the test reports."""
        if self.refused is not None:
            raise self.refused
        while True:
            event = await self.queue.get()
            if event is not None:
                raise event
            yield None


async def changes(file: Path, events: Events, *steps: bytes | None) -> int:
    """How many changes are seen if the file has these contents, an event after each."""
    seen = 0

    async def count() -> None:
        nonlocal seen
        async with aclosing(follow(file, watch=events, check_seconds=60)) as changed:
            async for _ in changed:
                seen += 1

    task = asyncio.create_task(count())
    await asyncio.sleep(0.05)
    for step in steps:
        if step is None:
            await asyncio.to_thread(file.unlink)
        else:
            await asyncio.to_thread(file.write_bytes, step)
        events.queue.put_nowait(None)
        await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait([task])
    return seen


async def test_only_other_content_is_a_change(tmp_path: Path) -> None:
    """A touched file, or another one in its folder, is no reason to reload."""
    file = tmp_path / "mesh.yaml"
    file.write_bytes(b"1")

    assert await changes(file, Events(), b"1", b"2", b"2", b"1") == 2


async def test_a_file_that_is_away_for_a_moment_is_not_lost(tmp_path: Path) -> None:
    """Between removal and replacement there is nothing to reload, and then the new content."""
    file = tmp_path / "mesh.yaml"
    file.write_bytes(b"1")

    assert await changes(file, Events(), None, b"1") == 0
    assert await changes(file, Events(), None, b"2") == 1


async def test_without_events_the_file_is_read_now_and_then(tmp_path: Path) -> None:
    """A machine that has no watches left still reloads."""
    file = tmp_path / "mesh.yaml"
    file.write_bytes(b"1")
    events = Events()
    events.refused = OSError(28, "no space left on device")

    followed = follow(file, watch=events, check_seconds=0.02)
    change = asyncio.ensure_future(anext(followed))
    await asyncio.sleep(0.05)
    await asyncio.to_thread(file.write_bytes, b"2")
    async with asyncio.timeout(5):
        await change


@pytest.mark.parametrize(
    "failure",
    [
        OSError(28, "no space left on device"),
        RuntimeError("OS file watch limit reached"),
        ExceptionGroup("", [RuntimeError("Unable to decode path")]),
    ],
)
async def test_a_watcher_that_gives_up_is_tried_again(tmp_path: Path, failure: Exception) -> None:
    """A file with an odd name beside the settings ends neither the daemon nor what it follows."""
    file = tmp_path / "mesh.yaml"
    file.write_bytes(b"1")
    events = Events()
    events.queue.put_nowait(failure)

    followed = follow(file, watch=events, check_seconds=0.01)
    change = asyncio.ensure_future(anext(followed))
    await asyncio.sleep(0.05)
    await asyncio.to_thread(file.write_bytes, b"2")
    events.queue.put_nowait(None)
    async with asyncio.timeout(5):
        await change


async def test_other_failures_are_not_taken_for_the_watchers(tmp_path: Path) -> None:
    """A mistake of ours must not look like a system without watches."""
    file = tmp_path / "mesh.yaml"
    file.write_bytes(b"1")
    events = Events()
    events.queue.put_nowait(ExceptionGroup("", [OSError("watches"), TypeError("ours")]))

    with pytest.raises(ExceptionGroup):
        await anext(follow(file, watch=events, check_seconds=0.01))
