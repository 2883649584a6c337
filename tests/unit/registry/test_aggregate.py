"""What the merged state is, and which changes it tells, whatever registries do."""

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from aggregator.model.change import (
    Change,
    ConfigChanged,
    EndpointsChanged,
    PlaceChanged,
    ServiceChanged,
    WorkloadMoved,
)
from aggregator.model.config import Config, ConfigKey
from aggregator.model.errors import Origin, Problem, Severity
from aggregator.model.registry import (
    AnnouncedRegistry,
    Content,
    Item,
    Namespace,
    NetworkGateway,
    RegistryContext,
    RegistrySink,
    ServiceItem,
    ShardKey,
)
from aggregator.model.service import (
    Endpoint,
    Health,
    Locality,
    Service,
    ServiceKey,
    Workload,
    labels_of,
)
from aggregator.registry.aggregate import Aggregate
from aggregator.registry.guard import GuardSettings, LossGuard
from config.duration import Duration
from config.kinds.destination_rule import DestinationRule
from config.kinds.service_entry import Location, ServiceEntry, ServicePort
from config.kinds.workload_entry import WorkloadEntry
from config.mesh import MeshConfig
from config.selector import WorkloadSelector
from tests.support.builders import config, endpoint, service
from tests.support.clock import FakeClock

HOST = "reviews.shop.svc.cluster.local"
KEY = ServiceKey("shop", HOST)
RULE = ConfigKey("DestinationRule", "shop", "rule")


class Mesh:
    """An aggregate with a record of what it told."""

    def __init__(self, *precedence: str, guard: LossGuard | None = None) -> None:
        self.changes: list[Change] = []
        self.clock = FakeClock()
        self.aggregate = Aggregate(
            self.changes.extend, clock=self.clock, precedence=precedence, guard=guard
        )

    def told(self) -> list[Change]:
        """The changes since the last time."""
        changes, self.changes[:] = list(self.changes), []
        return changes

    def addresses(self, key: ServiceKey = KEY) -> list[str]:
        """Where the service is served."""
        return [each.address for each in self.aggregate.endpoints(key)]


def services(registry: str, scope: str = "scope") -> ShardKey:
    """The shard of services of one scope."""
    return ShardKey(registry, scope, Content.SERVICES)


def rules(registry: str, scope: str = "scope") -> ShardKey:
    """The shard of rules of one scope."""
    return ShardKey(registry, scope, Content.RULES)


def workloads(registry: str, scope: str = "scope") -> ShardKey:
    """The shard of workloads of one scope."""
    return ShardKey(registry, scope, Content.WORKLOADS)


def item(*endpoints: Endpoint | str, definition: Service | None = None, host: str = HOST) -> Item:
    """A service with its definition and these endpoints."""
    return ServiceItem(
        "shop",
        host,
        definition or service(host, namespace="shop"),
        tuple(endpoint(each) if isinstance(each, str) else each for each in endpoints),
    )


def many(count: int, start: int = 0) -> dict[str, Item]:
    """Services of one endpoint each."""
    return {
        f"s{number}": item(f"10.0.{number // 256}.{number % 256}", host=f"s{number}.shop.mesh")
        for number in range(start, start + count)
    }


# What is told


def test_a_new_service_is_told_once() -> None:
    """A service with its endpoints is one change, not two."""
    mesh = Mesh()
    mesh.aggregate.sink("east").replace(services("east"), {"a": item("10.0.0.1")})

    assert mesh.told() == [ServiceChanged(KEY)]
    assert mesh.addresses() == ["10.0.0.1"]


def test_equal_content_tells_nothing() -> None:
    """Relists and rewritten files cost the proxies nothing."""
    mesh = Mesh()
    sink = mesh.aggregate.sink("east")
    sink.replace(services("east"), {"a": item("10.0.0.2", "10.0.0.1")})
    mesh.told()

    sink.replace(services("east"), {"a": item("10.0.0.1", "10.0.0.2")})
    sink.update(services("east"), "a", item("10.0.0.2", "10.0.0.1"))
    moved = replace(service(HOST), origin=Origin("reviews.yaml", 7))
    sink.update(services("east"), "a", item("10.0.0.1", "10.0.0.2", definition=moved))

    assert mesh.told() == []


def test_endpoints_alone_are_told_as_such() -> None:
    """The push of endpoints is far cheaper than that of a service."""
    mesh = Mesh()
    sink = mesh.aggregate.sink("east")
    sink.replace(services("east"), {"a": item("10.0.0.1")})
    mesh.told()

    sink.update(services("east"), "a", item("10.0.0.1", "10.0.0.2"))

    assert mesh.told() == [EndpointsChanged(KEY)]


def test_a_deleted_service_is_told_and_gone() -> None:
    """Explicit deletion takes effect at once."""
    mesh = Mesh()
    sink = mesh.aggregate.sink("east")
    sink.replace(services("east"), {"a": item("10.0.0.1")})
    mesh.told()

    sink.update(services("east"), "a", None)

    assert mesh.told() == [ServiceChanged(KEY)]
    assert mesh.aggregate.service(KEY) is None
    assert list(mesh.aggregate.service_keys()) == []


