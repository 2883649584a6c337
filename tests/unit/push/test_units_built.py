"""A change builds the units that it touches, and not one more."""

from collections import Counter
from collections.abc import Iterable

import msgspec
import pytest

from aggregator.generators.spec import GeneratorSpec, GeneratorTable, Resource, Unit, View
from aggregator.model.change import Change
from aggregator.model.config import Config
from aggregator.model.policy import MergeMode, MergePolicy
from aggregator.model.registry import Content, NetworkGateway, ShardKey
from aggregator.model.service import ServiceKey
from aggregator.push.engine import Engine
from aggregator.registry.aggregate import Aggregate
from config.kinds.destination_rule import DestinationRule
from config.kinds.service_entry import ServiceEntry
from config.kinds.sidecar import Sidecar
from config.kinds.virtual_service import VirtualService
from config.kinds.workload_entry import WorkloadEntry
from config.mesh import MeshConfig
from tests.support.builders import endpoint, port, rule, service
from tests.support.clock import FakeClock
from tests.support.mesh import MemorySource, generator_table, make_engine
from tests.support.proxy import Silent, proxy

SERVICES = 20


class Log:
    """Wraps generators so that each build is written down as ``CDS host/reviews…``."""

    def __init__(self) -> None:
        self.built: Counter[str] = Counter()

    def table(self) -> GeneratorTable:
        """The real generators, watched."""
        return {
            type_url: tuple(self._watched(spec) for spec in specs)
            for type_url, specs in generator_table().items()
        }

    def _watched(self, spec: GeneratorSpec) -> GeneratorSpec:
        def build(view: View, unit: Unit) -> Iterable[Resource]:
            self.built[f"{spec.kind.short} {unit.root}/{unit.key}"] += 1
            return spec.build(view, unit)

        return msgspec.structs.replace(spec, build=build)


class Fixture:
    """An engine with three views: two namespaces, and one of them on delta too."""

    def __init__(self) -> None:
        self.source = MemorySource()
        for number in range(SERVICES):
            self.source.put_service(
                service(f"s{number}.shop.svc.cluster.local", port(80)),
                endpoint(f"10.0.0.{number}", labels={"version": "v1"}, locality="eu/eu-1"),
            )
        self.log = Log()
        self.engine: Engine = make_engine(self.source, generators=self.log.table())
        self.streams: dict[str, Silent] = {}

    async def start(self) -> None:
        """Connect three proxies and forget what it took to build their views."""
        for name, namespace, vhds in (
            ("a", "shop", False),
            ("b", "bank", False),
            ("c", "shop", True),
        ):
            await self.connect(name, namespace, vhds=vhds)
        self.log.built.clear()

    async def connect(self, name: str, namespace: str, *, vhds: bool, **labels: str) -> None:
        """Connect a proxy."""
        self.streams[name] = Silent()
        connected = proxy(namespace, name, **labels)
        await self.engine.attach(self.streams[name], connected, vhds=vhds)

    async def change(self, *changes: Change) -> dict[str, int]:
        """Push changes; returns what was built, how often."""
        self.log.built.clear()
        self.engine.submit(changes)
        await self.engine.push()
        return dict(self.log.built)


@pytest.fixture
async def mesh() -> Fixture:
    """A started fixture."""
    fixture = Fixture()
    await fixture.start()
    return fixture


S1 = "s1.shop.svc.cluster.local"
KEY = ServiceKey("shop", S1)


async def test_views_that_would_answer_alike_share_what_is_built(mesh: Fixture) -> None:
    """A second view costs only what its proxies see differently."""
    await mesh.connect("d", "bank", vhds=True)
    assert not mesh.log.built, "namespace and variant were both seen before, apart"
    await mesh.connect("e", "farm", vhds=True)
    assert not mesh.log.built, "one foreign namespace sees what another one sees"


async def test_endpoint_change_builds_one_assignment_unit(mesh: Fixture) -> None:
    """The commonest change of all touches EDS of one host, for all views together."""
    built = await mesh.change(mesh.source.put_endpoints(KEY, endpoint("10.0.0.99")))
    assert built == {f"EDS host/{S1}": 1}


