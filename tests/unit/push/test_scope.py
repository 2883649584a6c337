"""Which services the proxies of a view know, by Sidecars and by the rules that they import."""

from aggregator.generators.spec import CLUSTER, VIRTUAL_HOST
from aggregator.push.state import ViewState
from config.kinds.sidecar import Sidecar
from config.kinds.virtual_service import VirtualService
from tests.support.builders import endpoint, port, rule, service
from tests.support.mesh import MemorySource, make_engine
from tests.support.proxy import Silent, proxy

SHOP = "front.shop.svc.cluster.local"
BANK = "ledger.bank.svc.cluster.local"


def source() -> MemorySource:
    """A shop whose Sidecar imports the shop only, and a bank."""
    made = MemorySource()
    made.put_service(service(SHOP, port(80)), endpoint())
    made.put_service(service(BANK, port(80)), endpoint())
    made.put_config(rule(Sidecar, {"egress": [{"hosts": ["./*"]}]}, name="own"))
    return made


def route(host: str, weight: int = 100) -> dict[str, object]:
    """A VirtualService of the shop's front that sends to *host*."""
    target = {"destination": {"host": host}, "weight": weight}
    return {"hosts": [SHOP], "http": [{"route": [target]}]}


async def view_of(made: MemorySource) -> ViewState:
    """What a proxy in the shop gets."""
    return await make_engine(made).attach(Silent(), proxy("shop"), vhds=True)


def clusters(view: ViewState) -> set[str]:
    """Names of the view's clusters for services."""
    names = view.snapshot(CLUSTER.type_url).resources
    return {name for name in names if name.startswith("outbound|")}


async def test_sidecar_hides_what_it_does_not_import() -> None:
    """A Sidecar keeps a proxy small: other namespaces' services do not reach it."""
    assert clusters(await view_of(source())) == {f"outbound|80||{SHOP}"}


async def test_service_that_an_imported_rule_sends_to_is_known() -> None:
    """A route of one's own namespace to another one works without importing that one, as in
    Istio.
    """
    made = source()
    made.put_config(rule(VirtualService, route(BANK)))
    view = await view_of(made)
    assert clusters(view) == {f"outbound|80||{SHOP}", f"outbound|80||{BANK}"}
    hosts = view.snapshot(VIRTUAL_HOST.type_url).resources
    assert set(hosts) == {f"80/{SHOP}:80"}, "it is no host that one can ask for"


async def test_rule_that_is_not_imported_makes_nothing_known() -> None:
    """The bank's own rules are none of the shop's business."""
    made = source()
    made.put_config(rule(VirtualService, {**route(BANK), "hosts": [BANK]}, namespace="bank"))
    assert clusters(await view_of(made)) == {f"outbound|80||{SHOP}"}


async def test_rule_that_comes_and_goes_takes_the_cluster_along() -> None:
    """The look-up that found no rule is remembered, so that a later rule is noticed."""
    made = source()
    engine = make_engine(made)
    view = await engine.attach(Silent(), proxy("shop"), vhds=True)
    config = rule(VirtualService, route(BANK))
    engine.submit([made.put_config(config)])
    await engine.push()
    assert f"outbound|80||{BANK}" in clusters(view)
    engine.submit([made.remove_config(config.key)])
    await engine.push()
    assert f"outbound|80||{BANK}" not in clusters(view)


async def test_change_of_weights_builds_no_cluster() -> None:
    """That a rule sends there is what matters, not how much."""
    made = source()
    made.put_config(rule(VirtualService, route(BANK)))
    engine = make_engine(made)
    await engine.attach(Silent(), proxy("shop"), vhds=True)
    before = engine.units.units_built
    engine.submit([made.put_config(rule(VirtualService, route(BANK, weight=50)))])
    await engine.push()
    assert engine.units.units_built - before == 1