def test_an_item_that_changes_its_host_leaves_the_old_one() -> None:
    """Adapters key items as they like; the same key may come to mean another service."""
    mesh = Mesh()
    sink = mesh.aggregate.sink("east")
    sink.update(services("east"), "a", item("10.0.0.1"))
    sink.update(services("east"), "a", item("10.0.0.1", host="ratings.shop.mesh"))

    assert list(mesh.aggregate.service_keys()) == [ServiceKey("shop", "ratings.shop.mesh")]


def test_the_cost_of_a_change_does_not_follow_the_mesh() -> None:
    """One endpoint among ten thousand services is one merge."""
    mesh = Mesh()
    sink = mesh.aggregate.sink("east")
    listing = many(10_000)
    sink.replace(services("east"), listing)
    assert mesh.aggregate.merge_total == 10_000

    sink.update(services("east"), "s5", item("10.9.9.9", host="s5.shop.mesh"))
    assert mesh.aggregate.merge_total == 10_001

    sink.replace(services("east"), listing)
    assert mesh.aggregate.merge_total == 10_002


# Several registries


def test_the_registry_declared_first_defines() -> None:
    """Order of arrival does not matter."""
    mesh = Mesh("east", "west")
    for name in ("west", "east"):
        sink = mesh.aggregate.sink(name)
        definition = service(HOST, labels={"from": name})
        address = "10.0.0.1" if name == "east" else "10.0.0.2"
        sink.replace(services(name), {"a": item(address, definition=definition)})

    chosen = mesh.aggregate.service(KEY)
    assert chosen is not None
    assert chosen.labels == (("from", "east"),)
    assert chosen.registries == ("east", "west")
    assert mesh.addresses() == ["10.0.0.1", "10.0.0.2"]


def test_a_new_precedence_merges_only_what_is_shared() -> None:
    """Reordering registries in the settings takes effect without a restart."""
    mesh = Mesh("east", "west")
    for name in ("east", "west"):
        definition = service(HOST, labels={"from": name})
        own = item("10.1.0.1", host=f"{name}.shop.mesh")
        listing = {"a": item("10.0.0.1", definition=definition), "own": own}
        mesh.aggregate.sink(name).replace(services(name), listing)
    mesh.told()
    merges = mesh.aggregate.merge_total

    mesh.aggregate.set_precedence(["west", "east"])

    assert mesh.told() == [ServiceChanged(KEY)]
    assert mesh.aggregate.merge_total == merges + 1
    chosen = mesh.aggregate.service(KEY)
    assert chosen is not None
    assert chosen.labels == (("from", "west"),)


def test_of_one_registrys_definitions_the_oldest_counts() -> None:
    """A copy in another file does not take a service over."""
    mesh = Mesh()
    for scope, created in (("a", 20.0), ("b", 10.0), ("c", 0.0)):
        definition = service(HOST, labels={"from": scope}, created=created)
        listing = {"x": item("10.0.0.1", definition=definition)}
        mesh.aggregate.sink("east").replace(services("east", scope), listing)

    chosen = mesh.aggregate.service(KEY)
    assert chosen is not None
    assert chosen.labels == (("from", "b"),)


def test_the_same_host_in_two_namespaces_is_two_services() -> None:
    """Namespaces are tenants; one must not get into another's service."""
    mesh = Mesh()
    sink = mesh.aggregate.sink("east")
    host = "api.example.com"
    for namespace in ("shop", "bank"):
        definition = service(host, namespace=namespace)
        sink.update(
            services("east"), namespace, ServiceItem(namespace, host, definition, (endpoint(),))
        )

    assert sorted(mesh.aggregate.service_keys()) == [
        ServiceKey("bank", host),
        ServiceKey("shop", host),
    ]


def test_endpoints_without_a_definition_wait_for_one() -> None:
    """Slices may come before their service, and from another file."""
    mesh = Mesh()
    sink = mesh.aggregate.sink("east")
    sink.replace(services("east", "slice"), {"x": ServiceItem("shop", HOST, None, (endpoint(),))})
    assert mesh.told() == []
    assert mesh.aggregate.unclaimed() == (KEY,)

    sink.replace(services("east", "service"), {"x": item()})

    assert mesh.told() == [ServiceChanged(KEY)]
    assert mesh.addresses() == ["10.0.0.1"]
    assert mesh.aggregate.unclaimed() == ()


def test_endpoints_know_their_registry() -> None:
    """Provenance is what people ask for first when traffic goes astray."""
    mesh = Mesh("east", "west")
    for name, address in (("east", "10.0.0.1"), ("west", "10.0.0.2")):
        mesh.aggregate.sink(name).replace(services(name, "f"), {"a": item(address)})

    assert [each.registry for each in mesh.aggregate.endpoints(KEY)] == ["east", "west"]
    given = mesh.aggregate.contributions(KEY)
    assert [(each.registry, each.scope, each.endpoints) for each in given] == [
        ("east", "f", 1),
        ("west", "f", 1),
    ]


def test_a_removed_registry_is_purged_at_once() -> None:
    """Out of the settings is not the same as down."""
    mesh = Mesh("east", "west", guard=LossGuard(GuardSettings(floor=0)))
    for name, address in (("east", "10.0.0.1"), ("west", "10.0.0.2")):
        mesh.aggregate.sink(name).replace(services(name), {"a": item(address)})
    mesh.told()

    mesh.aggregate.remove_registry("west")

    assert mesh.told() == [ServiceChanged(KEY)]
    assert mesh.addresses() == ["10.0.0.1"]


# Rules


