"""What generators may read, what is written down of it, and which proxies are of one view."""

from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest

from aggregator.generators.spec import CLUSTER, GeneratorSpec, Root, View
from aggregator.model.config import ConfigKey
from aggregator.model.proxy import Proxy
from aggregator.model.service import Locality, ServiceKey, TrafficDistribution, labels_of
from aggregator.push import world as w
from aggregator.push.view import (
    ALWAYS_READABLE,
    RecordingView,
    UndeclaredReadError,
    ViewKey,
    key_of,
)
from aggregator.push.world import Fact, World
from config.kind_table import kinds
from config.kinds.destination_rule import DestinationRule
from config.kinds.sidecar import Sidecar
from config.mesh import MeshConfig
from config.traffic_policy import LocalityLoadBalancerSetting
from tests.support.builders import endpoint, port, rule, service
from tests.support.mesh import MemorySource

HOST: Final = "reviews.shop.svc.cluster.local"
ATTRIBUTES: Final = frozenset(
    {
        "kind",
        "namespace",
        "domain",
        "cluster_id",
        "network",
        "locality",
        "generator",
        "interception_mode",
        "ipv4",
        "ipv6",
        "vhds",
        "extensions",
    }
)
ALL: Final = GeneratorSpec(
    CLUSTER, (Root.HOST,), lambda _view, _unit: (), ATTRIBUTES, frozenset({"DestinationRule"})
)
NOTHING: Final = GeneratorSpec(CLUSTER, (Root.HOST,), lambda _view, _unit: (), frozenset())
PROXY: Final = Proxy(
    id="p",
    namespace="shop",
    domain="shop.svc.cluster.local",
    addresses=("10.1.0.1",),
    cluster_id="east",
    network="net1",
    locality=Locality("eu", "eu-1"),
    labels=labels_of({"app": "x", "rack": "1"}),
    interception_mode="NONE",
    extensions=frozenset({"envoy.filters.http.lua"}),
)


def world_of(source: MemorySource | None = None, mesh: MeshConfig | None = None) -> World:
    """A world with what *source* has."""
    world = World(mesh or MeshConfig(), "cluster.local", kinds())
    if source is not None:
        world.load(source)
    return world


def key(world: World, proxy: Proxy = PROXY, *, vhds: bool = True) -> ViewKey:
    """The view of a proxy when all attributes are read by somebody."""
    return key_of(proxy, world, vhds=vhds, attributes=ATTRIBUTES)


def reader(world: World, spec: GeneratorSpec = ALL, proxy: Proxy = PROXY) -> RecordingView:
    """What one build would read through."""
    return RecordingView(world, key(world, proxy), spec)


@pytest.mark.parametrize("name", sorted(ATTRIBUTES))
def test_undeclared_attribute_cannot_be_read(name: str) -> None:
    """An input that the spec does not name would be missing from the view's key."""
    view = reader(world_of(), NOTHING)
    with pytest.raises(UndeclaredReadError, match=f"CDS.*{name}"):
        getattr(view, name)


def test_undeclared_kind_cannot_be_read() -> None:
    """The kinds that a type depends on are those that it names."""
    view = reader(world_of(), NOTHING)
    with pytest.raises(UndeclaredReadError, match="VirtualService"):
        view.configs("VirtualService", HOST)
    with pytest.raises(UndeclaredReadError, match="DestinationRule"):
        view.config("DestinationRule", "shop", "rule")


@pytest.mark.parametrize("name", sorted(ATTRIBUTES))
def test_read_attribute_is_what_the_proxy_says_and_is_written_down(name: str) -> None:
    """Views share a unit only where the attributes that it read are the same."""
    view = reader(world_of())
    expected = {"generator": "", "ipv4": True, "ipv6": False, "vhds": True}
    found = getattr(view, name)
    assert found == expected.get(name, getattr(PROXY, name, None))
    assert view.asked == {(name, None): found}


