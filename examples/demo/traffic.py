"""Requests through Envoy, and what came of them."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import aiohttp

from examples.demo.backend import ID_HEADER, NAME_HEADER

HOST: Final = "shop.mesh"
UNBROKEN: Final = 200
"""So many answers in a row that are as the edit wants them show that Envoy has followed."""
LEAD_SECONDS: Final = 0.3
FOLLOW_SECONDS: Final = 5.0
AT_ONCE: Final = 8


@dataclass(frozen=True)
class Answer:
    """What one request got; `backend` is empty where Envoy answered by itself."""

    id: str
    status: int
    backend: str
    at: float

    @property
    def version(self) -> str:
        """The version that answered."""
        return self.backend.partition("-")[0]


@dataclass(frozen=True)
class Following:
    """How Envoy followed an edit under constant traffic; None if it did not within the time."""

    milliseconds: float | None
    answers: Sequence[Answer]

    @property
    def failures(self) -> int:
        """Requests that did not end well."""
        return sum(each.status != HTTPStatus.OK for each in self.answers)


class Traffic:
    """A client of the shop that sends everything to Envoy."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session: Final = session
        self._url: Final = f"http://127.0.0.1:{port}"
        self._numbers: Final = itertools.count(1)

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Send one request; a connection that fails is status 0."""
        key = str(next(self._numbers))
        sent = {"Host": HOST, ID_HEADER: key, **(headers or {})}
        try:
            async with self._session.get(self._url + path, headers=sent) as response:
                await response.read()
        except (aiohttp.ClientError, TimeoutError):
            return Answer(key, 0, "", time.perf_counter())
        backend = response.headers.get(NAME_HEADER, "")
        return Answer(key, response.status, backend, time.perf_counter())

    async def get_many(
        self,
        count: int,
        path: str,
        headers: Mapping[str, str] | None = None,
        progress: Callable[[Sequence[Answer]], None] = lambda _: None,
    ) -> list[Answer]:
        """Send *count* requests, a few at once; *progress* is called with the answers so far."""
        answers: list[Answer] = []

        async def send(share: int) -> None:
            for _ in range(share):
                answers.append(await self.get(path, headers))
                progress(answers)

        async with asyncio.TaskGroup() as group:
            for index in range(AT_ONCE):
                group.create_task(send(len(range(index, count, AT_ONCE))))
        return answers

    async def follow(self, edit: Callable[[], None], wanted: Callable[[Answer], bool]) -> Following:
        """Measure the time from *edit* until every answer is a wanted one, request by request."""
        answers: list[Answer] = []

        async def send() -> None:
            while True:
                answers.append(await self.get("/"))

        sending = asyncio.create_task(send())
        try:
            await asyncio.sleep(LEAD_SECONDS)
            start = time.perf_counter()
            edit()
            settled = await self._wait_unbroken(answers, wanted)
        finally:
            sending.cancel()
            await asyncio.wait([sending])
        if settled is None:
            return Following(None, answers)
        return Following(max(0.0, settled.at - start) * 1000, answers)

    async def _wait_unbroken(
        self, answers: Sequence[Answer], wanted: Callable[[Answer], bool]
    ) -> Answer | None:
        """The first answer of the unbroken row; None if there is none in time."""
        deadline = time.perf_counter() + FOLLOW_SECONDS
        while time.perf_counter() < deadline:
            await asyncio.sleep(0.05)
            row = answers[-UNBROKEN:]
            if len(row) == UNBROKEN and all(wanted(each) for each in row):
                unwanted = (i for i in reversed(range(len(answers))) if not wanted(answers[i]))
                return answers[next(unwanted, -1) + 1]
        return None


@asynccontextmanager
async def client_of(port: int) -> AsyncIterator[Traffic]:
    """A client with connections of its own for the block."""
    timeout = aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield Traffic(session, port)


def shares(answers: Sequence[Answer], name: Callable[[Answer], str]) -> str:
    """Who answered how much of it, in words."""
    counts = Counter(map(name, answers))
    return ", ".join(
        f"{who} {100 * count / len(answers):.1f} %" for who, count in sorted(counts.items())
    )
