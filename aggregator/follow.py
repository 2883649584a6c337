"""Follows one file's content, however it is replaced. Knows nothing of what is in it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import structlog
from watchfiles import awatch

logger = structlog.get_logger(__name__)

CHECK_SECONDS: Final = 10.0
"""How often the content is compared even if no event says that it changed."""

Watch = Callable[..., AsyncIterator[Any]]


async def follow(
    file: Path, *, watch: Watch = awatch, check_seconds: float = CHECK_SECONDS
) -> AsyncGenerator[None, None]:
    """Yield each time that the content of *file* is another than before.

    The folder is watched, not the file: editors and ConfigMaps replace files by renaming, and links
    on the way to the content may be swapped. Where nothing can be watched it is read now and then.
    """
    content = await asyncio.to_thread(_read, file)
    async for _ in _moments(file, watch, check_seconds):
        present = await asyncio.to_thread(_read, file)
        # A file that is away, or cannot be read, is about to be replaced.
        if present is not None and present != content:
            content = present
            yield


async def _moments(file: Path, watch: Watch, check_seconds: float) -> AsyncIterator[None]:
    """When to look: after events in the folder, and now and then without any.

    The watcher gives up where the system has no watches left, and over a file in the folder whose
    name is no text; it is tried again.
    """
    told = ""
    while True:
        failure = ""
        try:
            async for _ in watch(
                _folder(file),
                recursive=False,
                watch_filter=None,
                step=20,
                debounce=200,
                rust_timeout=round(check_seconds * 1000),
                yield_on_timeout=True,
            ):
                yield
        except (OSError, RuntimeError) as error:
            failure = str(error)
        except ExceptionGroup as errors:
            # The watcher's own task group wraps what happens in its thread.
            if errors.split((OSError, RuntimeError))[1] is not None:
                raise
            failure = str(errors.exceptions[0])
        if failure and failure != told:
            told = failure
            logger.warning("file_not_watched", file=str(file), error=failure, every=check_seconds)
        yield
        await asyncio.sleep(check_seconds)
        yield


def _folder(file: Path) -> Path:
    return file.absolute().parent


def _read(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None