def test_the_rule_declared_first_counts_and_the_other_is_reported() -> None:
    """Two sources of one rule must not overwrite each other in turn."""
    mesh = Mesh("east", "west")
    for name in ("west", "east"):
        rule = config("DestinationRule", DestinationRule(host=name), source=f"{name}.yaml", line=3)
        mesh.aggregate.sink(name).replace(rules(name), {"r": rule})

    chosen = mesh.aggregate.config(RULE)
    assert chosen is not None
    assert chosen.spec.host == "east"
    assert mesh.told() == [ConfigChanged(RULE), ConfigChanged(RULE)]
    (conflict,) = mesh.aggregate.conflicts()
    assert str(conflict).startswith("west.yaml:3: DestinationRule shop/rule: left out")
    assert "east.yaml:3" in conflict.message


def test_the_loser_takes_over_when_the_winner_goes() -> None:
    """A rule that was left out is not forgotten."""
    mesh = Mesh("east", "west")
    for name in ("east", "west"):
        rule = config("DestinationRule", DestinationRule(host=name))
        mesh.aggregate.sink(name).replace(rules(name), {"r": rule})
    mesh.told()

    mesh.aggregate.remove_registry("east")

    assert mesh.told() == [ConfigChanged(RULE)]
    chosen = mesh.aggregate.config(RULE)
    assert chosen is not None
    assert chosen.spec.host == "west"
    assert mesh.aggregate.conflicts() == ()


def test_a_rule_that_only_moved_in_its_file_is_no_change() -> None:
    """A comment added on top of a file moves every rule below it."""
    mesh = Mesh()
    sink = mesh.aggregate.sink("east")
    for line in (1, 2):
        rule = config("DestinationRule", DestinationRule(host="a.b"), source="f", line=line)
        sink.replace(rules("east"), {"r": rule})

    assert mesh.told() == [ConfigChanged(RULE)]
    chosen = mesh.aggregate.config(RULE)
    assert chosen is not None
    assert chosen.origin.line == 2


# Entries and selectors


def entry(**fields: object) -> Config:
    """A ServiceEntry for reviews."""
    spec = ServiceEntry(
        hosts=(HOST,),
        ports=(ServicePort(number=80, name="http", protocol="HTTP", target_port=8080),),
        location=Location.MESH_INTERNAL,
        resolution="STATIC",  # type: ignore[arg-type]
    )
    return config("ServiceEntry", replace(spec, **fields), name="reviews")


def vm(address: str, **labels: str) -> Config:
    """A WorkloadEntry."""
    spec = WorkloadEntry(address=address, labels=labels, locality="eu/eu-1/a", weight=3)
    return config("WorkloadEntry", spec, name=f"vm-{address}")


def test_a_service_entry_becomes_a_service() -> None:
    """Rules that describe services are services, whichever registry they come from."""
    mesh = Mesh()
    inline = entry(endpoints=(WorkloadEntry(address="10.0.0.1", weight=2),))
    mesh.aggregate.sink("east").replace(rules("east"), {"e": inline})

    assert mesh.told() == [
        ConfigChanged(ConfigKey("ServiceEntry", "shop", "reviews")),
        ServiceChanged(KEY),
    ]
    (only,) = mesh.aggregate.endpoints(KEY)
    chosen = mesh.aggregate.service(KEY)
    assert chosen is not None
    assert (only.address, only.port_number(chosen.ports[0]), only.weight) == ("10.0.0.1", 8080, 2)
    assert only.registry == "east"


def test_a_service_entry_that_goes_takes_its_service_along() -> None:
    """What was derived does not outlive its rule."""
    mesh = Mesh()
    sink = mesh.aggregate.sink("east")
    sink.replace(rules("east"), {"e": entry()})
    sink.drop(rules("east"))

    assert list(mesh.aggregate.service_keys()) == []


def test_a_key_may_come_to_mean_another_entry() -> None:
    """Adapters key what they read as they like; what is derived follows the rule, not the key."""
    mesh = Mesh()
    sink = mesh.aggregate.sink("east")
    first, second = entry(), replace(entry(), name="second")
    sink.replace(rules("east"), {"x": first, "y": second})
    sink.replace(rules("east"), {"y": first})

    assert list(mesh.aggregate.config_keys()) == [first.key]
    assert list(mesh.aggregate.service_keys()) == [KEY]


def test_a_service_entry_that_lost_gives_no_service() -> None:
    """Only the object that counts has an effect."""
    mesh = Mesh("east", "west")
    for name in ("east", "west"):
        inline = entry(endpoints=(WorkloadEntry(address=f"10.0.0.{len(name)}", weight=len(name)),))
        mesh.aggregate.sink(name).replace(rules(name), {"e": inline})

    assert [each.registry for each in mesh.aggregate.endpoints(KEY)] == ["east"]


