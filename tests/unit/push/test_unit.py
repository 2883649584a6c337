"""Units are built once for all views that would answer alike, and are forgotten with the last."""

from collections.abc import Iterable
from typing import Final

import msgspec
import pytest

from aggregator.generators.spec import (
    CLUSTER,
    GeneratorSpec,
    Resource,
    Root,
    Unit,
    View,
    resource_of_bytes,
)
from aggregator.model.errors import GenerationError, Origin
from aggregator.push.state import ViewState
from aggregator.push.unit import UnitStore
from aggregator.push.world import ENDPOINTS, HOST, World
from config.kind_table import kinds
from config.mesh import MeshConfig
from tests.support.builders import endpoint, service
from tests.support.mesh import MemorySource
from tests.support.session import KEY

NAME: Final = "reviews.shop.svc.cluster.local"
UNIT: Final = Unit(Root.HOST, NAME)
SHOP: Final = KEY
BANK: Final = msgspec.structs.replace(KEY, namespace="bank")
WEST: Final = msgspec.structs.replace(KEY, cluster_id="west")


def build(view: View, unit: Unit) -> Iterable[Resource]:
    """The addresses of a host, and whether the proxy is a neighbour."""
    found = view.service(unit.key)
    if found is None:
        return
    addresses = ",".join(each.address for each in view.endpoints(found.key))
    near = "near" if view.in_namespace("shop") else "far"
    if not addresses:
        view.report(Origin("file"), "Service", "has no endpoints")
    if addresses == "bad":
        message = "cannot be expressed"
        raise GenerationError(message)
    yield resource_of_bytes(CLUSTER, unit.key, f"{near} {addresses}".encode())
    yield resource_of_bytes(CLUSTER, "constant", b"constant")


SPEC: Final = GeneratorSpec(CLUSTER, (Root.HOST,), build, frozenset())


class Fixture:
    """A store over a world with one service."""

    def __init__(self) -> None:
        self.source: Final = MemorySource()
        self.world: Final = World(MeshConfig(), "cluster.local", kinds())
        self.source.put_service(service(NAME), endpoint("10.0.0.1"))
        self.world.load(self.source)
        self.store: Final = UnitStore(self.world)
        self.views: Final = {key: ViewState(key, (SPEC,)) for key in (SHOP, BANK, WEST)}

    def install(self) -> None:
        """Obtain the unit for every view."""
        for key, view in self.views.items():
            old = view.units.get((SPEC, UNIT))
            new = self.store.obtain(SPEC, UNIT, key, old)
            view.install(SPEC, UNIT, new)
            if old is not None and old is not new:
                self.store.release(old, view)

    def change(self, *addresses: str) -> int:
        """Change the endpoints and build again; returns how many units that took."""
        before = self.store.units_built
        key = next(iter(self.source.services))
        change = self.source.put_endpoints(key, *(endpoint(each) for each in addresses))
        self.store.invalidate(self.world.apply([change], self.source).facts)
        self.install()
        return self.store.units_built - before


@pytest.fixture
def mesh() -> Fixture:
    """Three views, of which two would answer alike."""
    fixture = Fixture()
    fixture.install()
    return fixture


def test_views_that_answer_alike_share(mesh: Fixture) -> None:
    """What a unit did not ask about makes no difference."""
    place = (SPEC, UNIT)
    built = {key: view.units[place] for key, view in mesh.views.items()}
    assert built[SHOP] is built[WEST]
    assert built[SHOP] is not built[BANK]
    assert mesh.store.units_built == 2
    assert len(mesh.store) == 2


def test_change_builds_each_variant_once(mesh: Fixture) -> None:
    """A change costs the ways in which it is seen, not the number of views."""
    assert mesh.change("10.0.0.2") == 2
    assert len(mesh.store) == 2


def test_unread_fact_invalidates_nothing(mesh: Fixture) -> None:
    """Only what was read counts."""
    assert mesh.store.invalidate([(HOST, "other"), (ENDPOINTS, "other")]) == set()
    assert len(mesh.store) == 2


def test_resource_that_comes_out_the_same_stays_the_same_object(mesh: Fixture) -> None:
    """Nothing is sent for it."""
    view = mesh.views[SHOP]
    before = dict(view.units[SPEC, UNIT].resources)
    mesh.change("10.0.0.2")
    after = view.units[SPEC, UNIT].resources
    assert after["constant"] is before["constant"]
    assert after[NAME] is not before[NAME]


def test_unit_is_forgotten_with_its_last_view(mesh: Fixture) -> None:
    """What nobody uses must not be kept, nor invalidated."""
    for key in (SHOP, BANK, WEST):
        built = mesh.views[key].install(SPEC, UNIT, None)
        assert built is not None
        mesh.store.release(built, mesh.views[key])
    assert len(mesh.store) == 0
    assert not any(
        value for name, value in vars(mesh.store).items() if name in ("_variants", "_readers")
    )


def test_problems_live_as_long_as_the_unit_is_built_this_way(mesh: Fixture) -> None:
    """A problem that is mended goes away by itself; the same one of two variants is one."""
    mesh.change()
    assert [problem.message for problem in mesh.store.problems] == ["has no endpoints"]
    assert len(mesh.store.take_problem_changes()) == 1
    mesh.change("10.0.0.3")
    assert not mesh.store.problems
    assert len(mesh.store.take_problem_changes()) == 1
    assert not mesh.store.take_problem_changes()


def test_what_cannot_be_expressed_keeps_what_was_there(mesh: Fixture) -> None:
    """An object that is wrong must not take working resources away, in no view."""
    before = {key: view.units[SPEC, UNIT].resources for key, view in mesh.views.items()}
    assert mesh.change("bad") == 3, "what was there before is each view's own"
    for key, view in mesh.views.items():
        assert view.units[SPEC, UNIT].resources == before[key]
    assert [problem.message for problem in mesh.store.problems] == ["cannot be expressed"]
    mesh.change("10.0.0.4")
    assert not mesh.store.problems
    assert len(mesh.store) == 2
