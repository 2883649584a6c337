"""Waiting for something to become true, with a deadline instead of guessed sleeps."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast, overload

T = TypeVar("T")


class NotYetError(AssertionError):
    """What was waited for did not come true in time; tells what was seen last."""


@overload
async def eventually(
    probe: Callable[[], Awaitable[T]],
    until: Callable[[T], object] = ...,
    *,
    seconds: float = ...,
    every: float = ...,
    hint: str = ...,
) -> T: ...
@overload
async def eventually(
    probe: Callable[[], T],
    until: Callable[[T], object] = ...,
    *,
    seconds: float = ...,
    every: float = ...,
    hint: str = ...,
) -> T: ...
async def eventually(
    probe: Callable[[], T | Awaitable[T]],
    until: Callable[[T], object] = bool,
    *,
    seconds: float = 10.0,
    every: float = 0.02,
    hint: str = "",
) -> T:
    """Ask *probe* again and again until its answer satisfies *until*; returns that answer.

    An AssertionError or OSError of *probe* counts as "not yet".
    """
    deadline = time.monotonic() + seconds
    seen: object = None
    while True:
        try:
            found = probe()
            answer = cast(T, await found if inspect.isawaitable(found) else found)
        except (AssertionError, OSError) as error:
            seen = error
        else:
            if until(answer):
                return answer
            seen = answer
        if time.monotonic() > deadline:
            message = f"{hint or 'not true'} after {seconds} s; last seen: {seen!r}"
            raise NotYetError(message)
        await asyncio.sleep(every)
