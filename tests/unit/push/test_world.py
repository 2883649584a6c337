"""The indexes say at any time what they would say of the same world loaded anew, and changes touch
the facts that they change.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from aggregator.generators.spec import Root, Unit
from aggregator.model.change import (
    Change,
    ConfigChanged,
    EndpointsChanged,
    MeshChanged,
    PlaceChanged,
    ServiceChanged,
)
from aggregator.model.config import ConfigKey
from aggregator.model.policy import UNION, MergeMode, MergePolicy
from aggregator.model.proxy import Proxy
from aggregator.model.registry import NetworkGateway
from aggregator.model.service import ServiceKey, labels_of
from aggregator.push import world as w
from aggregator.push.world import Fact, World
from config.kind_table import kinds
from config.kinds.destination_rule import DestinationRule
from config.kinds.sidecar import Sidecar
from config.kinds.virtual_service import VirtualService
from config.mesh import MeshConfig
from config.traffic_policy import LocalityLoadBalancerSetting
from tests.support.builders import endpoint, port, rule, service
from tests.support.history import Step, play, steps
from tests.support.mesh import MemorySource

HOST: Final = "reviews.shop.svc.cluster.local"
KEY: Final = ServiceKey("shop", HOST)


def world_of(source: MemorySource, mesh: MeshConfig | None = None) -> World:
    """A world that was loaded from nothing."""
    world = World(mesh or MeshConfig(), "cluster.local", kinds())
    world.apply(
        [
            *(ServiceChanged(key) for key in source.service_keys()),
            *(ConfigChanged(key) for key in source.config_keys()),
            *(PlaceChanged(network) for network in source.networks()),
        ],
        source,
    )
    return world


def indexes(world: World) -> Mapping[str, Any]:
    """All that a world is made of."""
    return {
        name: dict(value) if isinstance(value, dict) else value
        for name, value in vars(world).items()
        if name not in ("mesh", "kinds", "domain")
    }


class Fixture:
    """A source, and a world that follows it."""

    def __init__(self) -> None:
        self.source: Final = MemorySource()
        self.world: Final = World(MeshConfig(), "cluster.local", kinds())

    def apply(self, *changes: Change) -> set[Fact]:
        """Take changes; returns the facts that they touch."""
        return self.world.apply(changes, self.source).facts


@settings(max_examples=150, deadline=None)
@given(history=st.lists(st.lists(steps(), max_size=4), max_size=8))
def test_indexes_do_not_depend_on_history(history: Sequence[Sequence[Step]]) -> None:
    """An entry that is left behind would be wrong for good; one that is lost, too."""
    source = MemorySource()
    world = World(MeshConfig(), "cluster.local", kinds())
    for batch in history:
        world.apply([change for step in batch for change in play(step, source)], source)
    assert indexes(world) == indexes(world_of(source))


@settings(max_examples=100, deadline=None)
@given(history=st.lists(steps(), max_size=12))
def test_world_is_empty_after_everything_went(history: Sequence[Step]) -> None:
    """Nothing stays in memory of what is gone."""
    source = MemorySource()
    world = World(MeshConfig(), "cluster.local", kinds())
    for step in history:
        world.apply(play(step, source), source)
    changes: list[Change] = [source.remove_service(key) for key in source.service_keys()]
    changes += [source.remove_config(key) for key in source.config_keys()]
    changes += [source.put_gateways(network) for network in source.networks()]
    world.apply(changes, source)
    assert not any(indexes(world).values())


@settings(max_examples=100, deadline=None)
@given(history=st.lists(steps(), max_size=6))
def test_equal_content_touches_nothing(history: Sequence[Step]) -> None:
    """A registry that tells the same again costs nothing."""
    source = MemorySource()
    for step in history:
        play(step, source)
    world = world_of(source)
    again = world.load(source)
    assert not again.facts
    assert not again.views_move


def test_service_touches_what_can_be_asked_about_it() -> None:
    """Each way of asking is a fact that a new service touches, for what found nothing before."""
    mesh = Fixture()
    made = service(HOST, port(80), port(9000, "TCP"), addresses=["10.9.0.1"])
    assert mesh.apply(mesh.source.put_service(made, endpoint())) == {
        (w.HOST, HOST),
        (w.HTTP_PORT, 80),
        (w.HTTP_PORTS, ""),
        (w.TCP_PORT, 9000),
        (w.ADDRESS, "10.9.0.1"),
        (w.ENDPOINTS, KEY),
        (w.UNDER, "shop.svc.cluster.local"),
        (w.UNDER, "svc.cluster.local"),
        (w.UNDER, "cluster.local"),
        (w.UNDER, "local"),
    }


def test_second_service_on_a_port_is_no_new_port() -> None:
    """Units that list ports are not built for each service."""
    mesh = Fixture()
    mesh.apply(mesh.source.put_service(service(HOST)))
    touched = mesh.apply(mesh.source.put_service(service("other.shop.svc.cluster.local")))
    assert (w.HTTP_PORT, 80) in touched
    assert (w.HTTP_PORTS, "") not in touched


def test_detail_of_an_http_service_does_not_touch_its_port() -> None:
    """Who speaks HTTP on a port is the same after a label changed."""
    mesh = Fixture()
    mesh.apply(mesh.source.put_service(service(HOST)))
    assert mesh.apply(mesh.source.put_service(service(HOST, labels={"a": "b"}))) == {(w.HOST, HOST)}


def test_endpoints_touch_only_themselves() -> None:
    """The commonest change must stay the cheapest."""
    mesh = Fixture()
    mesh.apply(mesh.source.put_service(service(HOST)))
    touched = mesh.apply(mesh.source.put_endpoints(KEY, endpoint()))
    assert touched == {(w.ENDPOINTS, KEY)}
    assert mesh.apply(EndpointsChanged(KEY)) == set()


def test_rule_touches_its_hosts_before_and_after() -> None:
    """A rule that moves to another host changes both."""
    mesh = Fixture()
    mesh.apply(mesh.source.put_config(rule(DestinationRule, {"host": HOST})))
    moved = mesh.apply(mesh.source.put_config(rule(DestinationRule, {"host": "b.shop"})))
    assert moved == {
        (w.CONFIG, ConfigKey("DestinationRule", "shop", "rule")),
        (w.CONFIG_HOST, ("DestinationRule", HOST)),
        (w.CONFIG_HOST, ("DestinationRule", "b.shop")),
    }


def test_places_that_are_no_networks_and_the_mesh_touch_no_index() -> None:
    """A namespace's labels are the registries' business; the mesh comes by a way of its own."""
    mesh = Fixture()
    assert mesh.apply(PlaceChanged("shop"), MeshChanged()) == set()


def test_gateways_touch_their_network() -> None:
    """And only if they are others than before."""
    mesh = Fixture()
    way = NetworkGateway("net2", "192.0.2.1", 15443)
    assert mesh.apply(mesh.source.put_gateways("net2", way)) == {(w.GATEWAYS, "net2")}
    assert mesh.apply(mesh.source.put_gateways("net2", way)) == set()
    assert mesh.apply(mesh.source.put_gateways("net2")) == {(w.GATEWAYS, "net2")}
    assert mesh.world.gateways == {}


def test_policy_touches_only_itself() -> None:
    """A step of a migration is nothing that clusters' names or routes depend on."""
    mesh = Fixture()
    policy = MergePolicy(MergeMode.WEIGHTS, shares=(("east", 100),))
    mesh.apply(mesh.source.put_service(service(HOST), endpoint()))
    assert mesh.apply(mesh.source.put_policy(KEY, policy)) == {(w.POLICY, KEY)}
    assert mesh.apply(mesh.source.put_policy(KEY, policy)) == set()
    assert mesh.apply(mesh.source.put_policy(KEY, UNION)) == {(w.POLICY, KEY)}
    assert mesh.world.policies == {}


