"""What clusters, networks, namespaces and policies make of what registries say."""

from collections.abc import Sequence
from typing import Any, Final

from msgspec.structs import replace

from aggregator.model.change import (
    Change,
    ConfigChanged,
    EndpointsChanged,
    PlaceChanged,
    ServiceChanged,
)
from aggregator.model.errors import Origin
from aggregator.model.policy import UNION, MergeMode, MergePolicy
from aggregator.model.registry import (
    Content,
    Item,
    Namespace,
    NetworkGateway,
    RegistryContext,
    RegistrySink,
    ServiceItem,
    ShardKey,
)
from aggregator.model.service import Endpoint, Service, ServiceKey, Workload, labels_of
from aggregator.registry.aggregate import Aggregate
from aggregator.registry.sharing import MergeRule
from config.kinds.service_entry import ServiceEntry
from config.mesh import MeshConfig, MeshNetworks
from config.shape import decode_struct
from tests.support.builders import endpoint, rule, service
from tests.support.clock import FakeClock

HOST: Final = "reviews.shop.svc.cluster.local"
KEY: Final = ServiceKey("shop", HOST)


class Mesh:
    """An aggregate over clusters, with a record of what it told."""

    def __init__(self, *clusters: str, **mesh: Any) -> None:
        self.changes: list[Change] = []
        self.aggregate = Aggregate(
            self.changes.extend,
            clock=FakeClock(),
            precedence=clusters,
            mesh=decode_struct(mesh, MeshConfig, "mesh", lambda _: Origin()),
        )
        self.sinks: dict[str, RegistrySink] = {
            name: self.aggregate.sink(name, RegistryContext(name=name, cluster_id=name))
            for name in clusters
        }

    def say(self, registry: str, key: str, item: Item | None, content: Content) -> None:
        """A registry says one thing."""
        self.sinks[registry].update(ShardKey(registry, "all", content), key, item)

    def serve(self, registry: str, *endpoints: Endpoint, definition: Service | None = None) -> None:
        """A registry serves the host."""
        made = definition or service(HOST)
        item = ServiceItem("shop", made.host, made, endpoints)
        self.say(registry, made.host, item, Content.SERVICES)

    def told(self) -> list[Change]:
        """The changes since the last time."""
        changes, self.changes[:] = list(self.changes), []
        return changes

    def label(self, registry: str, namespace: str, **labels: str) -> None:
        """A registry tells of a namespace."""
        self.say(registry, namespace, Namespace(namespace, labels_of(labels)), Content.PLACES)

    def set_networks(self, **networks: Any) -> None:
        """Install networks as the settings have them."""
        decoded = decode_struct({"networks": networks}, MeshNetworks, "", lambda _: Origin())
        self.aggregate.set_networks(decoded.networks)


def rules_of(*rules: tuple[str, MergeMode]) -> Sequence[MergeRule]:
    return [MergeRule((host,), mode) for host, mode in rules]


# Policies


def test_a_policy_is_an_endpoint_change_of_its_hosts_only() -> None:
    """A step of a migration does not concern the rest of the mesh."""
    mesh = Mesh("east", "west")
    for name in ("east", "west"):
        mesh.serve(name, endpoint(f"10.0.0.{len(name)}"))
        mesh.serve(name, definition=service("other.shop.mesh", namespace="shop"))
    mesh.told()

    mesh.aggregate.set_merge_rules(rules_of((HOST, MergeMode.FAILOVER)))
    assert mesh.told() == [EndpointsChanged(KEY)]
    assert mesh.aggregate.policy(KEY) == MergePolicy(MergeMode.FAILOVER, ("east", "west"))

    mesh.aggregate.set_merge_rules(
        rules_of((HOST, MergeMode.FAILOVER), ("no.such", MergeMode.UNION))
    )
    assert mesh.told() == []
    mesh.aggregate.set_merge_rules([])
    assert mesh.told() == [EndpointsChanged(KEY)]
    assert mesh.aggregate.policy(KEY) == UNION


def test_an_order_follows_the_declared_one() -> None:
    """Who swaps two registries in the file means the order of failover too."""
    mesh = Mesh("east", "west")
    mesh.serve("east", endpoint())
    mesh.aggregate.set_merge_rules(rules_of((HOST, MergeMode.PRIORITY)))
    mesh.told()

    mesh.aggregate.set_precedence(["west", "east"])

    assert mesh.told() == [EndpointsChanged(KEY)]
    assert mesh.aggregate.policy(KEY).order == ("west", "east")


