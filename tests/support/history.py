"""Random histories of a small mesh, for properties that must hold whatever happened before.

The names are few, so that services, rules and proxies meet, contradict and leave each other.
"""

from collections.abc import Mapping
from typing import Any, Final

from hypothesis import strategies as st
from msgspec import Struct, structs

from aggregator.model.change import Change
from aggregator.model.config import Config, ConfigKey
from aggregator.model.errors import Severity
from aggregator.model.policy import UNION, MergeMode, MergePolicy
from aggregator.model.proxy import Proxy
from aggregator.model.registry import NetworkGateway
from aggregator.model.service import (
    Endpoint,
    Health,
    Locality,
    Service,
    ServiceKey,
    TrafficDistribution,
    labels_of,
)
from config.kind_table import kinds
from config.kinds.destination_rule import DestinationRule
from config.kinds.sidecar import Sidecar
from config.kinds.virtual_service import VirtualService
from config.mesh import (
    MeshConfig,
    MeshOutboundTrafficMode,
    MeshOutboundTrafficPolicy,
    ServiceScope,
    ServiceSetting,
)
from config.traffic_policy import LocalityLoadBalancerSetting
from tests.support.builders import endpoint, port, rule, service
from tests.support.mesh import MemorySource

NAMESPACES: Final = ("shop", "bank", "istio-system")
KEYS: Final = (
    ServiceKey("shop", "a.shop.svc.cluster.local"),
    ServiceKey("shop", "b.shop.svc.cluster.local"),
    ServiceKey("bank", "a.bank.svc.cluster.local"),
    ServiceKey("shop", "api.example.com"),
    ServiceKey("bank", "api.example.com"),
    ServiceKey("bank", "*.wild.example.com"),
)
HOSTS: Final = tuple(dict.fromkeys(key.host for key in KEYS))
RULE_HOSTS: Final = (*HOSTS, "a", "b.shop", "*.shop.svc.cluster.local", "*.example.com", "no.such")
PORTS: Final = (
    port(80, "HTTP"),
    port(8080, "GRPC"),
    port(443, "TLS"),
    port(9000, "TCP"),
    port(80, "TCP", "also-80"),
)
ADDRESSES: Final = ("10.9.0.1", "10.9.0.2", "10.8.0.0/16")
EXPORTS: Final[tuple[tuple[str, ...], ...]] = ((), ("*",), (".",), ("bank",), ("~",))
OWNERS: Final = (
    (),
    (("east", ADDRESSES[:1]),),
    (("east", ADDRESSES[:1]), ("west", ADDRESSES[1:2])),
    (("west", ADDRESSES[:2]), ("east", ADDRESSES[1:2])),
)
POLICIES: Final = (
    UNION,
    MergePolicy(MergeMode.PRIORITY, ("west", "east")),
    MergePolicy(MergeMode.FAILOVER, ("east", "west")),
    MergePolicy(MergeMode.WEIGHTS, shares=(("east", 90), ("west", 10))),
)
GATEWAYS: Final[tuple[tuple[NetworkGateway, ...], ...]] = (
    (),
    (NetworkGateway("net2", "192.0.2.1", 15443),),
    (
        NetworkGateway("net2", "192.0.2.1", 15443, "east"),
        NetworkGateway("net2", "2001:db8::1", 15443),
    ),
)
LABELS: Final[tuple[Mapping[str, str], ...]] = ({}, {"app": "x"}, {"app": "y", "rack": "1"})


class PutService(Struct, frozen=True):
    """A service appears or changes, with its endpoints."""

    service: Service
    endpoints: tuple[Endpoint, ...]


class PutEndpoints(Struct, frozen=True):
    """Only endpoints change."""

    key: ServiceKey
    endpoints: tuple[Endpoint, ...]


class RemoveService(Struct, frozen=True):
    """A service goes away."""

    key: ServiceKey


class PutConfig(Struct, frozen=True):
    """A rule appears or changes."""

    config: Config


class RemoveConfig(Struct, frozen=True):
    """A rule goes away."""

    key: ConfigKey


class AmendService(Struct, frozen=True):
    """One field of a service changes."""

    key: ServiceKey
    field: str
    value: Any


class ExportConfig(Struct, frozen=True):
    """Nothing but a rule's `exportTo` changes."""

    key: ConfigKey
    export_to: tuple[str, ...]


class PutPolicy(Struct, frozen=True):
    """Registries share a service otherwise."""

    key: ServiceKey
    policy: MergePolicy


class PutGateways(Struct, frozen=True):
    """A network gets other gateways."""

    network: str
    gateways: tuple[NetworkGateway, ...]