def test_address_that_moves_between_clusters_is_touched() -> None:
    """The same addresses, but others' own: whoever has looked one up must look again."""
    mesh = Fixture()
    both = service(HOST, addresses=("10.0.0.1", "10.0.0.2"))
    owners = (("east", ("10.0.0.1",)), ("west", ("10.0.0.2",)))
    mesh.apply(mesh.source.put_service(replace(both, cluster_addresses=owners)))
    swapped = (("east", ("10.0.0.2",)), ("west", ("10.0.0.1",)))
    moved = mesh.apply(mesh.source.put_service(replace(both, cluster_addresses=swapped)))
    assert moved >= {(w.ADDRESS, "10.0.0.1"), (w.ADDRESS, "10.0.0.2"), (w.HOST, HOST)}


def test_mesh_touches_the_fields_that_differ() -> None:
    """A setting costs what reads it."""
    mesh = Fixture()
    touched = mesh.world.set_mesh(MeshConfig(access_log_file="/dev/stdout"))
    assert touched.facts == {(w.MESH, "access_log_file")}
    assert not touched.views_move
    assert mesh.world.set_mesh(MeshConfig(root_namespace="root")).views_move
    priority = LocalityLoadBalancerSetting(failover_priority=("rack=1",))
    assert mesh.world.set_mesh(
        MeshConfig(root_namespace="root", locality_lb_setting=priority)
    ).views_move
    assert mesh.world.label_names() == {"rack"}


