"""What the demo shows: for each rule the traffic that shows it, and what has to be seen."""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from examples.demo.backend import FLAKY_PATH
from examples.demo.folder import RULES, SERVICES, changes, drop_endpoint, set_weights
from examples.demo.stage import Stage
from examples.demo.traffic import Answer, Following, shares

DEVIATIONS: Final = 5.0
"""Chance alone goes beyond so many standard deviations once in two million runs."""


@dataclass(frozen=True)
class Excerpt:
    """A part of a file, or a change of it."""

    file: str
    text: str
    is_change: bool = False


@dataclass(frozen=True)
class Seen:
    """What a step saw, and whether that is what the rules say."""

    text: str
    passed: bool


Tell = Callable[[str], None]
"""Shows what has been seen so far."""


@dataclass(frozen=True)
class Step:
    """One thing that is shown; `excerpt` is what a user would write for it."""

    title: str
    about: str
    expected: str
    excerpt: Callable[[Stage], Excerpt]
    run: Callable[[Stage, Tell], Awaitable[Seen]]


def _rule(name: str) -> Callable[[Stage], Excerpt]:
    return lambda stage: Excerpt(RULES, stage.folder.item(RULES, f"name: {name}"))


def _all_ok(answers: Sequence[Answer]) -> bool:
    return all(each.status == HTTPStatus.OK for each in answers)


def _is_near(count: int, total: int, share: float) -> bool:
    """Whether chance explains the difference from *share*."""
    return abs(count - total * share) <= DEVIATIONS * math.sqrt(total * share * (1 - share))


def _versions(answers: Sequence[Answer]) -> str:
    told = shares(answers, lambda each: each.version or f"status {each.status}")
    return f"{told} of {len(answers):,}"


# Rules that stand still


async def _canary(stage: Stage, tell: Tell) -> Seen:
    answers = await stage.traffic.get_many(2000, "/", progress=lambda some: tell(_versions(some)))
    new = sum(each.version == "v2" for each in answers)
    both = {each.version for each in answers} == {"v1", "v2"}
    passed = _all_ok(answers) and both and _is_near(new, len(answers), 0.1)
    return Seen(_versions(answers), passed)


async def _testers(stage: Stage, tell: Tell) -> Seen:
    return await _all_from(stage, tell, "v2", "/", {"x-tester": "yes"})


async def _reports(stage: Stage, tell: Tell) -> Seen:
    return await _all_from(stage, tell, "v3", "/reports/today", {})


async def _all_from(
    stage: Stage, tell: Tell, version: str, path: str, headers: Mapping[str, str]
) -> Seen:
    answers = await stage.traffic.get_many(
        200, path, headers, progress=lambda some: tell(_versions(some))
    )
    passed = _all_ok(answers) and {each.version for each in answers} == {version}
    return Seen(_versions(answers), passed)


async def _coupons(stage: Stage, tell: Tell) -> Seen:
    def is_fault(answer: Answer) -> bool:
        return answer.status == HTTPStatus.IM_A_TEAPOT

    def describe(some: Sequence[Answer]) -> str:
        faults = sum(map(is_fault, some))
        reached = sum(stage.backends.arrivals[each.id] for each in some)
        return f"{100 * faults / len(some):.1f} % got 418; v1 saw {reached} of {len(some)}"

    answers = await stage.traffic.get_many(
        400, "/coupons", progress=lambda some: tell(describe(some))
    )
    faults = sum(map(is_fault, answers))
    rest = [each for each in answers if not is_fault(each)]
    spared = all(stage.backends.arrivals[each.id] == 0 for each in answers if is_fault(each))
    served = _all_ok(rest) and {each.version for each in rest} == {"v1"}
    passed = spared and served and _is_near(faults, len(answers), 0.5)
    return Seen(describe(answers), passed)


async def _stock(stage: Stage, tell: Tell) -> Seen:
    def describe(some: Sequence[Answer]) -> str:
        good = sum(each.status == HTTPStatus.OK for each in some)
        arrivals = sum(stage.backends.arrivals[each.id] for each in some)
        return f"{good} of {len(some)} succeed; v1 saw {arrivals}"

    answers = await stage.traffic.get_many(
        60, FLAKY_PATH, progress=lambda some: tell(describe(some))
    )
    twice = all(stage.backends.arrivals[each.id] == 2 for each in answers)
    served = _all_ok(answers) and {each.version for each in answers} == {"v1"}
    return Seen(describe(answers), served and twice)


# Edits of the files, under traffic


def _promoted(stage: Stage) -> str:
    return set_weights(stage.folder.read(RULES), "canary", {"v1": 0, "v2": 100})


def _without_v2b(stage: Stage) -> str:
    return drop_endpoint(stage.folder.read(SERVICES), stage.backends.ports["v2-b"])


def _edit(name: str, text_of: Callable[[Stage], str]) -> Callable[[Stage], Excerpt]:
    return lambda stage: Excerpt(name, changes(stage.folder.read(name), text_of(stage)), True)


async def _promote(stage: Stage, tell: Tell) -> Seen:
    text = _promoted(stage)
    tell("under traffic …")
    following = await stage.traffic.follow(
        lambda: stage.folder.replace(RULES, text), lambda answer: answer.version == "v2"
    )
    return _followed(following)


async def _take_away(stage: Stage, tell: Tell) -> Seen:
    text = _without_v2b(stage)
    tell("under traffic …")
    following = await stage.traffic.follow(
        lambda: stage.folder.replace(SERVICES, text), lambda answer: answer.backend == "v2-a"
    )
    return _followed(following)


def _followed(following: Following) -> Seen:
    sent = len(following.answers)
    failed = f"{following.failures or 'none'} of {sent:,} failed"
    if following.milliseconds is None:
        last = shares(following.answers[-100:], lambda each: each.backend or str(each.status))
        return Seen(f"not followed; last {last}; {failed}", False)
    text = f"after {following.milliseconds:.0f} ms; {failed}"
    return Seen(text, not following.failures)


STEPS: Final = (
    Step(
        "canary",
        "One request in ten goes to the new version.",
        "v1 90 %, v2 10 %",
        _rule("canary"),
        _canary,
    ),
    Step(
        "header",
        "Testers, who send a header, always get the new version.",
        "v2 100 %",
        _rule("testers"),
        _testers,
    ),
    Step(
        "prefix",
        "All that is below /reports goes to a third version.",
        "v3 100 %",
        _rule("reports"),
        _reports,
    ),
    Step(
        "fault",
        "Half of the requests for coupons fail on purpose and reach no server.",
        "50 % get 418, rest v1",
        _rule("coupons"),
        _coupons,
    ),
    Step(
        "retry",
        "The server refuses each request for stock once, with 503; Envoy tries again.",
        "all succeed, in two tries",
        _rule("stock"),
        _stock,
    ),
    Step(
        "new weights",
        "The file is edited under traffic: everybody gets the new version.",
        "only v2, nothing fails",
        _edit(RULES, _promoted),
        _promote,
    ),
    Step(
        "endpoint",
        "The file is edited under traffic: one of the two servers of v2 is gone.",
        "only v2-a, nothing fails",
        _edit(SERVICES, _without_v2b),
        _take_away,
    ),
)