async def test_equal_endpoints_build_nothing(mesh: Fixture) -> None:
    """No change in content, no work."""
    same = mesh.source.endpoints(KEY)
    assert await mesh.change(mesh.source.put_endpoints(KEY, *same)) == {}


async def test_new_service_builds_its_own_units_and_its_port(mesh: Fixture) -> None:
    """A service more does not rebuild the others."""
    host = "new.shop.svc.cluster.local"
    built = await mesh.change(mesh.source.put_service(service(host, port(80)), endpoint()))
    assert built == {
        f"CDS host/{host}": 1,
        f"EDS host/{host}": 1,
        f"VHDS route_host/{host}": 2,  # short names differ by the proxy's namespace
        "LDS port/80": 1,
        "RDS port/80": 2,  # with the virtual hosts apart, and with them inline
    }


async def test_tcp_service_with_an_address_builds_only_its_own_listener(mesh: Fixture) -> None:
    """Other services on the same port, however many, stand at other addresses."""
    await mesh.change(
        mesh.source.put_service(
            service("one.shop.svc.cluster.local", port(3306, "TCP"), addresses=["10.96.0.1"])
        )
    )
    host = "two.shop.svc.cluster.local"
    two = service(host, port(3306, "TCP"), addresses=["10.96.0.2"])
    built = await mesh.change(mesh.source.put_service(two, endpoint()))
    assert built == {
        f"CDS host/{host}": 1,
        f"EDS host/{host}": 1,
        f"VHDS route_host/{host}": 1,  # only to find that it has no HTTP
        "LDS address/10.96.0.2": 1,
    }


async def test_removed_service_builds_only_its_port(mesh: Fixture) -> None:
    """A service less is taken out; nothing of the others is built."""
    built = await mesh.change(mesh.source.remove_service(KEY))
    assert built == {"LDS port/80": 1, "RDS port/80": 2}


async def test_service_on_a_new_port_builds_that_port(mesh: Fixture) -> None:
    """The other ports' listeners and routes are not touched."""
    host = "new.shop.svc.cluster.local"
    built = await mesh.change(mesh.source.put_service(service(host, port(8080)), endpoint()))
    assert built.keys() == {
        f"CDS host/{host}",
        f"EDS host/{host}",
        f"VHDS route_host/{host}",
        "LDS port/8080",
        "RDS port/8080",
    }


async def test_virtual_service_builds_one_virtual_host(mesh: Fixture) -> None:
    """Weights that move are one virtual host, whatever the size of the mesh."""
    first = rule(VirtualService, {"hosts": [S1], "http": [{"route": [_to(S1)]}]})
    again = rule(VirtualService, {"hosts": [S1], "http": [{"timeout": "3s", "route": [_to(S1)]}]})
    for config in (first, again):
        built = await mesh.change(mesh.source.put_config(config))
        assert built == {f"VHDS route_host/{S1}": 2}
    built = await mesh.change(mesh.source.remove_config(first.key))
    assert built == {f"VHDS route_host/{S1}": 2}


async def test_destination_rule_builds_its_host_only(mesh: Fixture) -> None:
    """Subsets and policies concern the clusters, endpoints and routes of one host."""
    config = rule(
        DestinationRule,
        {"host": S1, "subsets": [{"name": "v1", "labels": {"version": "v1"}}]},
    )
    built = await mesh.change(mesh.source.put_config(config))
    # Routes read its hash policy; short names make two virtual hosts of one.
    assert built == {f"CDS host/{S1}": 1, f"EDS host/{S1}": 1, f"VHDS route_host/{S1}": 2}


async def test_rule_for_an_unknown_host_builds_no_more_than_itself(mesh: Fixture) -> None:
    """Look-ups that found nothing are recorded as precisely as those that did."""
    config = rule(DestinationRule, {"host": "nobody.example.com"})
    assert await mesh.change(mesh.source.put_config(config)) == {}


async def test_sidecar_builds_only_for_the_views_that_it_selects(mesh: Fixture) -> None:
    """Narrowing one namespace leaves the proxies of the others alone."""
    config = rule(Sidecar, {"egress": [{"hosts": ["shop/*"]}]}, name="default", namespace="bank")
    await mesh.change(mesh.source.put_config(config))
    assert mesh.streams["b"].moved_to
    assert not mesh.streams["a"].moved_to
    assert not mesh.streams["a"].diffs
    assert not mesh.streams["c"].diffs