def test_views_move_only_when_a_selector_comes_or_goes() -> None:
    """Looking at every connected proxy is for changes that may concern its class."""
    mesh = Fixture()
    spec = {"host": HOST, "workloadSelector": {"matchLabels": {"app": "x"}}}

    def moved(change: Change) -> bool:
        return mesh.world.apply([change], mesh.source).views_move

    first = rule(DestinationRule, spec, name="one")
    second = rule(DestinationRule, spec, name="two")
    assert moved(mesh.source.put_config(first))
    assert not moved(mesh.source.put_config(second))
    assert not moved(mesh.source.remove_config(first.key))
    assert moved(mesh.source.remove_config(second.key))


@pytest.mark.parametrize("root", list(Root))
def test_roots_are_those_that_exist(root: Root) -> None:
    """A unit exists as long as its key is in its index."""
    mesh = Fixture()
    mesh.apply(
        mesh.source.put_service(
            service(HOST, port(80), port(9000, "TCP"), addresses=["10.9.0.1", "10.8.0.0/16"])
        ),
        mesh.source.put_config(
            rule(
                VirtualService,
                {"hosts": ["only.a.rule"], "http": [{"redirect": {"uri": "/"}}]},
            )
        ),
    )
    expected = {
        Root.VIEW: {""},
        Root.HOST: {HOST},
        Root.PORT: {"80", "9000"},
        Root.ADDRESS: {"10.9.0.1"},
        Root.ROUTE_HOST: {HOST, "only.a.rule"},
    }
    assert set(mesh.world.roots(root)) == expected[root]
    assert all(mesh.world.has_root(Unit(root, key)) for key in expected[root])
    absent = {Root.VIEW: "", Root.PORT: "81"}.get(root, "x")
    assert mesh.world.has_root(Unit(root, absent)) == (root is Root.VIEW)


def sidecar(name: str, namespace: str, created: float = 0.0, **labels: str) -> Any:
    """A Sidecar, for all proxies of its namespace unless labels are given."""
    spec: dict[str, Any] = {"egress": [{"hosts": ["./*"]}]}
    if labels:
        spec["workloadSelector"] = {"labels": labels}
    return rule(Sidecar, spec, name=name, namespace=namespace, created=created)


def test_sidecar_of_a_proxy_is_the_one_that_selects_it_best() -> None:
    """By labels, else its namespace's, else the root namespace's; of several the oldest."""
    mesh = Fixture()
    client = Proxy(id="p", namespace="shop", labels=labels_of({"app": "x"}))
    found = []
    for config in (
        sidecar("mesh", "istio-system"),
        sidecar("selected-root", "istio-system", app="x"),
        sidecar("other", "bank"),
        sidecar("young", "shop", created=5.0),
        sidecar("old", "shop", created=4.0),
        sidecar("not-mine", "shop", app="y"),
        sidecar("mine", "shop", created=9.0, app="x"),
    ):
        mesh.apply(mesh.source.put_config(config))
        key = mesh.world.sidecar_for(client)
        found.append(key.name if key else "")
    assert found == ["mesh", "mesh", "mesh", "young", "old", "old", "mine"]
    router = Proxy(id="r", kind="router", namespace="shop")
    assert mesh.world.sidecar_for(router) is None