def test_a_workload_selector_picks_entries_and_pods_of_its_namespace() -> None:
    """Migration from VMs to pods needs both behind one host."""
    mesh = Mesh("east", "west")
    selecting = entry(workload_selector=WorkloadSelector(labels={"app": "reviews"}))
    sink = mesh.aggregate.sink("east")
    sink.replace(rules("east"), {"e": selecting, "vm": vm("10.0.0.1", app="reviews")})
    pod = Workload("pod", "shop", endpoint("10.0.0.2", labels={"app": "reviews", "v": "2"}))
    other = Workload("other", "shop", endpoint("10.0.0.3", labels={"app": "ratings"}))
    away = Workload("away", "bank", endpoint("10.0.0.4", labels={"app": "reviews"}))
    mesh.told()

    mesh.aggregate.sink("west").replace(
        workloads("west"), {"pod": pod, "other": other, "away": away}
    )

    assert mesh.told() == [EndpointsChanged(KEY)]
    vm_endpoint, pod_endpoint = mesh.aggregate.endpoints(KEY)
    assert (vm_endpoint.address, vm_endpoint.weight) == ("10.0.0.1", 3)
    assert str(vm_endpoint.locality) == "eu/eu-1/a"
    assert pod_endpoint.labels == labels_of({"app": "reviews", "v": "2"})
    assert pod_endpoint.registry == "west"


def test_a_pod_and_an_entry_of_the_same_key_are_two() -> None:
    """Adapters choose keys within each kind of content."""
    mesh = Mesh()
    sink = mesh.aggregate.sink("east")
    selecting = entry(workload_selector=WorkloadSelector(labels={"app": "reviews"}))
    sink.replace(rules("east"), {"e": selecting, "x": vm("10.0.0.1", app="reviews")})
    pod = Workload("x", "shop", endpoint("10.0.0.2", labels={"app": "reviews"}))
    sink.update(workloads("east"), "x", pod)

    assert mesh.addresses() == ["10.0.0.1", "10.0.0.2"]


def test_a_workload_change_merges_only_who_selects_it() -> None:
    """Pods come and go all the time; most are nobody's here."""
    mesh = Mesh()
    sink = mesh.aggregate.sink("east")
    sink.replace(services("east"), many(1000))
    selecting = entry(workload_selector=WorkloadSelector(labels={"app": "reviews"}))
    sink.replace(rules("east"), {"e": selecting})
    merges = mesh.aggregate.merge_total

    for address, app in (("10.0.0.1", "reviews"), ("10.0.0.2", "ratings")):
        pod = Workload("pod", "shop", endpoint(address, labels={"app": app}))
        sink.update(workloads("east"), app, pod)

    assert mesh.aggregate.merge_total == merges + 1


def test_a_service_that_is_gone_is_not_merged_for_its_workloads() -> None:
    """Services come and go for years while the daemon runs."""
    mesh = Mesh()
    sink = mesh.aggregate.sink("east")
    selecting = entry(workload_selector=WorkloadSelector(labels={"app": "reviews"}))
    sink.replace(rules("east"), {"e": selecting})
    sink.replace(rules("east"), {})
    merges = mesh.aggregate.merge_total

    sink.update(
        workloads("east"), "pod", Workload("pod", "shop", endpoint(labels={"app": "reviews"}))
    )

    assert mesh.aggregate.merge_total == merges


def test_an_equal_entry_of_another_registry_is_read_by_that_ones_defaults() -> None:
    """Which registry gives an endpoint, and in which network it is, changes with the winner."""
    mesh = Mesh("east", "west")
    inline = entry(endpoints=(WorkloadEntry(address="10.0.0.1"),))
    for name in ("west", "east"):
        context = RegistryContext(name=name, cluster_id=name, network=f"net-{name}")
        mesh.aggregate.sink(name, context).replace(rules(name), {"e": inline})
        (only,) = mesh.aggregate.endpoints(KEY)
        assert (only.registry, only.network) == (name, f"net-{name}")


def test_a_registry_that_lists_endpoints_itself_does_not_give_its_pods_again() -> None:
    """A cluster's own slices say which of its pods are ready; the pods as such would double."""
    mesh = Mesh("east", "west")
    selecting = replace(service(HOST), selector=labels_of({"app": "reviews"}))
    for name, address in (("east", "10.0.0.1"), ("west", "10.0.0.2")):
        sink = mesh.aggregate.sink(name)
        sink.replace(services(name), {"a": item(endpoint(address), definition=selecting)})
        pods: Mapping[str, Item] = {
            each: Workload(each, "shop", endpoint(each, labels={"app": "reviews"}))
            for each in (address, f"{address}9")
        }
        sink.replace(workloads(name), pods)
    mesh.aggregate.sink("vms").replace(rules("vms"), {"vm": vm("10.0.0.3", app="reviews")})

    assert mesh.addresses() == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


def test_a_service_of_a_cluster_does_not_pick_pods_of_another_one() -> None:
    """Where only one of two clusters has the Service, equal labels in the other mean nothing to it;
    a ServiceEntry picks in all of them.
    """
    mesh = Mesh("east", "west", "vms")
    east = RegistryContext(name="east", cluster_id="east")
    west = RegistryContext(name="west", cluster_id="west")
    selecting = replace(service(HOST), selector=labels_of({"app": "reviews"}))
    mesh.aggregate.sink("east", east).replace(
        services("east"), {"a": item("10.0.0.1", definition=selecting)}
    )
    pod = endpoint("10.0.0.2", labels={"app": "reviews"}, cluster_id="west")
    mesh.aggregate.sink("west", west).replace(workloads("west"), {"p": Workload("p", "shop", pod)})
    assert mesh.addresses() == ["10.0.0.1"]

    chosen = entry(
        hosts=("vm.mesh",), workload_selector=WorkloadSelector(labels={"app": "reviews"})
    )
    mesh.aggregate.sink("vms").replace(rules("vms"), {"entry": chosen})
    assert mesh.addresses(ServiceKey("shop", "vm.mesh")) == ["10.0.0.2"]