READS: Final[dict[str, tuple[Callable[[View], Any], Fact]]] = {
    "service": (lambda view: view.service("no.such"), (w.HOST, "no.such")),
    "service_in": (lambda view: view.service_in("shop", "no.such"), (w.HOST, "no.such")),
    "endpoints": (
        lambda view: view.endpoints(ServiceKey("shop", HOST)),
        (w.ENDPOINTS, ServiceKey("shop", HOST)),
    ),
    "merge_policy": (
        lambda view: view.merge_policy(ServiceKey("shop", HOST)).order,
        (w.POLICY, ServiceKey("shop", HOST)),
    ),
    "gateways": (lambda view: view.gateways("net9"), (w.GATEWAYS, "net9")),
    "http_on_port": (lambda view: view.http_on_port(81, lambda _: True), (w.HTTP_PORT, 81)),
    "tcp_services_on_port": (lambda view: view.tcp_services_on_port(81), (w.TCP_PORT, 81)),
    "tcp_services_without_address": (
        lambda view: view.tcp_services_without_address(81),
        (w.OPEN_TCP_PORT, 81),
    ),
    "service_ports": (lambda view: view.service_ports(), (w.HTTP_PORTS, "")),
    "hosts_under": (lambda view: view.hosts_under("example.com"), (w.UNDER, "example.com")),
    "services_at": (lambda view: view.services_at("10.9.0.1"), (w.ADDRESS, "10.9.0.1")),
    "configs": (
        lambda view: view.configs("DestinationRule", HOST),
        (w.CONFIG_HOST, ("DestinationRule", HOST)),
    ),
    "config": (
        lambda view: view.config("DestinationRule", "shop", "none"),
        (w.CONFIG, ConfigKey("DestinationRule", "shop", "none")),
    ),
    "mesh": (lambda view: view.mesh.access_log_file, (w.MESH, "access_log_file")),
    "resolves_dynamically": (lambda view: view.resolves_dynamically(), (w.DYNAMIC, "")),
}


@pytest.mark.parametrize("name", READS)
def test_each_look_up_is_written_down_though_it_finds_nothing(name: str) -> None:
    """What is not there yet must be noticed when it comes."""
    read, fact = READS[name]
    view = reader(world_of())
    assert not read(view)
    assert fact in view.facts


def test_every_way_of_asking_is_tested_here() -> None:
    """An accessor without a recorded fact would be a forgotten input."""
    others = {"in_namespace", "matches", "label", "domain_suffix", "sidecar", "report"}
    asking = {name for name in vars(View) if not name.startswith("_")}
    assert asking - ATTRIBUTES - others == READS.keys()


def test_sidecar_is_read_with_its_content() -> None:
    """Its key is the proxy's; what it says may change under the same key."""
    source = MemorySource()
    config = rule(Sidecar, {"egress": [{"hosts": ["./*"]}]}, name="scope")
    source.put_config(config)
    view = reader(world_of(source))
    assert view.sidecar() == config
    assert (w.CONFIG, config.key) in view.facts
    assert ("sidecar", None) in view.asked


def test_service_of_the_own_namespace_comes_first_and_then_the_oldest() -> None:
    """Istio's rule for a host that several namespaces define."""
    source = MemorySource()
    for namespace, created in (("bank", 1.0), ("shop", 3.0), ("farm", 2.0)):
        source.put_service(service("api.example.com", namespace=namespace, created=created))
    world = world_of(source)

    def seen(namespace: str) -> str:
        view = reader(world, proxy=msgspec.structs.replace(PROXY, namespace=namespace))
        found = view.service("api.example.com")
        assert found is not None
        return found.namespace

    assert [seen(each) for each in ("shop", "farm", "bank", "elsewhere")] == [
        "shop",
        "farm",
        "bank",
        "bank",
    ]


def test_service_that_is_exported_to_all_asks_nothing_of_the_proxy() -> None:
    """Most units are shared by all namespaces."""
    source = MemorySource()
    source.put_service(service(HOST), endpoint())
    view = reader(world_of(source))
    assert view.service(HOST) is not None
    assert view.asked.keys() == {("sidecar", None)}


def test_service_that_is_exported_to_some_asks_whether_the_proxy_is_there() -> None:
    """Which namespace it is matters no more than whether it is one of those."""
    source = MemorySource()
    source.put_service(service(HOST, export_to=["bank", "."]))
    world = world_of(source)
    view = reader(world)
    assert view.service(HOST) is not None
    assert view.asked[("in_namespace", frozenset({"bank", "shop"}))] is True
    foreign = reader(world, proxy=msgspec.structs.replace(PROXY, namespace="farm"))
    assert foreign.service(HOST) is None