async def test_mesh_setting_builds_what_reads_it(mesh: Fixture) -> None:
    """A field of the mesh settings touches those units that read this field."""
    mesh.log.built.clear()
    mesh.engine.set_mesh(MeshConfig(access_log_file="/dev/stdout"))
    await mesh.engine.push()
    assert {each.split()[0] for each in mesh.log.built} == {"LDS"}


async def test_unrelated_selector_moves_nobody(mesh: Fixture) -> None:
    """A new selector that matches no connected proxy changes no view."""
    config = rule(
        Sidecar,
        {"workloadSelector": {"labels": {"app": "nobody"}}, "egress": [{"hosts": ["./*"]}]},
        namespace="shop",
    )
    assert await mesh.change(mesh.source.put_config(config)) == {}
    assert not any(stream.moved_to for stream in mesh.streams.values())


async def test_gateway_builds_the_assignments_of_hosts_with_endpoints_in_its_network(
    mesh: Fixture,
) -> None:
    """A load balancer that gets another address does not touch the rest of the mesh."""
    await mesh.change(mesh.source.put_endpoints(KEY, endpoint("10.9.0.1", network="net2")))
    way = NetworkGateway("net2", "192.0.2.1", 15443)
    assert await mesh.change(mesh.source.put_gateways("net2", way)) == {f"EDS host/{S1}": 1}
    other = NetworkGateway("net3", "192.0.2.1", 15443)
    assert await mesh.change(mesh.source.put_gateways("net3", other)) == {}


async def test_policy_builds_its_host_only(mesh: Fixture) -> None:
    """A step of a migration costs the clusters and the assignments of one host."""
    policy = MergePolicy(MergeMode.WEIGHTS, shares=(("east", 100),))
    assert await mesh.change(mesh.source.put_policy(KEY, policy)) == {
        f"CDS host/{S1}": 1,
        f"EDS host/{S1}": 1,
    }


async def test_proxies_of_another_cluster_share_all_but_what_is_theirs(mesh: Fixture) -> None:
    """A service with virtual IPs in two clusters is built for each of them, and nothing else is."""
    owners = (("east", ("10.96.0.1",)), ("west", ("10.96.0.2",)))
    addresses = tuple(address for _, own in owners for address in own)
    both = service("both.shop.svc.cluster.local", port(80), addresses=addresses)
    both = msgspec.structs.replace(both, cluster_addresses=owners)
    await mesh.change(mesh.source.put_service(both, endpoint(cluster_id="east")))
    mesh.log.built.clear()
    for cluster_id in ("east", "west", "south"):
        connected = msgspec.structs.replace(proxy("shop", cluster_id), cluster_id=cluster_id)
        await mesh.engine.attach(Silent(), connected, vhds=True)
    assert {unit.partition(" ")[2] for unit in mesh.log.built} <= {
        f"host/{both.host}",
        f"route_host/{both.host}",
        "address/10.96.0.1",
        "address/10.96.0.2",
        "port/80",
    }
    assert max(mesh.log.built.values()) == 2, "the third cluster borrows what the first has"


def _to(host: str) -> dict[str, object]:
    return {"destination": {"host": host}}


async def test_rule_of_the_root_namespace_builds_its_host_only(mesh: Fixture) -> None:
    """A rule for all namespaces is no reason to build what it does not speak of."""
    policy = {"connectionPool": {"tcp": {"connectTimeout": "3s"}}}
    config = rule(DestinationRule, {"host": S1, "trafficPolicy": policy}, namespace="istio-system")
    built = await mesh.change(mesh.source.put_config(config))
    assert built == {f"CDS host/{S1}": 1, f"EDS host/{S1}": 1, f"VHDS route_host/{S1}": 2}


