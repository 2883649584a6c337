"""The settings file: what it becomes, and what is said of one that is wrong."""

from pathlib import Path

import pytest
from msgspec import Struct

from aggregator.model.errors import ConfigError, Origin, Problem
from aggregator.model.policy import MergeMode
from aggregator.model.registry import Adapter, AdapterSpec, RegistryContext
from aggregator.quantity import Address, Size
from aggregator.registry.guard import GuardSettings
from aggregator.registry.mapping import (
    AddressFilter,
    LabelRules,
    MappingRules,
    PortPolicy,
    PortRules,
    ServiceFilter,
)
from aggregator.registry.settings import ABSENCE_GRACE, Handling
from aggregator.registry.sharing import MergeRule
from aggregator.settings import decode_settings, embedded_settings, load_settings, override
from config.duration import Duration


class ShelfSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """An adapter's own keys."""

    path: str
    depth: int = 1


def create(_context: RegistryContext, _settings: ShelfSettings) -> Adapter:
    """Settings make no adapter."""
    raise NotImplementedError


def load(name: str, origin: Origin) -> AdapterSpec:
    """Knows some types, of which one makes host names and one is a cluster."""
    if name not in ("shelf", "namer", "cluster", "files"):
        raise ConfigError(Problem(origin, "type", f"unknown registry type {name!r}"))
    if name == "cluster":
        return AdapterSpec(name, ShelfSettings, create, is_cluster=True)
    if name == "namer":
        return AdapterSpec(name, ShelfSettings, create, names_hosts=True, tells_deletions=False)
    return AdapterSpec(name, ShelfSettings, create)


FILE = Path("/etc/mesh/mesh-aggregator.yaml")


def problems_of(text: str) -> list[str]:
    """``line path: message`` of everything wrong with the text."""
    with pytest.raises(ConfigError) as caught:
        decode_settings(text.encode(), FILE, load)
    assert all(each.origin.source == str(FILE) for each in caught.value.problems)
    return [f"{each.origin.line} {each.path}: {each.message}" for each in caught.value.problems]


def test_a_file_becomes_settings_in_the_order_of_its_registries() -> None:
    """Order is precedence; common keys go to the context, the others to the adapter's struct."""
    settings = decode_settings(
        b"""
registries:
- {name: vms, type: shelf, path: services/, required: false, sync_timeout: 5s, namespace: shop,
   locality: eu/eu-1, network: net1, protocol: HTTP, export_to: [., ops], rules: false, depth: 3}
- {name: other, type: namer, path: x, cluster_id: east, host_template: "{name}.x"}
domain: mesh.local
mesh: {rootNamespace: root, connectTimeout: 3s, outboundTrafficPolicy: {mode: REGISTRY_ONLY}}
listen:
  grpc: "0.0.0.0:1"
  grpc_tls: {address: "[::]:2", cert: server.pem, key: /keys/server.key}
push: {debounce: {max: 50ms}, in_flight: 1MiB}
log: {level: debug}
""",
        FILE,
        load,
    )

    vms, other = settings.registries
    assert (vms.name, vms.type, vms.required, vms.sync_timeout) == ("vms", "shelf", False, 5.0)
    assert vms.adapter == ShelfSettings("services/", 3)
    assert vms.context == RegistryContext(
        name="vms",
        cluster_id="",
        domain="mesh.local",
        namespace="shop",
        export_to=(".", "ops"),
        locality="eu/eu-1",
        network="net1",
        protocol="HTTP",
        rules=False,
        base_dir="/etc/mesh",
        origin=Origin(str(FILE), 3),
    )
    assert (other.context.cluster_id, other.context.host_template) == ("east", "{name}.x")
    assert other.required
    assert settings.mesh.root_namespace == "root"
    assert settings.mesh.connect_timeout == 3.0
    assert settings.listen.grpc == Address("0.0.0.0:1")
    tls = settings.listen.grpc_tls
    assert tls is not None
    assert (tls.cert, tls.key, tls.client_ca) == (
        "/etc/mesh/server.pem",
        "/keys/server.key",
        "",
    )
    assert settings.push.debounce.max == pytest.approx(0.05)
    assert settings.push.in_flight == Size(2**20)
    assert settings.file == FILE
    assert settings.warnings == ()