def test_mesh_defaults_of_export_reach_entries() -> None:
    """A mesh that hides services by default hides entries that say nothing."""
    mesh = Mesh()
    mesh.aggregate.sink("east").replace(rules("east"), {"e": entry()})
    mesh.told()

    mesh.aggregate.set_mesh(MeshConfig(default_service_export_to=(".",)))

    assert mesh.told() == [ServiceChanged(KEY)]
    chosen = mesh.aggregate.service(KEY)
    assert chosen is not None
    assert chosen.export_to == (".",)


# Runs, scopes and errors


def test_a_restart_keeps_everything_until_the_new_listing() -> None:
    """An adapter's crash must not be seen by any proxy."""
    mesh = Mesh()
    first = mesh.aggregate.sink("east")
    first.replace(services("east", "a"), {"x": item("10.0.0.1")})
    first.synced()
    mesh.told()

    second = mesh.aggregate.sink("east")
    assert mesh.addresses() == ["10.0.0.1"]
    second.replace(services("east", "a"), {"x": item("10.0.0.1")})
    second.synced()

    assert mesh.told() == []


def test_scopes_that_vanished_while_away_are_gone_after_the_next_sync() -> None:
    """A registry that only tells events loses the deletions that happen while it is away."""
    mesh = Mesh()
    first = mesh.aggregate.sink("east")
    first.replace(services("east", "a"), {"x": item("10.0.0.1")})
    first.replace(services("east", "b"), {"x": item("10.0.0.2")})
    first.synced()

    second = mesh.aggregate.sink("east")
    second.replace(services("east", "a"), {"x": item("10.0.0.1")})
    assert mesh.addresses() == ["10.0.0.1", "10.0.0.2"]
    second.synced()

    assert mesh.addresses() == ["10.0.0.1"]


def test_a_scope_with_problems_survives_the_restart() -> None:
    """A file that is broken when the adapter starts again keeps its last good state."""
    mesh = Mesh()
    first = mesh.aggregate.sink("east")
    first.replace(services("east", "a"), {"x": item("10.0.0.1")})
    first.synced()

    second = mesh.aggregate.sink("east")
    second.report("a", [Problem(Origin("a.yaml", 1), "", "broken")])
    second.synced()

    assert mesh.addresses() == ["10.0.0.1"]


def test_a_scope_with_a_slash_stands_for_all_below_it() -> None:
    """A folder that cannot be looked into after a restart keeps what was read from it."""
    mesh = Mesh()
    sink = mesh.aggregate.sink("east")
    for number, scope in enumerate(("shop/a", "bank/a")):
        sink.replace(services("east", scope), many(1, number))

    sink.retain(["shop/"])

    assert list(mesh.aggregate.service_keys()) == [ServiceKey("shop", "s0.shop.mesh")]


def test_a_dead_run_says_nothing_any_more() -> None:
    """An adapter that is slow to be cancelled must not overwrite its successor."""
    mesh = Mesh()
    first = mesh.aggregate.sink("east")
    mesh.aggregate.sink("east")

    first.replace(services("east"), {"x": item("10.0.0.1")})

    assert mesh.addresses() == []


def test_problems_are_kept_by_scope_and_cleared() -> None:
    """People look at what is wrong now."""
    mesh = Mesh()
    sink = mesh.aggregate.sink("east")
    problem = Problem(Origin("a.yaml", 3), "spec.host", "expected a host name", Severity.ERROR)
    sink.report("a.yaml", [problem])
    assert mesh.aggregate.problems() == {("east", "a.yaml"): (problem,)}
    assert mesh.aggregate.summary("east").problems == 1

    sink.report("a.yaml", [])
    assert mesh.aggregate.problems() == {}


# Replacement


def test_a_replacement_swaps_at_once_when_it_is_in_sync() -> None:
    """New credentials for a cluster neither lose nor double its endpoints meanwhile."""
    mesh = Mesh()
    old = mesh.aggregate.sink("east")
    old.replace(services("east"), {"x": item("10.0.0.1", "10.0.0.2")})
    mesh.told()
    swapped: list[bool] = []

    new = mesh.aggregate.swap("east", on_swapped=lambda: swapped.append(True))
    new.replace(services("east"), {"y": item("10.0.0.2", "10.0.0.3")})
    assert mesh.told() == []
    old.update(services("east"), "x", item("10.0.0.1"))
    assert mesh.addresses() == ["10.0.0.1"]
    mesh.told()
    new.synced()

    assert swapped == [True]
    assert mesh.told() == [EndpointsChanged(KEY)]
    assert mesh.addresses() == ["10.0.0.2", "10.0.0.3"]
    old.update(services("east"), "x", None)
    assert mesh.addresses() == ["10.0.0.2", "10.0.0.3"]


def test_a_replaced_run_cannot_bring_the_next_replacement_forward() -> None:
    """What was replaced may still be busy with its own start when the settings change again."""
    mesh = Mesh()
    old = mesh.aggregate.sink("east")
    old.replace(services("east"), {"x": item("10.0.0.1")})
    new = mesh.aggregate.swap("east")
    new.replace(services("east"), {"x": item("10.0.0.2")})
    new.synced()
    mesh.aggregate.swap("east").replace(services("east"), {"x": item("10.0.0.3")})

    old.synced()

    assert mesh.addresses() == ["10.0.0.2"]