Step = (
    PutService
    | PutEndpoints
    | RemoveService
    | AmendService
    | PutConfig
    | RemoveConfig
    | ExportConfig
    | PutPolicy
    | PutGateways
)


def play(step: Step, source: MemorySource) -> list[Change]:
    """Make the change in *source*; none if there is nothing to change."""
    match step:
        case PutService(made, endpoints):
            return [source.put_service(made, *endpoints)]
        case PutEndpoints(key, endpoints):
            return [source.put_endpoints(key, *endpoints)] if key in source.services else []
        case RemoveService(key):
            return [source.remove_service(key)] if key in source.services else []
        case PutConfig(config):
            return [source.put_config(config)]
        case RemoveConfig(key):
            return [source.remove_config(key)] if key in source.configs else []
        case AmendService(key, field, value):
            if key not in source.services:
                return []
            amended = structs.replace(source.services[key], **{field: value})
            return [source.put_service(amended, *source.endpoints(key))]
        case ExportConfig(key, export_to):
            if key not in source.configs:
                return []
            old = source.configs[key]
            spec = structs.replace(old.spec, export_to=export_to)
            return [source.put_config(structs.replace(old, spec=spec))]
        case PutPolicy(key, policy):
            return [source.put_policy(key, policy)] if key in source.services else []
        case PutGateways(network, gateways):
            own = (structs.replace(each, network=network) for each in gateways)
            return [source.put_gateways(network, *own)]


def endpoints() -> st.SearchStrategy[tuple[Endpoint, ...]]:
    """Up to three endpoints in different places and conditions."""
    one = st.builds(
        _of_registry,
        st.sampled_from(["east", "west"]),
        st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"]),
        labels=st.sampled_from([{}, {"version": "v1"}, {"version": "v2"}]),
        locality=st.sampled_from(["", "eu/eu-1/a", "eu/eu-2", "us/us-1"]),
        weight=st.sampled_from([1, 1, 3, 0]),
        health=st.sampled_from([Health.READY, Health.READY, Health.NOT_READY]),
        network=st.sampled_from(["", "net1", "net2"]),
        cluster_id=st.sampled_from(["", "east"]),
    )
    return st.lists(one, max_size=3, unique_by=lambda each: each.address).map(tuple)


def _of_registry(registry: str, address: str, **more: Any) -> Endpoint:
    return structs.replace(endpoint(address, **more), registry=registry)


@st.composite
def services(draw: st.DrawFn) -> Service:
    """A service under one of the few names."""
    key = draw(st.sampled_from(KEYS))
    ports = draw(st.lists(st.sampled_from(PORTS), min_size=1, max_size=3, unique_by=_number))
    resolution = "STATIC" if key.host.endswith(".local") else draw(st.sampled_from(_RESOLUTIONS))
    return service(
        key.host,
        *ports,
        namespace=key.namespace,
        resolution="NONE" if key.host.startswith("*") else resolution,
        addresses=draw(st.lists(st.sampled_from(ADDRESSES), max_size=2, unique=True)),
        export_to=draw(st.sampled_from(EXPORTS)) or ("*",),
        headless=draw(st.booleans()),
        created=draw(st.sampled_from([0.0, 1.0, 2.0])),
        mesh_external=not key.host.endswith(".local"),
    )


_RESOLUTIONS: Final = ("STATIC", "DNS", "DNS_ROUND_ROBIN", "NONE")


def _number(each: Any) -> int:
    number: int = each.number
    return number


def _destinations() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"host": st.sampled_from((*HOSTS[:4], "a", "no.such"))},
        optional={
            "subset": st.sampled_from(["v1", "v2"]),
            "port": st.just({"number": 8080}),
        },
    )


def _sources() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {},
        optional={
            "sourceLabels": st.sampled_from([{"app": "x"}, {"app": "y"}]),
            "sourceNamespace": st.sampled_from(NAMESPACES),
            "port": st.sampled_from([80, 443, 9000]),
        },
    )


