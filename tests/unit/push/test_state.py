"""What a view has: who may say what a name means, wholes joined from parts, and what differs."""

import itertools
from typing import Final

import msgspec
import pytest
from envoy.config.route.v3 import route_components_pb2, route_pb2

from aggregator.generators.spec import (
    CLUSTER,
    ROUTE,
    VIRTUAL_HOST,
    GeneratorSpec,
    Resource,
    ResourceType,
    Root,
    Unit,
    resource_of,
)
from aggregator.push.known import Known
from aggregator.push.state import ViewDiff, ViewState
from aggregator.push.unit import Built
from aggregator.push.view import RecordingView
from aggregator.push.world import World
from config.mesh import MeshConfig
from tests.support.session import KEY, resource

CLUSTERS: Final = GeneratorSpec(CLUSTER, (Root.HOST,), lambda _view, _unit: (), frozenset())
MORE_CLUSTERS: Final = msgspec.structs.replace(CLUSTERS)
ROUTES: Final = GeneratorSpec(ROUTE, (Root.PORT,), lambda _view, _unit: (), frozenset())
VIRTUAL_HOSTS: Final = GeneratorSpec(
    VIRTUAL_HOST,
    (Root.ROUTE_HOST,),
    lambda _view, _unit: (),
    frozenset(),
    part_of=ROUTE,
    part_field=2,
)
WORLD: Final = World(MeshConfig(), "cluster.local", {})


def view_of(*, vhds: bool = True) -> ViewState:
    """An empty view."""
    key = msgspec.structs.replace(KEY, vhds=vhds)
    return ViewState(key, (CLUSTERS, MORE_CLUSTERS, ROUTES, VIRTUAL_HOSTS))


def install(view: ViewState, spec: GeneratorSpec, unit: str, *resources: Resource) -> None:
    """Put a unit's resources."""
    place = Unit(spec.roots[0], unit)
    reader = RecordingView(WORLD, view.key, spec)
    view.install(spec, place, Built(spec, place, {each.name: each for each in resources}, reader))


def take_away(view: ViewState, spec: GeneratorSpec, unit: str) -> None:
    """The unit's root is gone."""
    view.install(spec, Unit(spec.roots[0], unit), None)


def bodies(view: ViewState, kind: ResourceType) -> dict[str, str]:
    """What the view has of a type."""
    view.finish()
    snapshot = view.snapshot(kind.type_url).resources
    return {name: each.body.decode() for name, each in snapshot.items()}


def diff_of(view: ViewState) -> dict[str, set[str]]:
    """What differs since the last call, by short names."""
    diff: ViewDiff = view.finish()
    return {type_url.rpartition(".")[2]: set(names) for type_url, names in diff.items()}


def test_only_what_changed_is_told() -> None:
    """An equal resource of a rebuilt unit is no change."""
    view = view_of()
    install(view, CLUSTERS, "h", resource(CLUSTER, "a", "1"), resource(CLUSTER, "b", "1"))
    assert diff_of(view) == {"Cluster": {"a", "b"}}
    install(view, CLUSTERS, "h", resource(CLUSTER, "a", "1"), resource(CLUSTER, "b", "2"))
    assert diff_of(view) == {"Cluster": {"b"}}
    assert diff_of(view) == {}


def test_name_that_a_unit_drops_goes() -> None:
    """What a rebuilt unit does not make any more is removed."""
    view = view_of()
    install(view, CLUSTERS, "h", resource(CLUSTER, "a"), resource(CLUSTER, "b"))
    view.finish()
    install(view, CLUSTERS, "h", resource(CLUSTER, "b"))
    assert diff_of(view) == {"Cluster": {"a"}}
    take_away(view, CLUSTERS, "h")
    assert diff_of(view) == {"Cluster": {"b"}}
    assert bodies(view, CLUSTER) == {}
    assert view.units == {}


def test_snapshot_is_the_same_object_until_something_changes() -> None:
    """A thousand clients that connect share one state."""
    view = view_of()
    install(view, CLUSTERS, "h", resource(CLUSTER, "a"))
    view.finish()
    first = view.snapshot(CLUSTER.type_url)
    assert view.snapshot(CLUSTER.type_url) is first
    install(view, CLUSTERS, "h", resource(CLUSTER, "a", "new"))
    view.finish()
    assert view.snapshot(CLUSTER.type_url) is not first
    assert first.resources["a"].body == b""
    assert view.snapshot(ROUTE.type_url) is Known.EMPTY


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_contested_name_is_the_first_units_whatever_the_order(order: tuple[int, ...]) -> None:
    """On every replica the same unit has its way, however the units came in."""
    view = view_of()
    claims = [(CLUSTERS, "a", "first"), (CLUSTERS, "b", "second"), (MORE_CLUSTERS, "b", "third")]
    for index in order:
        spec, unit, body = claims[index]
        install(view, spec, unit, resource(CLUSTER, "x", body))
    assert bodies(view, CLUSTER) == {"x": "first"}
    for index, rest in ((0, "second"), (1, "third"), (2, None)):
        spec, unit, _ = claims[index]
        take_away(view, spec, unit)
        assert bodies(view, CLUSTER).get("x") == rest


def test_loser_of_a_name_may_change_unnoticed() -> None:
    """What is hidden behind another unit's resource is no change for anybody."""
    view = view_of()
    install(view, CLUSTERS, "a", resource(CLUSTER, "x", "winner"))
    install(view, CLUSTERS, "b", resource(CLUSTER, "x", "loser"))
    view.finish()
    install(view, CLUSTERS, "b", resource(CLUSTER, "x", "loser, changed"))
    assert diff_of(view) == {}
    install(view, CLUSTERS, "a")
    assert diff_of(view) == {"Cluster": {"x"}}
    assert bodies(view, CLUSTER) == {"x": "loser, changed"}