@pytest.mark.parametrize(
    ("entry", "cluster_id"),
    [
        ("{name: a, type: shelf, path: x}", ""),
        ("{name: a, type: shelf, path: x, cluster_id: east}", "east"),
        ("{name: a, type: cluster, path: x}", "a"),
        ("{name: a, type: cluster, path: x, cluster_id: east}", "east"),
    ],
)
def test_only_a_cluster_gives_its_name_to_endpoints(entry: str, cluster_id: str) -> None:
    """The same machine in two folders stays one endpoint; that of two clusters are two."""
    settings = decode_settings(f"registries: [{entry}]".encode(), FILE, load)

    assert settings.registries[0].context.cluster_id == cluster_id


def test_every_problem_of_a_file_is_told_at_once_with_its_line() -> None:
    """A wrong registry does not hide what is wrong in the next one or in another section."""
    found = problems_of(
        """registries:
- name: a
  type: shelf
  pth: x
- name: b
  type: shelv
- name: c
  type: shelf
  path: x
  require: true
  sync_timeout: fast
  host_template: "{name}"
- just text
lissten: {}
mesh:
  rootNamespac: x
push:
  in_flight: lots
"""
    )

    assert found == [
        "2 registries[0].path: required",
        "4 registries[0].pth: unknown field 'pth'; did you mean 'path'?",
        "6 registries[1].type: unknown registry type 'shelv'",
        "10 registries[2].require: unknown field 'require'; did you mean 'required'?",
        "11 registries[2].sync_timeout: "
        "expected a duration such as 5s, 1.5s, 100ms or 1h30m, found 'fast'",
        "12 registries[2].host_template: a registry of type 'shelf' tells whole host names",
        "13 registries[3]: expected an object, found 'just text'",
        "14 lissten: unknown field 'lissten'; did you mean 'listen'?",
        "16 mesh.rootNamespac: unknown field 'rootNamespac'; did you mean 'rootNamespace'?",
        "18 push.in_flight: expected a size such as 48MiB or 64KiB, found 'lots'",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 : expected one YAML document, found 0"),
        ("registries: [", "did not find expected node content"),
        ("registries: []", "registries: expected at least 1 in the list"),
        ("{}", "1 registries: required"),
        ("registries: 3", "1 registries: expected a list, found 3"),
        ("registries: [{type: shelf, path: x}]", "1 registries[0].name: required"),
        ("registries: [{name: a}]", "1 registries[0].type: required"),
        ("registries: [{name: a, type: 3}]", "1 registries[0].type: expected text, found 3"),
        (
            "registries: [{name: a/b, type: shelf, path: x}]",
            "registries[0].name: expected text that matches",
        ),
        (
            "registries:\n- {name: a, type: shelf, path: x}\n- {name: a, type: shelf, path: y}",
            "3 registries[1].name: another registry is named 'a'",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_reason(text: str, message: str) -> None:
    """What is not understood is never guessed."""
    assert any(message in each for each in problems_of(text))


def test_mesh_fields_that_nothing_reads_are_accepted_with_a_warning() -> None:
    """A mesh's settings can be brought along, and nobody is told that all of it works."""
    settings = decode_settings(
        b"""
registries: [{name: vms, type: shelf, path: x}]
mesh:
  trustDomain: example.com
  defaultConfig: {concurrency: 2, drainDuration: 5s}
""",
        FILE,
        load,
    )

    assert settings.mesh.default_config.drain_duration == 5.0
    assert [f"{each.origin.line} {each.path}" for each in settings.warnings] == [
        "4 mesh.trustDomain",
        "5 mesh.defaultConfig.concurrency",
    ]


def test_mesh_values_that_envoy_would_refuse_are_refused() -> None:
    """Before a proxy is sent them."""
    text = "registries: [{name: vms, type: shelf, path: x}]\nmesh: {proxyListenPort: 70000}\n"

    assert problems_of(text) == [
        "2 mesh.proxyListenPort: expected a port from 1 to 65535, found 70000"
    ]


def test_networks_are_read_under_istios_names() -> None:
    """A MeshNetworks can be brought along."""
    settings = decode_settings(
        b"""
registries: [{name: a, type: shelf, path: x}]
networks:
  net1: {endpoints: [{fromCidr: 10.0.0.0/8}], gateways: [{address: 1.2.3.4, port: 15443}]}
""",
        FILE,
        load,
    )

    assert settings.warnings == ()
    assert settings.networks["net1"].gateways[0].port == 15443


def test_what_is_wrong_with_a_network_is_told() -> None:
    """A range that nothing can be in, or a gateway that nobody can dial, helps nobody."""
    text = """registries: [{name: a, type: shelf, path: x}]
networks:
  net1:
    endpoints: [{fromCidr: 10.0.0.0/40}, {}]
    gateways: [{address: 1.2.3, port: 15443}, {address: 1.2.3.4, locality: a/b/c/d}]
"""
    assert problems_of(text) == [
        "4 networks.net1.endpoints[0].fromCidr: expected an IP address or range such as "
        "10.0.0.0/8, found '10.0.0.0/40'",
        "4 networks.net1.endpoints[1]: expected one of fromCidr and fromRegistry",
        "5 networks.net1.gateways[0].address: expected an IP address, found '1.2.3'",
        "5 networks.net1.gateways[1].locality: expected region/zone/subzone, found 'a/b/c/d'",
        "5 networks.net1.gateways[1].port: expected a port from 1 to 65535, found 0",
    ]


def test_a_network_of_a_registry_that_is_not_there_is_warned_of() -> None:
    """It would have no endpoints; the rest of the file is right all the same."""
    settings = decode_settings(
        b"""
registries: [{name: a, type: shelf, path: x, cluster_id: east}]
networks:
  net1: {endpoints: [{fromRegistry: a}, {fromRegistry: east}, {fromRegistry: aest}]}
""",
        FILE,
        load,
    )

    assert [str(each) for each in settings.warnings] == [
        f"{FILE}:4: networks.net1.endpoints[2].fromRegistry: no registry or cluster is named 'aest'"
    ]


def test_registries_share_hosts_as_the_file_says() -> None:
    """The migration from one registry to another is an edit of this."""
    settings = decode_settings(
        b"""
registries: [{name: consul, type: shelf, path: x}, {name: k8s, type: shelf, path: y}]
merge:
- {hosts: ["*.shop.mesh"], policy: weights, weights: {consul: 90, k8s: 10}}
- {hosts: ["*"], policy: failover, registries: [k8s]}
""",
        FILE,
        load,
    )

    assert settings.merge == (
        MergeRule(("*.shop.mesh",), MergeMode.WEIGHTS, (), (("consul", 90), ("k8s", 10))),
        MergeRule(("*",), MergeMode.FAILOVER, ("k8s",)),
    )


def test_what_is_wrong_with_sharing_is_told() -> None:
    """A name that is misspelt would take its share of the traffic with it."""
    text = """registries: [{name: consul, type: shelf, path: x}]
merge:
- {hosts: ["*.shop.mesh"], policy: weights, weights: {consul: 90, k8s: 5}}
- {hosts: ["a b"], policy: union, registries: [consul, consul]}
- {hosts: ["*"], policy: priority, weights: {consul: 100}}
"""
    assert problems_of(text) == [
        "3 merge[0].weights: expected 100 percent in all, found 95",
        "3 merge[0].weights.k8s: no registry is named 'k8s'; known are consul",
        "4 merge[1].hosts[0]: 'a b' is no host name: the part 'a b' is not allowed",
        "4 merge[1].registries: a registry is named twice",
        "4 merge[1].registries: policy union has no order",
        "5 merge[2].weights: policy priority has no weights",
    ]


def test_a_missing_file_is_one_clear_problem(tmp_path: Path) -> None:
    """The operator sees the path and why it cannot be read, not a traceback."""
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path / "absent.yaml", load)

    assert str(caught.value) == (
        f"{tmp_path}/absent.yaml: cannot be read: No such file or directory"
    )


def test_a_folder_alone_is_a_whole_mesh(tmp_path: Path) -> None:
    """Without a settings file everything has its default."""
    settings = embedded_settings(tmp_path, load)

    (registry,) = settings.registries
    assert (registry.name, registry.type, registry.required) == ("files", "files", True)
    assert registry.adapter == ShelfSettings(str(tmp_path))
    assert settings.listen.grpc == Address("127.0.0.1:15010")
    assert settings.listen.http == Address("127.0.0.1:15014")
    assert settings.file is None


@pytest.mark.parametrize(("name", "message"), [("absent", "does not exist"), ("file", "no folder")])
def test_the_folder_must_be_there(tmp_path: Path, name: str, message: str) -> None:
    """A typing error does not start an empty mesh."""
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match=message):
        embedded_settings(tmp_path / name, load)