def test_an_abandoned_replacement_leaves_no_trace() -> None:
    """Settings that go back to what they were disturb nothing."""
    mesh = Mesh()
    old = mesh.aggregate.sink("east")
    old.replace(services("east"), {"x": item("10.0.0.1")})
    new = mesh.aggregate.swap("east")
    new.replace(services("east"), {"x": item("10.0.0.9")})
    mesh.aggregate.abandon_swap("east")
    new.synced()

    assert mesh.addresses() == ["10.0.0.1"]
    old.update(services("east"), "x", item("10.0.0.2"))
    assert mesh.addresses() == ["10.0.0.2"]


def test_a_replacement_that_restarts_goes_on_with_what_it_had() -> None:
    """An error while it prepares is no reason to start over, and none to swap too early."""
    mesh = Mesh()
    mesh.aggregate.sink("east").replace(services("east"), {"x": item("10.0.0.1")})
    first = mesh.aggregate.swap("east")
    first.replace(services("east", "a"), {"x": item("10.0.0.2")})

    second = mesh.aggregate.swap("east")
    first.synced()
    assert mesh.addresses() == ["10.0.0.1"]
    second.replace(services("east", "b"), {"x": item("10.0.0.3")})
    second.report("a", [Problem(Origin("a"), "", "broken just now")])
    second.synced()

    assert mesh.addresses() == ["10.0.0.2", "10.0.0.3"]


def test_a_replacement_with_other_defaults_reads_entries_anew() -> None:
    """A network set in the settings holds for entries that were there before."""
    mesh = Mesh()
    inline = entry(endpoints=(WorkloadEntry(address="10.0.0.1"),))
    mesh.aggregate.sink("east").replace(rules("east"), {"e": inline})

    context = RegistryContext(name="east", cluster_id="east", network="net1")
    new = mesh.aggregate.swap("east", context)
    new.replace(rules("east"), {"e": inline})
    new.synced()

    assert [each.network for each in mesh.aggregate.endpoints(KEY)] == ["net1"]


def test_an_empty_replacement_is_held() -> None:
    """A typing error in a registry's settings must not empty the mesh."""
    mesh = Mesh(guard=LossGuard(GuardSettings(hold=Duration(60))))
    mesh.aggregate.sink("east").replace(services("east"), many(50))
    new = mesh.aggregate.swap("east")
    new.synced()
    assert len(mesh.aggregate.service_keys()) == 50
    assert list(mesh.aggregate.summary("east", staged=True).held) == ["swap"]

    mesh.clock.now += 60
    mesh.aggregate.release_due()

    assert len(mesh.aggregate.service_keys()) == 0


# The guard


def test_a_listing_that_lost_most_is_held_and_shown() -> None:
    """A registry that answers half-empty after a fault removes nothing yet."""
    mesh = Mesh()
    sink = mesh.aggregate.sink("east")
    sink.replace(services("east"), many(50))
    mesh.told()

    sink.replace(services("east"), many(3))

    assert mesh.told() == []
    assert len(mesh.aggregate.summary("east").held) == 1


def test_definitions_count_with_the_endpoints_that_go_with_them() -> None:
    """A server that lists no services would take all endpoints away without losing one."""
    mesh = Mesh()
    sink = mesh.aggregate.sink("east")
    slices = ServiceItem("shop", HOST, endpoints=tuple(endpoint(f"10.0.0.{n}") for n in range(30)))
    sink.replace(services("east", "services"), {"a": item()})
    sink.replace(services("east", "slices"), {"a-1": slices})

    sink.replace(services("east", "services"), {})

    assert len(mesh.aggregate.endpoints(KEY)) == 30
    assert len(mesh.aggregate.summary("east").held) == 1

    mesh.aggregate.sink("west").replace(services("west"), {"a": item()})
    sink.replace(services("east", "services"), {})
    assert mesh.aggregate.summary("east").held == {}, "another registry defines it as well"
    assert len(mesh.aggregate.endpoints(KEY)) == 30


def test_a_held_listing_takes_effect_after_its_time() -> None:
    """What is really gone goes in the end."""
    mesh = Mesh(guard=LossGuard(GuardSettings(hold=Duration(60))))
    sink = mesh.aggregate.sink("east")
    sink.replace(services("east"), many(50))
    sink.replace(services("east"), many(3))

    mesh.clock.now += 59
    mesh.aggregate.release_due()
    assert len(mesh.aggregate.service_keys()) == 50
    mesh.clock.now += 1
    mesh.aggregate.release_due()

    assert len(mesh.aggregate.service_keys()) == 3
    assert mesh.aggregate.summary("east").held == {}


def test_updates_go_on_while_a_listing_is_held() -> None:
    """Explicit events are believed, and are not undone when the held listing takes effect."""
    mesh = Mesh(guard=LossGuard(GuardSettings(hold=Duration(60))))
    sink = mesh.aggregate.sink("east")
    sink.replace(services("east"), many(50))
    sink.replace(services("east"), many(3))

    sink.update(services("east"), "s1", None)
    sink.update(services("east"), "new", item("10.9.9.9"))
    assert len(mesh.aggregate.service_keys()) == 50
    mesh.clock.now += 60
    mesh.aggregate.release_due()

    assert sorted(key.host for key in mesh.aggregate.service_keys()) == [
        HOST,
        "s0.shop.mesh",
        "s2.shop.mesh",
    ]