def head(name: str, *internal: str) -> Resource:
    """A route table without virtual hosts."""
    message = route_pb2.RouteConfiguration(name=name, internal_only_headers=internal)
    return resource_of(ROUTE, name, message)


def host(name: str, *domains: str) -> Resource:
    """A virtual host."""
    message = route_components_pb2.VirtualHost(name=name, domains=domains)
    return resource_of(VIRTUAL_HOST, name, message, clusters=[f"cluster of {name}"])


def test_whole_holds_its_parts_in_their_order() -> None:
    """Clients without VHDS get one table, the same on every replica."""
    views = [view_of(vhds=False) for _ in range(2)]
    for view, names in zip(views, (["80/a", "80/b"], ["80/b", "80/a"]), strict=True):
        install(view, ROUTES, "80", head("80"))
        for name in names:
            install(view, VIRTUAL_HOSTS, name, host(name, name))
        assert diff_of(view) == {"RouteConfiguration": {"80"}}
    tables = [view.resource(ROUTE.type_url, "80") for view in views]
    assert tables[0] is not None
    assert tables[1] is not None
    assert tables[0].any_field == tables[1].any_field
    assert tables[0].version == tables[1].version
    table = route_pb2.RouteConfiguration.FromString(tables[0].body)
    assert [each.name for each in table.virtual_hosts] == ["80/a", "80/b"]
    assert tables[0].clusters == {"cluster of 80/a", "cluster of 80/b"}


def test_whole_follows_its_head_and_its_parts() -> None:
    """Each change of either is one change of the table."""
    view = view_of(vhds=False)
    install(view, VIRTUAL_HOSTS, "a", host("80/a", "a"))
    assert diff_of(view) == {}, "there is no table yet"
    install(view, ROUTES, "80", head("80"))
    assert diff_of(view) == {"RouteConfiguration": {"80"}}
    install(view, ROUTES, "80", head("80", "x-changed"))
    assert diff_of(view) == {"RouteConfiguration": {"80"}}
    install(view, VIRTUAL_HOSTS, "a")
    assert diff_of(view) == {"RouteConfiguration": {"80"}}
    install(view, VIRTUAL_HOSTS, "a", host("80/a", "a"))
    view.finish()
    take_away(view, ROUTES, "80")
    assert diff_of(view) == {"RouteConfiguration": {"80"}}
    assert view.resource(ROUTE.type_url, "80") is None


def test_parts_stay_apart_for_clients_that_take_them_so() -> None:
    """On VHDS a changed virtual host does not touch the table."""
    view = view_of()
    install(view, ROUTES, "80", head("80"))
    install(view, VIRTUAL_HOSTS, "a", host("80/a", "a"))
    view.finish()
    install(view, VIRTUAL_HOSTS, "a", host("80/a", "other"))
    assert diff_of(view) == {"VirtualHost": {"80/a"}}


def test_content_is_equal_whatever_way_led_there() -> None:
    """Views that have the same share the responses of their clients."""
    one, other = view_of(), view_of()
    install(one, CLUSTERS, "h", resource(CLUSTER, "a", "old"), resource(CLUSTER, "b"))
    install(one, CLUSTERS, "h", resource(CLUSTER, "a", "new"))
    install(other, CLUSTERS, "h", resource(CLUSTER, "a", "new"))

    assert one.content(CLUSTER.type_url) == other.content(CLUSTER.type_url)
    assert one.content(ROUTE.type_url) == other.content(ROUTE.type_url)


def test_content_tells_states_apart() -> None:
    """A response for another state would be a wrong one."""
    view = view_of()
    seen = {view.content(CLUSTER.type_url)}
    for resources in (
        [resource(CLUSTER, "a", "1")],
        [resource(CLUSTER, "a", "2")],
        [resource(CLUSTER, "b", "1")],
        [resource(CLUSTER, "a", "1"), resource(CLUSTER, "b", "2")],
        [resource(CLUSTER, "a", "2"), resource(CLUSTER, "b", "1")],
    ):
        install(view, CLUSTERS, "h", *resources)
        seen.add(view.content(CLUSTER.type_url))
    assert len(seen) == 6
    take_away(view, CLUSTERS, "h")
    assert view.content(CLUSTER.type_url) in seen


def test_content_tells_apart_states_that_swap_their_versions() -> None:
    """A sum of what is nearly a sum would take the one for the other."""
    one, other = view_of(), view_of()
    for number in range(200):
        first, second = f"a{number}", f"b{number}"
        install(one, CLUSTERS, "h", resource(CLUSTER, first, "1"), resource(CLUSTER, second, "2"))
        install(other, CLUSTERS, "h", resource(CLUSTER, first, "2"), resource(CLUSTER, second, "1"))
        assert one.content(CLUSTER.type_url) != other.content(CLUSTER.type_url)


def test_view_made_like_another_goes_its_own_way() -> None:
    """What changes in one of them must not change in the other."""
    first = view_of()
    install(first, CLUSTERS, "h", resource(CLUSTER, "a"), resource(CLUSTER, "b"))
    first.finish()
    second = first.branch(first.key)
    assert all({first, second} <= built.views for built in second.units.values())

    install(second, CLUSTERS, "h", resource(CLUSTER, "b"))
    assert diff_of(second) == {"Cluster": {"a"}}
    assert set(bodies(second, CLUSTER)) == {"b"}
    assert diff_of(first) == {}
    assert set(bodies(first, CLUSTER)) == {"a", "b"}