def test_the_command_line_overrides_the_addresses(tmp_path: Path) -> None:
    """Only what was given is replaced."""
    settings = embedded_settings(tmp_path, load)

    changed = override(settings, grpc=Address("127.0.0.1:1"), http=None)

    assert changed.listen.grpc == "127.0.0.1:1"
    assert changed.listen.http == "127.0.0.1:15014"


def test_what_is_said_is_handled_as_the_registry_s_entry_says() -> None:
    """Guard, grace and mapping are keys of every registry."""
    settings = decode_settings(
        b"""
registries:
- name: vms
  type: shelf
  path: a
  deletion_grace: 2m
  guard: {share: 0.2, floor: 5, hold: 10s, confirm: 1s}
  mapping:
    host: "{service}.{namespace}.svc.cluster.local"
    include: [{namespace: shop, labels: {team: "a*"}}]
    exclude: [{host: "*.internal"}]
    addresses: {include: [10.0.0.0/8]}
    labels: {rename: {ver: version}, drop: ["x-*"]}
    ports: {policy: fixed, number: 8080}
""",
        FILE,
        load,
    )

    (registry,) = settings.registries
    assert registry.handling == Handling(
        MappingRules(
            host="{service}.{namespace}.svc.cluster.local",
            include=(ServiceFilter(namespace="shop", labels={"team": "a*"}),),
            exclude=(ServiceFilter(host="*.internal"),),
            addresses=AddressFilter(include=("10.0.0.0/8",)),
            labels=LabelRules({"ver": "version"}, ("x-*",)),
            ports=PortRules(PortPolicy.FIXED, 8080),
        ),
        GuardSettings(share=0.2, floor=5, hold=Duration(10), confirm=Duration(1)),
        120.0,
    )


