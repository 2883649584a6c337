"""Tests of config.derive."""

import pytest
from msgspec import structs

from aggregator.model.registry import RegistryContext, ServiceItem
from aggregator.model.service import (
    Endpoint,
    Locality,
    Port,
    Protocol,
    Resolution,
    TrafficDistribution,
    Workload,
)
from config.core.service import TRAFFIC_DISTRIBUTION
from config.derive import derive_services, derive_workload
from config.mesh import MeshConfig
from tests.support.documents import CONTEXT, load

PORT = "ports: [{number: 80, name: http, protocol: HTTP}]"


def services(
    spec: str, context: RegistryContext = CONTEXT, mesh: MeshConfig | None = None
) -> tuple[ServiceItem, ...]:
    """What a valid ServiceEntry amounts to."""
    return derive_services(load("ServiceEntry", spec).config, context, mesh or MeshConfig())


def workload(spec: str, context: RegistryContext = CONTEXT) -> Workload:
    """What a valid WorkloadEntry amounts to."""
    return derive_workload(load("WorkloadEntry", spec, name="vm1").config, context)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("PreferClose", TrafficDistribution.PREFER_SAME_ZONE),
        ("preferSameNode", TrafficDistribution.PREFER_SAME_NODE),
        ("elsewhere", TrafficDistribution.ANY),
    ],
)
def test_an_entry_may_prefer_near_endpoints(told: str, expected: TrafficDistribution) -> None:
    """By the annotation that Services have too."""
    annotations = ((TRAFFIC_DISTRIBUTION, told),)
    entry = load("ServiceEntry", f"{{hosts: [a.b], {PORT}, resolution: STATIC}}").config
    (item,) = derive_services(
        structs.replace(entry, annotations=annotations), CONTEXT, MeshConfig()
    )

    assert item.service is not None
    assert item.service.traffic_distribution is expected


def test_every_host_is_a_service_with_the_same_ports_and_endpoints() -> None:
    """All fields land in the model."""
    found = services(
        """
        hosts: [a.mesh, b.mesh, a.mesh]
        addresses: [240.0.0.1]
        location: MESH_INTERNAL
        resolution: STATIC
        ports: [{number: 80, name: http, protocol: http2, targetPort: 8080}]
        endpoints:
        - {address: 10.0.0.1, ports: {http: 9}, labels: {v: "1"}, network: n, locality: r/z/s,
           weight: 3, serviceAccount: me}
        exportTo: [., x]
        subjectAltNames: [spiffe://y]
        """
    )

    assert [item.host for item in found] == ["a.mesh", "b.mesh"]
    for item in found:
        service = item.service
        assert service is not None
        assert (service.host, service.namespace) == (item.host, item.namespace)
        assert item.namespace == "shop"
        assert service.ports == (Port(80, "http", Protocol.HTTP2, 8080),)
        assert service.addresses == ("240.0.0.1",)
        assert service.resolution is Resolution.STATIC
        assert not service.mesh_external
        assert service.export_to == (".", "x")
        assert service.subject_alt_names == ("spiffe://y",)
        assert service.registries == ("vms",)
        assert service.origin.source == "rules.yaml"
        assert item.endpoints == (
            Endpoint(
                "10.0.0.1",
                (("http", 9),),
                (("v", "1"),),
                Locality("r", "z", "s"),
                "n",
                "c1",
                3,
                service_account="me",
                registry="vms",
            ),
        )


def test_a_service_is_outside_the_mesh_unless_said_otherwise() -> None:
    """ServiceEntry's default."""
    (item,) = services(f"{{hosts: [a.b], {PORT}}}")

    assert item.service is not None
    assert item.service.mesh_external
    assert item.service.resolution is Resolution.NONE


@pytest.mark.parametrize(
    ("rest", "addresses"),
    [
        ("resolution: DNS", ["a.b"]),
        ("resolution: DNS_ROUND_ROBIN", ["a.b"]),
        ("resolution: DNS, endpoints: [{address: c.d}, {address: 10.0.0.1}]", ["c.d", "10.0.0.1"]),
        ("resolution: NONE", []),
        ("resolution: STATIC", []),
        ("resolution: STATIC, endpoints: [{address: 'unix:///run/x'}]", ["/run/x"]),
        ("resolution: STATIC, endpoints: [{network: far}, {address: 10.0.0.1}]", ["", "10.0.0.1"]),
        ("resolution: DNS, workloadSelector: {labels: {a: b}}", []),
    ],
)
def test_endpoints_follow_the_resolution(rest: str, addresses: list[str]) -> None:
    """A name that is resolved is its own endpoint where none is given."""
    (item,) = services(f"{{hosts: [a.b], {PORT}, {rest}}}")

    assert [endpoint.address for endpoint in item.endpoints] == addresses