def test_rule_is_seen_where_it_or_the_mesh_exports_it() -> None:
    """A rule's own exportTo decides, else the mesh's default for its kind."""
    source = MemorySource()
    source.put_config(rule(DestinationRule, {"host": HOST}, namespace="bank"))
    assert reader(world_of(source)).configs("DestinationRule", HOST)
    private = MeshConfig(default_destination_rule_export_to=(".",))
    view = reader(world_of(source, private))
    assert not view.configs("DestinationRule", HOST)
    assert (w.MESH, "default_destination_rule_export_to") in view.facts
    own = rule(DestinationRule, {"host": HOST, "exportTo": ["*"]}, namespace="bank")
    source.put_config(own)
    assert reader(world_of(source, private)).configs("DestinationRule", HOST)


def test_tcp_services_of_a_port_come_oldest_first() -> None:
    """Which one has the port must not depend on who came first to us."""
    source = MemorySource()
    for name, created in (("b", 2.0), ("a", 0.0), ("c", 1.0)):
        made = service(f"{name}.shop.svc.cluster.local", port(9000, "TCP"), created=created)
        source.put_service(made)
    found = reader(world_of(source)).tcp_services_on_port(9000)
    assert [each.host[0] for each in found] == ["c", "b", "a"]


# Views


def test_replicas_are_of_one_view() -> None:
    """A thousand replicas in a zone are one view, whatever their names and addresses."""
    world = world_of()
    other = msgspec.structs.replace(PROXY, id="q", addresses=("10.1.0.2",), node_name="n")
    assert key(world) == key(world, other)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "router"},
        {"namespace": "bank"},
        {"domain": "other"},
        {"cluster_id": "west"},
        {"network": "net2"},
        {"locality": Locality("us")},
        {"interception_mode": "TPROXY"},
        {"addresses": ("fd00::1",)},
        {"addresses": ("fd00::1", "10.1.0.1")},
        {"extensions": frozenset[str]()},
        {"generator": "grpc"},
    ],
    ids=str,
)
def test_proxies_that_differ_in_what_is_read_are_of_different_views(change: dict[str, Any]) -> None:
    """Each attribute that a generator may read is part of the key."""
    world = world_of()
    assert key(world) != key(world, msgspec.structs.replace(PROXY, **change))


@pytest.mark.parametrize(
    ("change", "question"),
    [
        ({"client": "grpc"}, ("generator", None)),
        ({"kind": "router"}, ("kind", None)),
        ({"namespace": "bank"}, ("in_namespace", frozenset({"bank"}))),
        ({"cluster_id": "west"}, ("in_cluster", frozenset({"west"}))),
        ({"locality": Locality("us")}, ("locality", None)),
        ({"vhds": False}, ("vhds", None)),
        ({"selectors": frozenset({labels_of({"app": "x"})})}, ("matches", labels_of({"app": "x"}))),
        ({"labels": labels_of({"rack": "1"})}, ("label", "rack")),
    ],
    ids=str,
)
def test_question_that_classes_answer_differently_is_known_to_differ(
    change: dict[str, Any], question: tuple[str, Any]
) -> None:
    """A class of proxies starts from what another one has, but for what asked such a question."""
    one = key(world_of())
    other = msgspec.structs.replace(one, **change)
    assert one.answer(*question) != other.answer(*question)
    assert question[0] in one.differing(other)
    assert one.differing(one) == frozenset()


def test_every_question_that_is_always_allowed_tells_what_it_is_about() -> None:
    """One that does not would be taken for answered alike by classes that answer differently."""
    ones = key(world_of())
    others = ViewKey(
        **{name: object() for name in ViewKey.__struct_fields__}  # type: ignore[arg-type]
    )
    assert ones.differing(others) >= ALWAYS_READABLE


def test_attributes_that_nobody_reads_do_not_split_views() -> None:
    """A mesh whose rules do not care for localities has fewer views."""
    other = msgspec.structs.replace(
        PROXY,
        domain="d",
        cluster_id="c",
        network="n",
        locality=Locality("us"),
        interception_mode="TPROXY",
        extensions=frozenset[str](),
    )
    world = world_of()
    keys = {
        key_of(each, world, vhds=True, attributes=frozenset({"kind"})) for each in (PROXY, other)
    }
    assert len(keys) == 1


def test_labels_count_only_as_far_as_some_object_selects_by_them() -> None:
    """Pods' labels differ in what no rule asks about."""
    source = MemorySource()
    other = msgspec.structs.replace(PROXY, labels=labels_of({"app": "y", "rack": "2"}))
    assert key(world_of(source)) == key(world_of(source), other)
    selecting = {"host": HOST, "workloadSelector": {"matchLabels": {"app": "x"}}}
    source.put_config(rule(DestinationRule, selecting))
    world = world_of(source)
    assert key(world) != key(world, other)
    selector = labels_of({"app": "x"})
    assert reader(world).matches(selector)
    assert not reader(world, proxy=other).matches(selector)
    assert reader(world, proxy=other).matches(())


