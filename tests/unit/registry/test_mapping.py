"""What mapping rules make of what a registry says, and that they change without asking it again."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from aggregator.model.change import Change
from aggregator.model.registry import Content, Item, RegistryContext, ServiceItem, ShardKey
from aggregator.model.service import Port, Protocol, ServiceKey, Workload, labels_of
from aggregator.registry.aggregate import Aggregate
from aggregator.registry.mapping import (
    AddressFilter,
    LabelRules,
    Mapper,
    MappingRules,
    PortPolicy,
    PortRules,
    ServiceFilter,
    validate_mapping,
)
from aggregator.registry.settings import Handling
from aggregator.registry.shard import Generation
from tests.support.builders import endpoint, port, service
from tests.support.clock import FakeClock

SHARD = ShardKey("dc", "dc1", Content.SERVICES)
CONTEXT = RegistryContext(name="dc", cluster_id="c1", domain="mesh.local")


def item(
    host: str = "web.service.dc1.consul",
    *addresses: str,
    labels: dict[str, str] | None = None,
    created: float = 0.0,
) -> ServiceItem:
    """A service with endpoints that share its labels."""
    told = [endpoint(each, labels=labels) for each in addresses or ("10.0.0.1",)]
    defined = service(host, namespace="default", labels=labels, created=created)
    return ServiceItem("default", host, defined, tuple(told))


def mapped(rules: MappingRules, said: Item) -> Item | None:
    """What is served of it."""
    return Mapper(rules, CONTEXT).apply(said)


def served(rules: MappingRules, said: ServiceItem) -> ServiceItem:
    """What is served of a service that is not left out."""
    found = mapped(rules, said)
    assert isinstance(found, ServiceItem)
    return found


def test_without_rules_everything_stays_the_same_object() -> None:
    """Most registries have none, and pay nothing."""
    said = item()

    assert mapped(MappingRules(), said) is said


def test_what_no_rule_concerns_stays_the_same_object() -> None:
    """Only what differs is kept twice."""
    said = item()

    assert mapped(MappingRules(labels=LabelRules(drop=("x-*",))), said) is said


def test_hosts_follow_the_template() -> None:
    """A service may join one of another registry under that one's name."""
    rules = MappingRules(host="{service}.{namespace}.svc.{domain}")
    found = served(rules, item())

    assert found.host == "web.default.svc.mesh.local"
    assert found.service is not None
    assert found.service.host == found.host
    more = served(MappingRules(host="{cluster_id}.{registry}.{host}"), item())
    assert more.host == "c1.dc.web.service.dc1.consul"


def test_services_are_chosen_by_host_namespace_and_labels() -> None:
    """All that a filter gives has to match; any of several filters does."""
    web = item(labels={"team": "alpha"})
    rules = MappingRules(
        include=(
            ServiceFilter(host="WEB.*", labels={"team": "al*"}),
            ServiceFilter(namespace="shop"),
        )
    )

    assert mapped(rules, web) is web
    assert mapped(rules, item(labels={"team": "beta"})) is None
    assert mapped(rules, item("db.mesh", labels={"team": "alpha"})) is None
    assert mapped(rules, replace(item("db.mesh"), namespace="shop")) is not None


def test_exclusion_outdoes_inclusion() -> None:
    """What is excluded is meant to be unreachable."""
    rules = MappingRules(
        include=(ServiceFilter(host="*.consul"),), exclude=(ServiceFilter(host="web.*"),)
    )

    assert mapped(rules, item()) is None
    assert mapped(rules, item("db.consul")) is not None


def test_endpoints_without_a_definition_are_not_judged_by_labels() -> None:
    """They go with their service, which has the labels."""
    loose = ServiceItem("default", "web.mesh", None, (endpoint(),))
    labelled = ServiceFilter(labels={"team": "a"})

    assert mapped(MappingRules(include=(labelled,)), loose) is loose
    assert mapped(MappingRules(exclude=(labelled,)), loose) is loose


def test_endpoints_are_chosen_by_address() -> None:
    """Names and sockets have none, and stay."""
    rules = MappingRules(addresses=AddressFilter(("10.0.0.0/8", "fd00::/8"), ("10.9.0.0/16",)))
    said = item("a.mesh", "10.0.0.1", "10.9.0.1", "192.168.0.1", "fd00::1", "db.example.com")

    found = served(rules, said)

    assert [each.address for each in found.endpoints] == ["10.0.0.1", "fd00::1", "db.example.com"]


def test_labels_are_dropped_and_renamed() -> None:
    """An existing label outdoes a renamed one, and selectors follow."""
    rules = MappingRules(labels=LabelRules({"ver": "version", "old": "new"}, ("x-*",)))
    said = item(labels={"ver": "1", "x-a": "1", "old": "1", "new": "2"})
    assert said.service is not None
    chosen = replace(said.service, selector=labels_of({"ver": "1"}))

    found = served(rules, replace(said, service=chosen))

    assert found.endpoints[0].labels == (("new", "2"), ("version", "1"))
    assert found.service is not None
    assert found.service.labels == found.endpoints[0].labels
    assert found.service.selector == (("version", "1"),)