async def test_wildcard_rule_builds_the_hosts_that_it_covers(mesh: Fixture) -> None:
    """And of the hosts that a narrower rule speaks of, it finds out just that."""
    host = "a.example.com"
    await mesh.change(mesh.source.put_service(service(host, port(80)), endpoint()))
    config = rule(DestinationRule, {"host": "*.example.com"})
    built = await mesh.change(mesh.source.put_config(config))
    assert {each.partition(" ")[2] for each in built} == {f"host/{host}", f"route_host/{host}"}


async def test_delegate_builds_the_virtual_host_that_leads_to_it(mesh: Fixture) -> None:
    """A delegate has no host of its own; its change reaches the rule that names it."""
    root = rule(
        VirtualService,
        {"hosts": [S1], "http": [{"delegate": {"name": "part", "namespace": "shop"}}]},
        name="root",
    )
    part = rule(VirtualService, {"http": [{"route": [_to(S1)]}]}, name="part")
    await mesh.change(mesh.source.put_config(root), mesh.source.put_config(part))
    again = rule(VirtualService, {"http": [{"timeout": "3s", "route": [_to(S1)]}]}, name="part")
    assert await mesh.change(mesh.source.put_config(again)) == {f"VHDS route_host/{S1}": 2}


async def test_hidden_service_builds_its_own_units_and_its_port(mesh: Fixture) -> None:
    """Whom a service is exported to decides who sees it, and nothing about others."""
    hidden = service(S1, port(80), export_to=["."])
    built = await mesh.change(mesh.source.put_service(hidden, *mesh.source.endpoints(KEY)))
    assert {each.partition(" ")[2] for each in built} == {
        f"host/{S1}",
        f"route_host/{S1}",
        "port/80",
    }


class RegistryFixture(Fixture):
    """The same over the registry layer, so that what rules become of services counts too."""

    def __init__(self) -> None:
        super().__init__()
        self.aggregate = Aggregate(lambda changes: self.told.extend(changes), clock=FakeClock())
        self.told: list[Change] = []
        self.sink = self.aggregate.sink("files")
        self.put(entry("front.example.com", "10.0.0.1"), workload("w1", "10.1.0.1"))
        self.told.clear()
        self.engine = make_engine(self.aggregate, generators=self.log.table())

    def put(self, *configs: Config) -> None:
        """Add or replace rules, each in a scope of its own, as files are."""
        for config in configs:
            shard = ShardKey("files", config.name, Content.RULES)
            self.sink.update(shard, str(config.key), config)

    async def push(self, *configs: Config) -> dict[str, int]:
        """Push what these rules change; returns what was built."""
        self.told.clear()
        self.put(*configs)
        return await self.change(*self.told)


def entry(host: str, address: str = "", **selected: str) -> Config:
    """A ServiceEntry with one endpoint, or one that selects workloads."""
    spec: dict[str, object] = {
        "hosts": [host],
        "resolution": "STATIC",
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
    }
    if address:
        spec["endpoints"] = [{"address": address}]
    else:
        spec["workloadSelector"] = {"labels": selected}
    return rule(ServiceEntry, spec, name=host.partition(".")[0])


def workload(name: str, address: str) -> Config:
    """A WorkloadEntry of the application ``vm``."""
    return rule(WorkloadEntry, {"address": address, "labels": {"app": "vm"}}, name=name)


@pytest.fixture
async def town() -> RegistryFixture:
    """A started fixture with a registry layer."""
    fixture = RegistryFixture()
    await fixture.start()
    return fixture


async def test_service_entry_whose_endpoint_changes_is_an_endpoint_change(
    town: RegistryFixture,
) -> None:
    """A VM that moves costs one assignment, though a rule object changed."""
    built = await town.push(entry("front.example.com", "10.0.0.2"))
    assert built == {"EDS host/front.example.com": 1}


async def test_workload_entry_builds_the_services_that_select_it(town: RegistryFixture) -> None:
    """And none of those that do not."""
    await town.push(entry("vm.example.com", app="vm"))
    assert await town.push(workload("w2", "10.1.0.2")) == {"EDS host/vm.example.com": 1}


async def test_workload_entry_that_nobody_selects_builds_nothing(town: RegistryFixture) -> None:
    """It is known, and no more."""
    assert await town.push(workload("w3", "10.1.0.3")) == {}