@st.composite
def _virtual_service(draw: st.DrawFn) -> dict[str, Any]:
    hosts = draw(st.lists(st.sampled_from(RULE_HOSTS), min_size=1, max_size=2, unique=True))
    http = st.fixed_dictionaries(
        {"route": st.tuples(_destinations().map(lambda to: {"destination": to}))},
        optional={
            "match": st.tuples(
                st.builds(
                    lambda uri, source: {"uri": {"prefix": uri}} | source,
                    st.sampled_from(["/a", "/b"]),
                    _sources(),
                )
            ),
            "timeout": st.sampled_from(["1s", "2s"]),
            "mirror": _destinations(),
        },
    )
    spec: dict[str, Any] = {"hosts": hosts, "http": draw(st.lists(http, max_size=2))}
    if draw(st.booleans()):
        root = {
            "match": [{"uri": {"prefix": "/d"}}],
            "delegate": {"name": "delegate", "namespace": draw(st.sampled_from(NAMESPACES))},
        }
        spec["http"].insert(0, root)
    if draw(st.booleans()):
        spec["tcp"] = [
            {"match": [draw(_sources())], "route": [{"destination": draw(_destinations())}]}
        ]
    if draw(st.booleans()):
        match = {"sniHosts": hosts[:1], "port": 443}
        spec["tls"] = [{"match": [match], "route": [{"destination": draw(_destinations())}]}]
    return spec


_DELEGATE: Final = {
    "http": [
        {
            "match": [{"uri": {"prefix": "/d/more"}}],
            "route": [{"destination": {"host": "b.shop.svc.cluster.local"}}],
        }
    ]
}


