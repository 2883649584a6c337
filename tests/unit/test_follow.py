"""Following a file's content; with real events it is followed in tests/integration/daemon."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from aggregator.follow import follow


class Events:
    """A watcher that reports when it is told to, and can break."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[OSError | None] = asyncio.Queue()

    async def __call__(self, *_: Any, **__: Any) -> AsyncIterator[None]:
        """Yield what the test reports."""
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
    events.queue.put_nowait(OSError(28, "no space left on device"))

    followed = follow(file, watch=events, check_seconds=0.02)
    change = asyncio.ensure_future(anext(followed))
    await asyncio.sleep(0.05)
    await asyncio.to_thread(file.write_bytes, b"2")
    async with asyncio.timeout(5):
        await change