def test_workloads_are_mapped_but_for_what_is_said_of_hosts() -> None:
    """Selectors of any registry pick from them, under the labels that are served."""
    workload = Workload("pod", "shop", endpoint("10.0.0.1", labels={"ver": "1"}))
    renamed = mapped(MappingRules(labels=LabelRules({"ver": "version"})), workload)

    assert isinstance(renamed, Workload)
    assert renamed.endpoint.labels == (("version", "1"),)
    assert mapped(MappingRules(exclude=(ServiceFilter(namespace="shop"),)), workload) is None
    assert mapped(MappingRules(exclude=(ServiceFilter(host="a*"),)), workload) is workload
    assert mapped(MappingRules(include=(ServiceFilter(host="a*"),)), workload) is workload
    outside = AddressFilter(include=("10.1.0.0/16",))
    assert mapped(MappingRules(addresses=outside), workload) is None


def test_the_first_port_can_stand_for_all() -> None:
    """Each endpoint is where it serves the first of the ports that it has."""
    ports = (port(8080, "HTTP", "p-8080"), port(8081, "GRPC", "p-8081"))
    told = (
        endpoint("10.0.0.1", ports={"p-8080": 8080, "p-8081": 0}),
        endpoint("10.0.0.2", ports={"p-8080": 0, "p-8081": 8081}),
        endpoint("10.0.0.3", ports={"p-8080": 0, "p-8081": 0}),
    )
    said = ServiceItem(
        "default", "web.mesh", service("web.mesh", *ports, namespace="default"), told
    )

    first = served(MappingRules(ports=PortRules(PortPolicy.FIRST)), said)
    fixed = served(MappingRules(ports=PortRules(PortPolicy.FIXED, 80)), said)

    for found, number in ((first, 8080), (fixed, 80)):
        assert found.service is not None
        (only,) = found.service.ports
        assert only == Port(number, "p-8080", Protocol.HTTP, 8080)
        assert [(each.address, each.port_number(only)) for each in found.endpoints] == [
            ("10.0.0.1", 8080),
            ("10.0.0.2", 8081),
        ]


def test_what_nobody_told_can_be_told_here() -> None:
    """A registry that knows no places, networks or protocols gets them; what it knows stands."""
    rules = MappingRules(protocol="http", locality="eu/eu-1", network="net1")
    ports = (port(80, "TCP"), port(81, "MYSQL"))
    told = (endpoint("10.0.0.1"), endpoint("10.0.0.2", locality="us", network="net2"))
    defined = service("web.mesh", *ports, namespace="default")
    found = served(rules, ServiceItem("default", "web.mesh", defined, told))

    assert found.service is not None
    assert [each.protocol for each in found.service.ports] == [Protocol.HTTP, Protocol.MYSQL]
    assert [(str(each.locality), each.network) for each in found.endpoints] == [
        ("eu/eu-1", "net1"),
        ("us", "net2"),
    ]


def test_wrong_rules_are_told_with_their_place() -> None:
    """Before anything is mapped by them."""
    rules = MappingRules(
        host="all.mesh",
        addresses=AddressFilter(("ten",)),
        labels=LabelRules({"a": "not a label"}),
        ports=PortRules(PortPolicy.FIRST, 80),
        protocol="htttp",
        locality="/eu-1",
    )

    assert [path for path, _ in validate_mapping(rules)] == [
        "host",
        "addresses.include[0]",
        "labels.rename.a",
        "protocol",
        "locality",
        "ports.number",
    ]


# In the aggregate


class Served:
    """An aggregate with one registry."""

    def __init__(self, rules: MappingRules = MappingRules()) -> None:  # noqa: B008 - frozen
        self.changes: list[Change] = []
        self.aggregate = Aggregate(self.changes.extend, clock=FakeClock())
        self.map(rules)
        self.sink = self.aggregate.sink("dc", CONTEXT)

    def map(self, rules: MappingRules) -> None:
        """Have other rules from now on."""
        self.aggregate.configure("dc", Handling(rules))

    @property
    def hosts(self) -> list[str]:
        """What is served."""
        return sorted(key.host for key in self.aggregate.service_keys())

    @property
    def reasons(self) -> list[str]:
        """What is skipped."""
        problems = self.aggregate.problems().values()
        return [problem.message for each in problems for problem in each]


def listing(*items: ServiceItem) -> dict[str, Item]:
    """Items by their host."""
    return {each.host: each for each in items}


def test_rules_change_without_another_listing() -> None:
    """Neither the adapter nor the registry notices, and nothing is lost on the way."""
    mesh = Served()
    mesh.sink.replace(SHARD, listing(item("a.x"), item("b.x")))

    mesh.map(MappingRules(exclude=(ServiceFilter(host="a.*"),)))
    assert mesh.hosts == ["b.x"]
    mesh.map(MappingRules(host="{service}.mesh"))
    assert mesh.hosts == ["a.mesh", "b.mesh"]
    mesh.map(MappingRules())

    assert mesh.hosts == ["a.x", "b.x"]
    assert mesh.aggregate.summary("dc").counts.services == 2