def test_a_service_that_nobody_has_any_more_has_no_policy() -> None:
    """Nothing of it stays."""
    mesh = Mesh("east")
    mesh.serve("east", endpoint())
    mesh.aggregate.set_merge_rules(rules_of((HOST, MergeMode.PRIORITY)))
    mesh.aggregate.remove_registry("east")

    assert mesh.aggregate.policy(KEY) == UNION


# Clusters


def test_virtual_ips_are_known_by_cluster() -> None:
    """The same address is somebody else's in another cluster."""
    mesh = Mesh("east", "west")
    mesh.serve("east", definition=service(HOST, addresses=["10.96.0.1"]))
    mesh.serve("west", definition=service(HOST, addresses=["10.97.0.1"]))

    found = mesh.aggregate.service(KEY)

    assert found is not None
    assert found.addresses == ("10.96.0.1", "10.97.0.1")
    assert found.cluster_addresses == (("east", ("10.96.0.1",)), ("west", ("10.97.0.1",)))


def test_addresses_of_a_service_entry_belong_to_no_cluster() -> None:
    """A rule holds for the mesh, wherever it was written."""
    mesh = Mesh("east")
    spec = {
        "hosts": ["db.example.com"],
        "addresses": ["192.0.2.9"],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "resolution": "STATIC",
    }
    entry = rule(ServiceEntry, spec)
    mesh.say("east", "db", entry, Content.RULES)

    found = mesh.aggregate.service(ServiceKey("shop", "db.example.com"))

    assert found is not None
    assert (found.addresses, found.cluster_addresses) == (("192.0.2.9",), ())


def test_a_registry_that_becomes_another_cluster_takes_its_services_along() -> None:
    """What its settings say holds for what it said before, too."""
    mesh = Mesh("east")
    mesh.serve("east", definition=service(HOST, addresses=["10.96.0.1"]))
    sink = mesh.aggregate.swap("east", RegistryContext(name="east", cluster_id="north"))
    made = service(HOST, addresses=["10.96.0.1"])
    sink.replace(ShardKey("east", "all", Content.SERVICES), {HOST: ServiceItem("shop", HOST, made)})
    mesh.told()
    sink.synced()

    found = mesh.aggregate.service(KEY)
    assert found is not None
    assert found.cluster_addresses == (("north", ("10.96.0.1",)),)
    assert mesh.told() == [ServiceChanged(KEY)]


# Networks


def test_networks_of_the_settings_place_endpoints_that_tell_none() -> None:
    """And put them back when they are taken out."""
    mesh = Mesh("east", "west")
    mesh.serve("east", endpoint("10.1.0.1", network="net9"), endpoint("10.2.0.1"))
    mesh.told()

    mesh.set_networks(net2={"endpoints": [{"fromCidr": "10.0.0.0/8"}]})
    assert {each.address: each.network for each in mesh.aggregate.endpoints(KEY)} == {
        "10.1.0.1": "net9",
        "10.2.0.1": "net2",
    }
    assert mesh.told() == [EndpointsChanged(KEY), PlaceChanged("net2")]
    mesh.set_networks()
    assert [each.network for each in mesh.aggregate.endpoints(KEY)] == ["net9", ""]


def test_the_same_address_in_two_networks_is_two_endpoints() -> None:
    """Private ranges overlap; the settings tell them apart."""
    mesh = Mesh("east", "west")
    for name in ("east", "west"):
        mesh.serve(name, replace(endpoint("10.0.0.1"), registry=name))
    assert len(mesh.aggregate.endpoints(KEY)) == 1

    mesh.set_networks(
        net1={"endpoints": [{"fromRegistry": "east"}]},
        net2={"endpoints": [{"fromRegistry": "west"}]},
    )

    assert [each.network for each in mesh.aggregate.endpoints(KEY)] == ["net1", "net2"]


def test_gateways_of_registries_and_settings_are_united() -> None:
    """Told by a registry, by address, or as a service with a load balancer."""
    mesh = Mesh("east")
    told = NetworkGateway("net1", "192.0.2.3", 15443, "east")
    mesh.say("east", "gateway", told, Content.PLACES)
    balanced = replace(
        service("gw.infra.mesh", namespace="shop"), external_addresses=("192.0.2.2",)
    )
    mesh.serve("east", definition=balanced)
    mesh.told()

    mesh.set_networks(
        net1={
            "endpoints": [{"fromRegistry": "east"}],
            "gateways": [
                {"address": "192.0.2.1", "port": 15443},
                {"registryServiceName": "gw.infra.mesh", "port": 443},
            ],
        }
    )
    found = mesh.aggregate.gateways("net1")
    assert [each.address for each in found] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert PlaceChanged("net1") in mesh.told()
    assert mesh.aggregate.networks() == ("net1",)

    mesh.serve("east", definition=replace(balanced, external_addresses=("192.0.2.4",)))
    assert "192.0.2.4" in [each.address for each in mesh.aggregate.gateways("net1")]
    assert PlaceChanged("net1") in mesh.told()
    mesh.aggregate.remove_registry("east")
    assert [each.address for each in mesh.aggregate.gateways("net1")] == ["192.0.2.1"]
    mesh.set_networks()
    assert mesh.aggregate.networks() == ()