def test_label_is_read_where_priorities_compare_it() -> None:
    """Failover by labels splits views by these labels and no others."""
    setting = LocalityLoadBalancerSetting(failover_priority=("rack",))
    world = world_of(mesh=MeshConfig(locality_lb_setting=setting))
    view = reader(world)
    assert (view.label("rack"), view.label("app")) == ("1", "")
    assert view.asked == {("label", "rack"): "1", ("label", "app"): ""}


# Clusters

EAST: Final = service(HOST, port(80), addresses=("10.96.0.1", "10.97.0.1", "192.0.2.1"))
BOTH: Final = msgspec.structs.replace(
    EAST, cluster_addresses=(("east", ("10.96.0.1",)), ("west", ("10.97.0.1",)))
)


def in_cluster(world: World, cluster_id: str) -> RecordingView:
    """What a build for proxies of a cluster reads through."""
    return reader(world, proxy=msgspec.structs.replace(PROXY, cluster_id=cluster_id))


@pytest.mark.parametrize(
    ("cluster_id", "expected"),
    [
        ("east", ("10.96.0.1", "192.0.2.1")),
        ("west", ("10.97.0.1", "192.0.2.1")),
        ("south", ("10.96.0.1", "192.0.2.1")),
        ("", ("10.96.0.1", "192.0.2.1")),
    ],
)
def test_service_has_the_addresses_of_the_proxys_cluster(
    cluster_id: str, expected: tuple[str, ...]
) -> None:
    """A virtual IP of another cluster is somebody else's here; those of no cluster are everyone's,
    and who has none of its own borrows those of the first.
    """
    source = MemorySource()
    source.put_service(BOTH)
    view = in_cluster(world_of(source), cluster_id)
    found = [view.service(HOST), view.service_in("shop", HOST)]
    assert [each and each.addresses for each in found] == [expected, expected]


def test_service_of_one_cluster_asks_nothing_of_the_proxy() -> None:
    """All clusters share the units of what only one of them has."""
    source = MemorySource()
    of_one = msgspec.structs.replace(EAST, cluster_addresses=(("east", EAST.addresses),))
    source.put_service(of_one)
    view = reader(world_of(source))
    assert view.service(HOST) == of_one
    assert view.asked.keys() == {("sidecar", None)}


def test_address_is_the_own_clusters_service_before_one_that_is_lent() -> None:
    """Clusters give out the same addresses; an older service of another one must not take it."""
    source = MemorySource()
    address = ("10.96.0.1",)
    for name, cluster_id, created in (("a", "east", 1.0), ("b", "west", 2.0)):
        made = service(f"{name}.shop.mesh", addresses=address, created=created)
        owned = ((cluster_id, address),)
        source.put_service(msgspec.structs.replace(made, cluster_addresses=owned))
    world = world_of(source)

    def at(cluster_id: str) -> list[str]:
        return [each.host[0] for each in in_cluster(world, cluster_id).services_at(*address)]

    assert (at("east"), at("west"), at("south")) == (["a", "b"], ["b", "a"], ["a", "b"])


def test_address_that_a_service_has_elsewhere_is_not_its_here() -> None:
    """It has one of its own here, so nobody means it by the other one."""
    source = MemorySource()
    source.put_service(BOTH)
    world = world_of(source)
    assert in_cluster(world, "east").services_at("10.97.0.1") == ()
    assert in_cluster(world, "west").services_at("10.97.0.1") == (BOTH.key,)


def test_proxies_are_told_apart_by_machine_only_if_a_service_asks_for_it() -> None:
    """Else a mesh of a thousand nodes would have a thousand views."""
    source = MemorySource()
    ones, others = (msgspec.structs.replace(PROXY, node_name=name) for name in ("n1", "n2"))
    assert key(world_of(source), ones) == key(world_of(source), others)
    wanted = msgspec.structs.replace(
        EAST, traffic_distribution=TrafficDistribution.PREFER_SAME_NODE
    )
    change = source.put_service(wanted)
    world = world_of()
    assert world.apply([change], source).views_move
    assert key(world, ones) != key(world, others)
    assert reader(world, proxy=ones).label("kubernetes.io/hostname") == "n1"
    assert world.apply([source.remove_service(wanted.key)], source).views_move
    assert key(world, ones) == key(world, others)
