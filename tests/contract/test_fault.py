"""A way to the registry that is bad, and trust that is lost: nothing is taken back meanwhile,
nobody is hammered, and what changed in the meantime arrives as soon as all is well.
"""

import pytest

from tests.contract.driver import Ability
from tests.contract.system import SERVICES, System, Use
from tests.support.fault_proxy import Cut, Fault, Garbage, Hang, Slow
from tests.support.poll import eventually

pytestmark = pytest.mark.needs(Ability.SERVER)

FAULTS = {
    "the-end-of-every-connection": Cut(),
    "a-reset-at-once": Cut(reset=True),
    # Far enough for a handshake and a log-in, so that it is the listing that ends.
    "half-an-answer": Cut(after=3_000),
    "a-reset-in-the-middle": Cut(after=3_000, reset=True),
    "garbage-at-once": Garbage(),
    "garbage-in-the-middle": Garbage(after=3_000),
    "silence": Hang(),
    "few-bytes-a-second": Slow(2_000),
}
SECONDS = 2.0
CUTS = 6


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_a_bad_way_takes_nothing_along(system: System, fault: Fault) -> None:
    """Whatever half an answer says, it is no listing."""
    await system.break_way(fault)
    await system.keeps(SECONDS)
    if isinstance(fault, Cut | Garbage):
        assert system.retries() > 1, "the fault was not met"
    system.plane.forget_losses()
    await system.put("web", SERVICES["web"][1:])
    await system.mend_way()
    await system.plane.recovers()
    await system.holds(30)
    assert {loss.addresses for loss in system.plane.losses} == {frozenset(SERVICES["web"][:1])}


async def test_connections_that_end_again_and_again_leave_nothing_behind(system: System) -> None:
    """Each one that is made takes the place of one that is gone."""
    await system.put("web", SERVICES["web"][1:])
    await system.holds()
    before = Use.now()
    for number in range(CUTS):
        system.proxy.cut(reset=number % 2 == 0)
        await system.put("web", SERVICES["web"][number % 2 :])
        await system.plane.recovers()
        await system.holds()
    await eventually(Use.now, before.plus(CUTS // 2).covers, every=0.2, hint=f"more than {before}")


async def test_a_frozen_registry_takes_nothing_along(system: System) -> None:
    """A process that hangs keeps its connections open, which says nothing."""
    system.start_counting()
    system.driver.freeze()
    await system.keeps(SECONDS)
    system.check_not_hammered()
    system.driver.thaw()
    await system.put("web", ["10.9.0.1"])
    await system.holds(30)


@pytest.mark.needs(Ability.TLS)
async def test_an_expired_certificate_is_not_trusted(system: System) -> None:
    """Nothing is believed behind it, nothing forgotten, and the reason is shown."""
    system.start_counting()
    await system.driver.expire_certificate()
    await system.plane.fails()
    await system.keeps()
    system.check_not_hammered()
    assert "expired" in system.plane.complaint()
    await system.driver.renew_certificate()
    await system.plane.recovers(45)
    await system.put("web", ["10.9.0.1"])
    await system.holds(30)


@pytest.mark.needs(Ability.REVOKE)
async def test_revoked_credentials_take_nothing_along(system: System) -> None:
    """Being refused is no empty answer; new credentials are taken up where they lie."""
    system.start_counting()
    await system.driver.revoke()
    system.proxy.cut()
    await system.plane.fails(30)
    await system.keeps(SECONDS)
    system.check_not_hammered()
    await system.driver.permit()
    await system.plane.recovers(45)
    await system.put("web", ["10.9.0.1"])
    await system.holds(30)