def test_equal_rules_change_nothing() -> None:
    """A reload of unchanged settings costs no proxy anything."""
    rules = MappingRules(host="{service}.mesh")
    mesh = Served(rules)
    mesh.sink.replace(SHARD, listing(item("a.x")))
    mesh.changes.clear()

    mesh.map(MappingRules(host="{service}.mesh"))

    assert mesh.changes == []


def test_excluded_services_come_and_go_unnoticed() -> None:
    """They are in no count, and their end is a proper end."""
    mesh = Served(MappingRules(exclude=(ServiceFilter(host="a.*"),)))
    mesh.sink.replace(SHARD, listing(item("a.x"), item("b.x")))
    mesh.sink.replace(SHARD, listing(item("b.x")))

    assert mesh.aggregate.summary("dc").counts.services == 1
    mesh.map(MappingRules())
    assert mesh.hosts == ["b.x"]


def test_the_guard_counts_what_is_served() -> None:
    """What is excluded can neither cause nor hide a loss."""
    mesh = Served(MappingRules(exclude=(ServiceFilter(host="a*"),)))
    mine = [item(f"b{number}.x", f"10.0.0.{number}") for number in range(30)]
    other = [item(f"a{number}.x", f"10.0.1.{number}") for number in range(200)]
    mesh.sink.replace(SHARD, listing(*mine, *other))
    mesh.sink.replace(SHARD, listing(*mine))
    assert mesh.aggregate.summary("dc").held == {}

    mesh.sink.replace(SHARD, listing(mine[0], *other))

    assert len(mesh.hosts) == 30


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_services_that_get_one_host_the_older_keeps_it(order: Sequence[int]) -> None:
    """A newcomer does not take over somebody's traffic, and the other one is told of."""
    both = [item("web.a", "10.0.0.2", created=2.0), item("web.b", "10.0.0.1", created=1.0)]
    mesh = Served(MappingRules(host="{service}.mesh"))
    for index in order:
        mesh.sink.update(SHARD, both[index].host, both[index])

    (found,) = mesh.aggregate.endpoints(ServiceKey("default", "web.mesh"))
    assert found.address == "10.0.0.1"
    assert mesh.reasons == ["'web.a' would be 'web.mesh', which 'web.b' is already"]
    mesh.sink.update(SHARD, "web.b", None)
    (found,) = mesh.aggregate.endpoints(ServiceKey("default", "web.mesh"))
    assert found.address == "10.0.0.2"
    assert mesh.reasons == []


def test_one_host_in_two_scopes_is_one_service() -> None:
    """So a service in two datacenters fails over."""
    mesh = Served(MappingRules(host="{service}.mesh"))
    mesh.sink.replace(SHARD, listing(item("web.dc1", "10.0.0.1")))
    mesh.sink.replace(replace(SHARD, scope="dc2"), listing(item("web.dc2", "10.0.0.2")))

    assert len(mesh.aggregate.endpoints(ServiceKey("default", "web.mesh"))) == 2
    assert mesh.reasons == []


def test_a_service_without_a_possible_host_is_told_of() -> None:
    """The others are served."""
    mesh = Served(MappingRules(host="{service}.{service}.{service}.{service}.{service}.mesh"))
    long = "x" * 60
    mesh.sink.replace(SHARD, listing(item(f"{long}.a"), item("b.a")))

    assert mesh.hosts == ["b.b.b.b.b.mesh"]
    assert mesh.reasons == ["a host name has at most 255 characters"]


def test_a_replacement_is_mapped_as_well() -> None:
    """Rules hold for what prepares to be served."""
    mesh = Served(MappingRules(host="{service}.mesh"))
    mesh.sink.replace(SHARD, listing(item("a.x")))
    swap = mesh.aggregate.swap("dc", replace(CONTEXT, cluster_id="c2"))
    swap.replace(SHARD, listing(item("a.x"), item("b.x")))
    mesh.map(MappingRules(host="{service}.{cluster_id}"))
    swap.synced()

    assert mesh.hosts == ["a.c2", "b.c2"]


class CountingMapper(Mapper):
    """Counts what it is asked."""

    asked = 0

    def apply(self, item: Item) -> Item | None:
        """As ever."""
        self.asked += 1
        return super().apply(item)


def test_what_is_listed_again_is_not_mapped_again() -> None:
    """A registry that is relisted all the time costs no more for having rules."""
    mapper = CountingMapper(MappingRules(host="{service}.mesh"), CONTEXT)
    generation = Generation("dc", mapper)
    told: dict[str, Item] = {
        host: replace(each, endpoints=tuple(replace(at, registry="dc") for at in each.endpoints))
        for host, each in ((host, item(host)) for host in ("a.x", "b.x"))
    }
    generation.replace(SHARD, told)
    assert mapper.asked > 0
    mapper.asked = 0
    served = list(generation.mapped(SHARD, told))
    differences = generation.replace(SHARD, dict(told))

    assert [each.host for each in served if isinstance(each, ServiceItem)] == ["a.mesh", "b.mesh"]
    assert (differences, mapper.asked) == ([], 0)