@pytest.mark.parametrize(("kind", "grace"), [("shelf", 0.0), ("namer", ABSENCE_GRACE)])
def test_grace_is_for_registries_that_do_not_tell_deletions(kind: str, grace: float) -> None:
    """Where a deletion is told there is nothing to wait for."""
    text = f"registries: [{{name: a, type: {kind}, path: x}}]"

    (registry,) = decode_settings(text.encode(), FILE, load).registries

    assert registry.handling == Handling(deletion_grace=grace)


def test_mapping_rules_are_checked_with_their_place() -> None:
    """A rule that can never work is no rule."""
    assert problems_of(
        """
registries:
- name: a
  type: shelf
  path: x
  guard: {share: 1.5}
- name: b
  type: shelf
  path: x
  mapping:
    host: "{svc}.mesh"
    addresses: {exclude: [10.0.0.0/8, ten]}
    labels: {rename: {a: "b c"}}
    ports: {policy: fixed}
- {name: c, type: shelf, path: x, mapping: {ports: {number: 80}, includes: []}}
"""
    ) == [
        "6 registries[0].guard.share: expected a number from 0 to 1, found 1.5",
        "11 registries[1].mapping.host: unknown placeholder {svc}; known: {service}, {namespace}, "
        "{host}, {registry}, {cluster_id}, {domain}",
        "12 registries[1].mapping.addresses.exclude[1]: expected a range such as 10.0.0.0/8, "
        "found 'ten'",
        "13 registries[1].mapping.labels.rename.a: 'b c' cannot be the name of a label",
        "14 registries[1].mapping.ports.number: required for the policy `fixed`",
        "15 registries[2].mapping.includes: unknown field 'includes'; did you mean 'include'?",
    ]
