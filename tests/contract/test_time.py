"""Registries that are not there at the start, and clocks that jump."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.driver import Driver
from tests.contract.system import SERVICES, System, running_system


@pytest.fixture
async def late_system(driver: Driver, tmp_path: Path) -> AsyncIterator[System]:
    """A control plane that was started while its registry is away."""
    await driver.put_all(SERVICES)
    await driver.kill()
    async with running_system(driver, tmp_path, away=True) as system:
        yield system


async def test_a_registry_that_comes_late_is_taken_up(late_system: System) -> None:
    """A daemon starts without it, is not ready at once, and has all as soon as it is there."""
    plane = late_system.plane
    await plane.fails()
    assert not plane.supervisor.ready()
    plane.clock.jump(31)
    await plane.becomes_ready()
    await plane.shows({})
    await late_system.driver.start()
    await plane.recovers()
    await late_system.holds()


@pytest.mark.parametrize("seconds", [3600.0, -3600.0], ids=["ahead", "back"])
async def test_a_clock_that_jumps_takes_nothing_along(system: System, seconds: float) -> None:
    """A suspended machine finds everything as it was, and goes on from there."""
    system.plane.clock.jump(seconds)
    await system.keeps(0.7)
    await system.put("web", ["10.9.0.1"])
    await system.holds()


@pytest.mark.parametrize("seconds", [3600.0, -3600.0], ids=["ahead", "back"])
async def test_a_clock_that_jumps_in_an_outage_takes_nothing_along(
    system: System, seconds: float
) -> None:
    """Being away for long is no deletion either, and the registry is asked again soon."""
    await system.driver.kill()
    await system.plane.fails()
    system.plane.clock.jump(seconds)
    await system.keeps(0.7)
    await system.driver.start()
    await system.plane.recovers()
    await system.keeps(0.5)
    await system.put("web", ["10.9.0.1"])
    await system.holds()


async def test_a_loss_that_is_held_is_let_go_when_the_clock_is_set_back(system: System) -> None:
    """The guard's bound holds whatever the clock does: a loss is not held for ever."""
    await system.driver.kill()
    await system.driver.wipe()
    await system.driver.start()
    await system.plane.holds_back()
    system.plane.clock.jump(-3600)
    await system.keeps(0.7)
    system.plane.clock.jump(3661)
    system.wanted.clear()
    await system.holds()