def test_a_wildcard_that_is_resolved_per_request_has_no_endpoint() -> None:
    """There is no one name."""
    (item,) = services(f"{{hosts: ['*.b.c'], {PORT}, resolution: DYNAMIC_DNS}}")

    assert item.endpoints == ()


def test_the_selector_is_kept_for_the_aggregator() -> None:
    """It picks from workloads of all registries."""
    selector = "workloadSelector: {labels: {b: x, a: y}}"
    (item,) = services(f"{{hosts: [a.b], {PORT}, resolution: STATIC, {selector}}}")

    assert item.service is not None
    assert item.service.selector == (("a", "y"), ("b", "x"))


@pytest.mark.parametrize(
    ("own", "registry", "mesh", "expected"),
    [
        ("exportTo: [a],", ("b",), ("c",), ("a",)),
        ("", ("b",), ("c",), ("b",)),
        ("", ("*",), ("c",), ("c",)),
        ("", ("*",), ("*",), ("*",)),
    ],
)
def test_scope_is_the_rules_then_the_registrys_then_the_meshs(
    own: str, registry: tuple[str, ...], mesh: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    """The nearest word counts."""
    (item,) = services(
        f"{{hosts: [a.b], {own} {PORT}}}",
        structs.replace(CONTEXT, export_to=registry),
        MeshConfig(default_service_export_to=mesh),
    )

    assert item.service is not None
    assert item.service.export_to == expected


@pytest.mark.parametrize(
    ("port", "protocol"),
    [
        ("{number: 1, name: http-x, protocol: TCP}", Protocol.TCP),
        ("{number: 1, name: http-x}", Protocol.HTTP),
        ("{number: 1, name: x}", Protocol.MYSQL),
    ],
)
def test_a_port_without_protocol_is_read_by_its_name(port: str, protocol: Protocol) -> None:
    """Then the registry's word counts."""
    context = structs.replace(CONTEXT, protocol="mysql")
    (item,) = services(f"{{hosts: [a.b], addresses: [10.0.0.1], ports: [{port}]}}", context)

    assert item.service is not None
    assert item.service.ports[0].protocol is protocol


def test_an_entry_becomes_a_workload() -> None:
    """With the name and place of the object."""
    found = workload("{address: 10.0.0.1, ports: {http: 8080}, labels: {app: x}, weight: 2}")

    assert (found.name, found.namespace) == ("vm1", "shop")
    assert found.origin.source == "rules.yaml"
    assert found.endpoint == Endpoint(
        "10.0.0.1",
        (("http", 8080),),
        (("app", "x"),),
        cluster_id="c1",
        weight=2,
        registry="vms",
    )


@pytest.mark.parametrize(
    ("spec", "locality", "network"),
    [
        ("locality: a/b, network: n, labels: {istio-locality: c.d, topology.istio.io/network: m}",
         Locality("a", "b"), "n"),
        ("labels: {topology.istio.io/locality: c.d.e, topology.istio.io/network: m}",
         Locality("c", "d", "e"), "m"),
        ("labels: {istio-locality: c.d}", Locality("c", "d"), "registry"),
        ("labels: {}", Locality("x", "y"), "registry"),
    ],
)  # fmt: skip
def test_place_is_the_fields_then_the_labels_then_the_registrys(
    spec: str, locality: Locality, network: str
) -> None:
    """In labels dots stand for slashes."""
    context = structs.replace(CONTEXT, locality="x/y", network="registry")
    found = workload(f"{{address: 10.0.0.1, {spec}}}", context)

    assert found.endpoint.locality == locality
    assert found.endpoint.network == network


def test_an_entry_without_weight_counts_once() -> None:
    """0 is how the API says that none was given."""
    assert workload("{address: 10.0.0.1}").endpoint.weight == 1
    assert workload("{address: 10.0.0.1, weight: 0}").endpoint.weight == 1