def test_a_recovered_listing_ends_the_hold() -> None:
    """The fault passed; nobody noticed."""
    mesh = Mesh(guard=LossGuard(GuardSettings(hold=Duration(60))))
    sink = mesh.aggregate.sink("east")
    sink.replace(services("east"), many(50))
    mesh.told()
    sink.replace(services("east"), many(3))
    sink.replace(services("east"), many(50))
    mesh.clock.now += 100
    mesh.aggregate.release_due()

    assert mesh.told() == []
    assert mesh.aggregate.summary("east").held == {}


def test_scopes_missing_from_a_listing_are_held_together() -> None:
    """An unmounted folder must not take half of its services before the guard notices."""
    mesh = Mesh()
    sink = mesh.aggregate.sink("east")
    for number in range(50):
        sink.replace(services("east", f"f{number}"), many(1, number))
    mesh.told()

    sink.retain([])

    assert mesh.told() == []
    assert list(mesh.aggregate.summary("east").held) == ["scopes"]


def test_a_scope_that_comes_back_is_not_dropped_with_the_held_ones() -> None:
    """A folder that fills again while its loss is held keeps what came back."""
    mesh = Mesh(guard=LossGuard(GuardSettings(hold=Duration(60))))
    sink = mesh.aggregate.sink("east")
    for number in range(50):
        sink.replace(services("east", f"f{number}"), many(1, number))
    sink.retain([])
    sink.replace(services("east", "f7"), many(1, 7))

    mesh.clock.now += 60
    mesh.aggregate.release_due()

    assert list(mesh.aggregate.service_keys()) == [ServiceKey("shop", "s7.shop.mesh")]


def test_an_explicit_listing_is_never_held() -> None:
    """Whoever edits a file and takes out most of it means it."""
    mesh = Mesh()
    sink = mesh.aggregate.sink("east")
    sink.replace(services("east"), many(50))
    sink.replace(services("east"), many(3), explicit=True)

    assert len(mesh.aggregate.service_keys()) == 3


def test_dropped_scopes_are_never_held() -> None:
    """Unlinking a file is explicit."""
    mesh = Mesh(guard=LossGuard(GuardSettings(floor=0)))
    sink = mesh.aggregate.sink("east")
    sink.replace(services("east"), many(50))
    sink.drop(services("east"))

    assert len(mesh.aggregate.service_keys()) == 0


def test_announced_registries_that_vanish_count_with_their_endpoints() -> None:
    """A list of clusters that comes back empty would take every cluster with it."""
    mesh = Mesh()
    listing = {"east": AnnouncedRegistry("east", "kubernetes", {})}
    sink = mesh.aggregate.sink("more")
    shard = ShardKey("more", "all", Content.REGISTRIES)
    sink.replace(shard, listing)
    mesh.aggregate.sink("east").replace(services("east"), many(50))

    sink.replace(shard, {})

    assert [each.name for each in mesh.aggregate.announced()["more"]] == ["east"]


# Places and announcements


def test_places_are_told_by_name() -> None:
    """Namespaces and gateways have no other way to be noticed."""
    mesh = Mesh("east", "west")
    shard = ShardKey("east", "all", Content.PLACES)
    labelled = Namespace("shop", labels_of({"team": "a"}))
    mesh.aggregate.sink("east").replace(
        shard, {"n": labelled, "g": NetworkGateway("net1", "1.2.3.4", 15443)}
    )

    assert mesh.told() == [PlaceChanged("shop"), PlaceChanged("net1")]
    assert mesh.aggregate.namespace("shop") == labelled
    assert [each.address for each in mesh.aggregate.gateways("net1")] == ["1.2.3.4"]


def test_where_a_workload_is_is_told_when_it_changes() -> None:
    """By address, for the proxy that is beside it; labels and health are no news to it."""
    mesh = Mesh("east", "west")
    aggregate = mesh.aggregate

    def tell(registry: str, namespace: str, **fields: Any) -> list[Change]:
        told = replace(endpoint("10.0.0.1"), cluster_id=registry, **fields)
        shard = ShardKey(registry, namespace, Content.WORKLOADS)
        aggregate.sink(registry).update(shard, "w", Workload("w", namespace, told))
        return mesh.told()

    def place(cluster_id: str, namespace: str = "shop") -> Locality:
        return aggregate.place_of(namespace, cluster_id, ["10.9.9.9", "10.0.0.1"])

    here, there = Locality("eu", "eu-1"), Locality("us", "us-1")
    assert tell("east", "shop", locality=Locality()) == []
    assert tell("east", "shop", locality=here) == [WorkloadMoved("10.0.0.1")]
    assert tell("east", "shop", locality=here, health=Health.NOT_READY) == []
    assert tell("west", "shop", locality=there) == [WorkloadMoved("10.0.0.1")]

    assert (place("east"), place("west"), place("")) == (here, there, here)
    assert place("north") == place("east", "bank") == Locality()
    aggregate.sink("east").update(ShardKey("east", "shop", Content.WORKLOADS), "w", None)
    assert mesh.told() == [WorkloadMoved("10.0.0.1")]
    assert (place("east"), place("")) == (Locality(), there)