def test_endpoints_that_only_a_gateway_knows_are_not_one() -> None:
    """Two of a network without addresses weigh twice as much as one."""
    mesh = Mesh("east")
    hidden = endpoint("", network="net2")
    mesh.serve("east", hidden, hidden)

    assert len(mesh.aggregate.endpoints(KEY)) == 2


# Namespaces

SELECTORS: Final = [{"matchLabels": {"mesh": "on"}}]


def test_what_is_in_a_namespace_that_is_not_discovered_counts_for_nothing() -> None:
    """Services, workloads and rules alike, until the namespace is labelled, and again after."""
    mesh = Mesh("k8s", discoverySelectors=SELECTORS)
    mesh.label("k8s", "shop")
    mesh.label("k8s", "bank", mesh="on")
    made = replace(service(HOST), selector=labels_of({"app": "reviews"}))
    pod = Workload("pod", "shop", endpoint("10.0.0.2", labels={"app": "reviews"}))
    policy = rule(ServiceEntry, {"hosts": ["a.b"], "ports": [{"number": 80, "name": "http"}]})
    mesh.serve("k8s", endpoint("10.0.0.1"), definition=made)
    mesh.say("k8s", "pod", pod, Content.WORKLOADS)
    mesh.say("k8s", "entry", policy, Content.RULES)
    assert [each for each in mesh.told() if not isinstance(each, PlaceChanged)] == []
    assert not mesh.aggregate.service_keys()

    mesh.label("k8s", "shop", mesh="on")
    assert set(mesh.aggregate.service_keys()) == {KEY, ServiceKey("shop", "a.b")}
    assert {ServiceChanged(KEY), ConfigChanged(policy.key)} <= set(mesh.told())

    mesh.label("k8s", "shop", mesh="off")
    assert not mesh.aggregate.service_keys()
    assert not mesh.aggregate.config_keys()


def test_what_changes_in_a_hidden_namespace_is_there_when_it_is_discovered() -> None:
    """The registry says things once."""
    mesh = Mesh("k8s", discoverySelectors=SELECTORS)
    mesh.label("k8s", "shop")
    mesh.serve("k8s", endpoint("10.0.0.1"))
    mesh.serve("k8s", endpoint("10.0.0.2"))
    mesh.label("k8s", "shop", mesh="on")

    assert [each.address for each in mesh.aggregate.endpoints(KEY)] == ["10.0.0.2"]


def test_a_namespace_is_judged_by_each_registry_on_its_own() -> None:
    """The same name may be labelled in one cluster and not in another; files have no labels."""
    mesh = Mesh("east", "west", "files", discoverySelectors=SELECTORS)
    mesh.label("east", "shop", mesh="on")
    mesh.label("west", "shop")
    for number, name in enumerate(("east", "west", "files")):
        mesh.serve(name, replace(endpoint(f"10.0.0.{number}"), registry=name))

    assert [each.registry for each in mesh.aggregate.endpoints(KEY)] == ["east", "files"]


def test_namespaces_that_come_after_what_is_in_them_are_judged_then() -> None:
    """Watches of two kinds are in no order."""
    mesh = Mesh("k8s", discoverySelectors=SELECTORS)
    mesh.serve("k8s", endpoint("10.0.0.1"))
    mesh.label("k8s", "bank", mesh="on")
    assert not mesh.aggregate.service_keys()

    mesh.label("k8s", "shop", mesh="on")
    assert list(mesh.aggregate.service_keys()) == [KEY]


def test_other_selectors_hold_at_once() -> None:
    """A reload of the mesh settings is enough."""
    mesh = Mesh("k8s")
    mesh.label("k8s", "shop", team="a")
    mesh.serve("k8s", endpoint("10.0.0.1"))
    mesh.told()

    wanted = {"discoverySelectors": [{"matchLabels": {"team": "b"}}]}
    mesh.aggregate.set_mesh(decode_struct(wanted, MeshConfig, "mesh", lambda _: Origin()))
    assert mesh.told() == [ServiceChanged(KEY)]
    assert not mesh.aggregate.service_keys()
    mesh.aggregate.set_mesh(MeshConfig())
    assert list(mesh.aggregate.service_keys()) == [KEY]