@st.composite
def _destination_rule(draw: st.DrawFn) -> dict[str, Any]:
    policy = st.fixed_dictionaries(
        {},
        optional={
            "loadBalancer": st.sampled_from(
                [
                    {"simple": "RANDOM"},
                    {"consistentHash": {"httpHeaderName": "x-user"}},
                    {"simple": "ROUND_ROBIN", "localityLbSetting": {"failoverPriority": ["rack"]}},
                    {"localityLbSetting": {"enabled": False}},
                ]
            ),
            "outlierDetection": st.just({"consecutive5xxErrors": 3}),
            "tls": st.sampled_from([{"mode": "SIMPLE"}, {"mode": "ISTIO_MUTUAL"}]),
            "portLevelSettings": st.just(
                [{"port": {"number": 80}, "connectionPool": {"http": {"maxRetries": 2}}}]
            ),
        },
    )
    subset = st.builds(
        lambda name, over: {"name": name, "labels": {"version": name}, **over},
        st.sampled_from(["v1", "v2"]),
        st.sampled_from([{}, {"trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}}}]),
    )
    spec: dict[str, Any] = {"host": draw(st.sampled_from(RULE_HOSTS))}
    spec["subsets"] = draw(st.lists(subset, max_size=2, unique_by=lambda each: str(each["name"])))
    if draw(st.booleans()):
        spec["trafficPolicy"] = draw(policy)
    if draw(st.integers(0, 3)) == 0:
        spec["workloadSelector"] = {"matchLabels": {"app": "x"}}
    return spec


@st.composite
def _sidecar(draw: st.DrawFn) -> dict[str, Any]:
    hosts = st.lists(
        st.sampled_from(
            [
                "*/*",
                "./*",
                "shop/*",
                "bank/*",
                "*/api.example.com",
                "~/*",
                "./a.shop.svc.cluster.local",
            ]
        ),
        min_size=1,
        max_size=2,
        unique=True,
    )
    listener = st.fixed_dictionaries(
        {"hosts": hosts},
        optional={
            "port": st.sampled_from(
                [
                    {"number": 80, "protocol": "HTTP", "name": "http"},
                    {"number": 9000, "protocol": "TCP", "name": "tcp"},
                    {"number": 3128, "protocol": "HTTP_PROXY", "name": "proxy"},
                ]
            ),
        },
    )
    spec: dict[str, Any] = {"egress": draw(st.lists(listener, min_size=1, max_size=2))}
    if draw(st.booleans()):
        spec["workloadSelector"] = {"labels": {"app": draw(st.sampled_from(["x", "y"]))}}
    if draw(st.booleans()):
        spec["outboundTrafficPolicy"] = {"mode": "REGISTRY_ONLY"}
    if draw(st.booleans()):
        port_of_ours = {"number": 7070, "protocol": "HTTP", "name": "http"}
        spec["ingress"] = [{"port": port_of_ours, "defaultEndpoint": "127.0.0.1:8000"}]
    return spec


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """A valid rule of any kind, under one of few names."""
    of: type[Struct]
    name = draw(st.sampled_from(["one", "two"]))
    kind = draw(st.sampled_from(["route", "route", "delegate", "policy", "policy", "sidecar"]))
    match kind:
        case "route":
            of, spec = VirtualService, draw(_virtual_service())
        case "delegate":
            of, spec, name = VirtualService, dict(_DELEGATE), "delegate"
        case "policy":
            of, spec = DestinationRule, draw(_destination_rule())
        case _:
            of, spec = Sidecar, draw(_sidecar())
    export = draw(st.sampled_from(EXPORTS))
    if export and of is not Sidecar and name != "delegate":
        spec["exportTo"] = list(export)
    return rule(
        of,
        spec,
        name=name,
        namespace=draw(st.sampled_from(NAMESPACES)),
        created=draw(st.sampled_from([0.0, 1.0, 2.0])),
    )


def is_valid(config: Config) -> bool:
    """Whether the registry layer would let it pass."""
    problems = kinds()[config.kind].validate(config)
    return all(problem.severity is not Severity.ERROR for problem in problems)


def steps() -> st.SearchStrategy[Step]:
    """One change of any kind."""
    key = st.builds(
        ConfigKey,
        st.sampled_from(["VirtualService", "DestinationRule", "Sidecar"]),
        st.sampled_from(NAMESPACES),
        st.sampled_from(["one", "two", "delegate"]),
    )
    exported = st.builds(
        ConfigKey,
        st.sampled_from(["VirtualService", "DestinationRule"]),
        st.sampled_from(NAMESPACES),
        st.sampled_from(["one", "two"]),
    )
    amendment = st.sampled_from(
        [
            *(("export_to", each or ("*",)) for each in EXPORTS),
            *(("ports", (each,)) for each in PORTS),
            *(("addresses", each) for each in ((), ADDRESSES[:1], ADDRESSES[1:])),
            *(("created", each) for each in (0.0, 1.0, 2.0)),
            *(("headless", each) for each in (True, False)),
            *(("cluster_addresses", each) for each in OWNERS),
            *(("traffic_distribution", each) for each in TrafficDistribution),
        ]
    )
    put_service = st.builds(PutService, services(), endpoints())
    put_config = st.builds(PutConfig, configs().filter(is_valid))
    return st.one_of(
        put_service,
        put_service,
        put_config,
        put_config,
        st.builds(PutEndpoints, st.sampled_from(KEYS), endpoints()),
        st.builds(RemoveService, st.sampled_from(KEYS)),
        st.builds(RemoveConfig, key),
        st.builds(lambda key, change: AmendService(key, *change), st.sampled_from(KEYS), amendment),
        st.builds(ExportConfig, exported, st.sampled_from(EXPORTS)),
        st.builds(PutPolicy, st.sampled_from(KEYS), st.sampled_from(POLICIES)),
        st.builds(PutGateways, st.sampled_from(["net1", "net2"]), st.sampled_from(GATEWAYS)),
    )


def meshes() -> st.SearchStrategy[MeshConfig]:
    """Mesh settings that differ in what generators read."""
    return st.builds(
        MeshConfig,
        root_namespace=st.sampled_from(["istio-system", "bank"]),
        outbound_traffic_policy=st.sampled_from(
            [MeshOutboundTrafficPolicy(mode) for mode in MeshOutboundTrafficMode]
        ),
        default_virtual_service_export_to=st.sampled_from([("*",), (".",)]),
        default_destination_rule_export_to=st.sampled_from([("*",), (".",)]),
        service_settings=st.sampled_from(
            [(), (ServiceSetting(ServiceScope(cluster_local=True), ("*.shop.svc.cluster.local",)),)]
        ),
        locality_lb_setting=st.sampled_from(
            [
                None,
                LocalityLoadBalancerSetting(enabled=True),
                LocalityLoadBalancerSetting(enabled=True, failover_priority=("rack",)),
            ]
        ),
        proxy_http_port=st.sampled_from([0, 15080]),
        access_log_file=st.sampled_from(["", "/dev/stdout"]),
    )


@st.composite
def proxies(draw: st.DrawFn) -> tuple[Proxy, bool]:
    """A proxy, and whether it takes virtual hosts one by one."""
    namespace = draw(st.sampled_from(NAMESPACES))
    generator = draw(st.sampled_from(["", "", "", "grpc"]))
    return Proxy(
        id=f"proxy-{namespace}",
        kind=draw(st.sampled_from(["sidecar", "sidecar", "router"])),
        namespace=namespace,
        domain=f"{namespace}.svc.cluster.local",
        addresses=draw(st.sampled_from([("10.1.0.1",), ("10.1.0.1", "fd00::1"), ("fd00::1",)])),
        cluster_id=draw(st.sampled_from(["", "east", "west"])),
        network=draw(st.sampled_from(["", "net1"])),
        node_name=draw(st.sampled_from(["", "n1"])),
        locality=Locality.parse(draw(st.sampled_from(["", "eu/eu-1/a", "us"]))),
        labels=labels_of(draw(st.sampled_from(LABELS))),
        generator=generator,
        interception_mode=draw(st.sampled_from(["", "NONE", "TPROXY"])),
    ), not generator and draw(st.booleans())
