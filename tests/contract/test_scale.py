"""Many services, and many changes for a while: in the end the streams hold exactly what is."""

import asyncio
import random
import time
from pathlib import Path

import pytest

from tests.contract.driver import Driver
from tests.contract.system import System, running_system

MANY = 10_000
BATCH = 100
SECONDS_TO_ARRIVE = 120.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


async def test_ten_thousand_services_arrive_and_one_of_them_changes(
    driver: Driver, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of them are on the streams, and a change of one is not held up by the others."""
    many = {f"s{number}": [_address(number)] for number in range(MANY)}
    await driver.put_all(many)
    began = time.monotonic()
    async with running_system(driver, tmp_path, many, seconds=SECONDS_TO_ARRIVE) as system:
        arrived = time.monotonic()
        await system.put("s77", ["10.9.0.1"])
        await system.plane.shows(system.wanted, SECONDS_TO_ARRIVE)
        changed = time.monotonic()
    with capsys.disabled():
        print(  # noqa: T201 — a figure for whoever runs it.
            f"\n{driver.type}: {MANY} services on both streams after {arrived - began:.1f} s, "
            f"a change of one after {changed - arrived:.2f} s"
        )


async def test_changes_without_a_pause_end_in_what_is(
    driver: Driver, system: System, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    """Up to a thousand changes a second, and none is lost."""
    seconds = pytestconfig.getoption("churn_seconds")
    chance = random.Random(1)
    names = [f"s{number}" for number in range(10 * BATCH)]
    began, changes = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        batch = {name: _some_addresses(chance) for name in chance.sample(names, BATCH)}
        await driver.put_all(batch)
        changes += len(batch)
        for name, addresses in batch.items():
            system.wanted[driver.host(name)] = addresses
        if driver.changes_per_second:
            await asyncio.sleep(began + changes / driver.changes_per_second - time.monotonic())
    written = time.monotonic()
    await system.plane.shows(system.wanted, SECONDS_TO_ARRIVE)
    lag, rate = time.monotonic() - written, changes / (written - began)
    with capsys.disabled():
        print(  # noqa: T201
            f"\n{driver.type}: {changes} changes in {written - began:.1f} s, {rate:.0f} a second; "
            f"the last on both streams after {lag:.2f} s"
        )


def _address(number: int) -> str:
    return f"10.{20 + number // 62_500}.{number // 250 % 250}.{number % 250 + 1}"


def _some_addresses(chance: random.Random) -> list[str]:
    return sorted({_address(chance.randrange(60_000)) for _ in range(chance.randrange(1, 4))})