def test_a_loopback_address_tells_nobody_apart() -> None:
    """Every machine has it: whoever else is told to be there is another one."""
    mesh = Mesh("east")
    for key, address in (("v4", "127.0.0.1"), ("v6", "::1"), ("other", "10.0.0.1")):
        told = replace(endpoint(address), locality=Locality("eu", key))
        mesh.aggregate.sink("east").update(workloads("east"), key, Workload(key, "shop", told))

    assert mesh.aggregate.place_of("shop", "", ["127.0.0.1", "::1"]) == Locality()
    assert mesh.aggregate.place_of("shop", "", ["::1", "10.0.0.1"]) == Locality("eu", "other")


def test_announcements_are_told_to_the_supervisor() -> None:
    """A cluster that is found must be read without a restart."""
    mesh = Mesh()
    told: list[bool] = []
    mesh.aggregate.watch_announced(lambda: told.append(True))
    announced = AnnouncedRegistry("west", "kubernetes", {"kubeconfig": "west"})
    shard = ShardKey("more", "all", Content.REGISTRIES)
    sink = mesh.aggregate.sink("more")

    sink.replace(shard, {"west": announced})
    sink.replace(shard, {"west": announced})

    assert told == [True]
    assert mesh.aggregate.announced() == {"more": (announced,)}


def test_nothing_to_report_is_a_sign_of_life() -> None:
    """A quiet registry that answers is told apart from one that nobody has heard of for an hour."""
    mesh = Mesh()
    sink = mesh.aggregate.sink("east")
    sink.replace(services("east"), many(1))
    before = mesh.aggregate.summary("east").last_success
    mesh.clock.now += 60

    sink.report("scope", [Problem(Origin("a.yaml"), "", "wrong")])
    assert mesh.aggregate.summary("east").last_success == before
    sink.report("scope", [])
    assert mesh.aggregate.summary("east").last_success == mesh.clock.now


def test_the_summary_counts_what_a_registry_gives() -> None:
    """Status pages must not need a walk over the mesh."""
    mesh = Mesh()
    sink = mesh.aggregate.sink("east")
    sink.replace(services("east"), many(5), revision="12")
    sink.update(services("east"), "s0", None)
    sink.replace(rules("east"), {"r": config("DestinationRule", DestinationRule(host="a.b"))})

    summary = mesh.aggregate.summary("east")
    assert (summary.counts.services, summary.counts.endpoints) == (4, 4)
    assert (summary.counts.configs, summary.revision, summary.scopes) == (1, "12", 1)
    assert summary.last_success == mesh.clock.now


# Order does not matter

_WORDS = st.lists(
    st.tuples(
        st.sampled_from(["east", "west", "vms"]),
        st.sampled_from(["a", "b"]),
        st.sampled_from([HOST, "ratings.shop.mesh"]),
        st.booleans(),
        st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"]), max_size=3),
    ),
    max_size=8,
    unique_by=lambda word: word[:3],
)


@settings(deadline=None)
@given(words=_WORDS, data=st.data())
def test_the_order_of_arrival_does_not_change_the_outcome(
    words: list[tuple[str, str, str, bool, list[str]]], data: st.DataObject
) -> None:
    """Two replicas that hear the same in another order must send the same bytes."""
    outcomes = []
    for order in (words, data.draw(st.permutations(words))):
        mesh = Mesh("vms", "east", "west")
        for registry, scope, host, defines, addresses in order:
            definition = service(host, namespace="shop", labels={"from": f"{registry} {scope}"})
            mesh.aggregate.sink(registry).update(
                services(registry, scope),
                host,
                ServiceItem(
                    "shop",
                    host,
                    definition if defines else None,
                    tuple(endpoint(each) for each in addresses),
                ),
            )
        outcomes.append(_everything(mesh.aggregate))

    assert outcomes[0] == outcomes[1]


@settings(deadline=None)
@given(words=_WORDS, data=st.data())
def test_what_remains_does_not_tell_what_was_there(
    words: list[tuple[str, str, str, bool, list[str]]], data: st.DataObject
) -> None:
    """A replica that has seen much come and go equals one that has just started."""
    stay = data.draw(st.sets(st.sampled_from(range(len(words))) if words else st.nothing()))
    seasoned, fresh = Mesh("vms", "east", "west"), Mesh("vms", "east", "west")
    for mesh, numbers in ((seasoned, range(len(words))), (fresh, sorted(stay))):
        for number in numbers:
            _say(mesh.aggregate.sink(words[number][0]), words[number])
    for number in set(range(len(words))) - stay:
        registry, scope, host, *_ = words[number]
        seasoned.aggregate.sink(registry).update(services(registry, scope), host, None)

    assert _everything(seasoned.aggregate) == _everything(fresh.aggregate)


def _say(sink: RegistrySink, word: tuple[str, str, str, bool, list[str]]) -> None:
    registry, scope, host, defines, addresses = word
    definition = service(host, namespace="shop") if defines else None
    given_endpoints = tuple(endpoint(each) for each in addresses)
    sink.update(
        services(registry, scope), host, ServiceItem("shop", host, definition, given_endpoints)
    )


def _everything(aggregate: Aggregate) -> Sequence[object]:
    return [
        [
            (key, aggregate.service(key), aggregate.endpoints(key))
            for key in sorted(aggregate.service_keys())
        ],
        aggregate.unclaimed(),
        aggregate.conflicts(),
    ]
