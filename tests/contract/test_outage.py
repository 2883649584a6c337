"""A registry that dies: what it said last stays, and what it says afterwards counts."""

from tests.contract.system import SERVICES, System


async def test_a_killed_registry_takes_nothing_along(system: System) -> None:
    """Neither when it dies nor when it comes back, for old streams and for new ones."""
    system.start_counting()
    await system.driver.kill()
    await system.plane.fails()
    await system.keeps()
    system.check_not_hammered()
    await system.driver.start()
    await system.plane.recovers()
    await system.keeps(0.5)
    await system.put("web", ["10.9.0.1", "10.9.0.2"])
    await system.holds()


async def test_a_registry_that_is_stopped_in_good_order_takes_nothing_along(
    system: System,
) -> None:
    """Saying goodbye is no deletion."""
    await system.driver.stop()
    await system.plane.fails()
    await system.keeps()
    await system.driver.start()
    await system.plane.recovers()
    await system.keeps(0.5)
    await system.put("web", ["10.9.0.1"])
    await system.holds()


async def test_what_changed_while_nobody_looked_is_seen_afterwards(system: System) -> None:
    """An instance that is deregistered while the daemon is cut off goes once it is back."""
    await system.cut_off()
    await system.put("web", SERVICES["web"][1:])
    await system.put("new", ["10.9.0.3"])
    await system.remove("api")
    await system.reconnect()
    await system.holds()


async def test_a_registry_that_comes_back_empty_is_not_believed_at_once(system: System) -> None:
    """What it lacks is held for the time of the loss guard, and goes then."""
    await system.driver.kill()
    await system.driver.wipe()
    await system.driver.start()
    await system.plane.holds_back()
    await system.keeps()
    system.plane.clock.jump(61)
    system.wanted.clear()
    await system.holds()


async def test_a_registry_that_comes_back_as_it_was_earlier_is_followed(system: System) -> None:
    """Its revisions are lower than those that were seen, which stops nothing."""
    await system.driver.kill()
    await system.driver.back_up()
    await system.driver.start()
    for number in range(20):
        await system.put("web", [f"10.9.1.{number}"])
    await system.put("late", ["10.9.0.4"])
    await system.holds()
    await system.driver.kill()
    await system.driver.restore()
    await system.driver.start()
    del system.wanted[system.driver.host("late")]
    system.wanted[system.driver.host("web")] = SERVICES["web"]
    await system.holds()
    await system.put("web", ["10.9.2.1"])
    await system.holds()
