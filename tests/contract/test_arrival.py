"""What a registry says arrives, once and completely, and nothing else does."""

import asyncio

import pytest

from tests.contract.driver import Ability
from tests.contract.system import SERVICES, System


async def test_services_come_change_and_go(system: System) -> None:
    """Both variants of the protocol hold what the registry says, also who connects later."""
    await system.put("late", ["10.2.0.1"])
    await system.holds()
    await system.put("late", ["10.2.0.2", "10.2.0.3"])
    await system.holds()
    await system.put("late", [])
    await system.holds()
    await system.remove("late")
    await system.holds()
    await system.plane.shows_to_newcomers(system.wanted)


@pytest.mark.needs(Ability.SERVER)
async def test_a_registry_without_news_is_left_alone(system: System) -> None:
    """Nobody polls in a loop, and streams are sent nothing."""
    # What the registry has of its own may come after what was waited for.
    await asyncio.sleep(0.5)
    before = [mirror.responses for mirror in system.plane.mirrors]
    system.start_counting()
    await asyncio.sleep(2)
    system.check_not_hammered()
    assert [mirror.responses for mirror in system.plane.mirrors] == before


@pytest.mark.needs(Ability.BAD)
async def test_what_cannot_be_understood_keeps_its_own_last_value(system: System) -> None:
    """One bad item is reported, and harms neither itself nor others."""
    await system.driver.spoil("web")
    await system.put("api", ["10.3.0.1"])
    await system.holds()
    assert system.plane.status.problems == 1
    await system.driver.put("web", SERVICES["web"])
    await system.put("api", ["10.3.0.2"])
    await system.holds()
    assert system.plane.status.problems == 0


async def test_a_registry_that_leaves_the_settings_leaves_the_streams(system: System) -> None:
    """Removal is an order, and not a loss to be doubted."""
    await system.plane.apply(None)
    await system.plane.shows({})
