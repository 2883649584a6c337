"""Tests of config.core.service and config.core.metadata."""

import pytest
from msgspec import structs

from aggregator.model.registry import ServiceItem
from aggregator.model.service import (
    Endpoint,
    Locality,
    Port,
    Protocol,
    Resolution,
    Service,
    TrafficDistribution,
)
from config.core.metadata import ObjectMeta
from config.core.service import CoreService, CoreServicePort, CoreServiceSpec, service_doubts
from tests.support.documents import CONTEXT, item_faults, items

HEAD = """\
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop, creationTimestamp: "2026-01-01T00:00:10Z",
  labels: {app: reviews}, uid: x, managedFields: []}
"""


def item(spec: str, head: str = HEAD) -> ServiceItem:
    """The item of a Service with this spec."""
    (only,) = items(f"{head}spec: {spec}\nstatus: {{loadBalancer: {{}}}}\n").services
    return only


def service(spec: str, head: str = HEAD) -> Service:
    """The definition."""
    found = item(spec, head).service
    assert found is not None
    return found


def test_a_service_is_known_by_kubernetes_name() -> None:
    """Name, namespace and domain make the host; the rest follows the object."""
    found = service(
        "{clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, 'fd00::1'], selector: {app: reviews},"
        " ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30000}],"
        " publishNotReadyAddresses: true, sessionAffinity: None}"
    )

    assert (found.host, found.namespace) == ("reviews.shop.svc.cluster.local", "shop")
    assert found.ports == (Port(80, "http", Protocol.HTTP, 8080),)
    assert found.addresses == ("10.96.0.1", "fd00::1")
    assert found.resolution is Resolution.STATIC
    assert found.labels == (("app", "reviews"),)
    assert found.selector == (("app", "reviews"),)
    assert found.created == 1767225610
    assert found.publish_not_ready
    assert not found.headless
    assert not found.mesh_external
    assert found.export_to == ("*",)
    assert found.registries == ("vms",)
    assert (found.origin.source, found.origin.line) == ("rules.yaml", 1)


def test_domain_and_namespace_come_from_the_registry_where_the_object_does_not_say() -> None:
    """Files often leave the namespace out."""
    context = structs.replace(CONTEXT, namespace="vms", domain="mesh.local", export_to=("x",))
    text = "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 1}]}}"
    (only,) = items(text, context).services

    assert only.host == "a.vms.svc.mesh.local"
    assert only.service is not None
    assert only.service.export_to == ("x",)


def test_headless_services_have_no_address() -> None:
    """``None`` is a word here, not a value."""
    for spec in ("{clusterIP: None}", "{clusterIP: None, clusterIPs: [None]}"):
        found = service(spec)
        assert found.headless
        assert found.addresses == ()


def test_an_external_name_is_resolved_by_envoy() -> None:
    """It is outside the mesh, and its own endpoint."""
    found = item("{type: ExternalName, externalName: db.example.com., ports: [{port: 5432}]}")

    assert found.service is not None
    assert found.service.resolution is Resolution.DNS
    assert found.service.mesh_external
    assert found.endpoints == (
        Endpoint("db.example.com", cluster_id="c1", registry="vms", locality=Locality()),
    )


@pytest.mark.parametrize(
    ("port", "protocol"),
    [
        ("{port: 1}", Protocol.TCP),
        ("{port: 1, name: grpc-web-x}", Protocol.GRPC_WEB),
        ("{port: 1, name: http}", Protocol.HTTP),
        ("{port: 1, name: httpx}", Protocol.TCP),
        ("{port: 1, name: http, appProtocol: tcp}", Protocol.TCP),
        ("{port: 1, name: http, appProtocol: kubernetes.io/h2c}", Protocol.HTTP2),
        ("{port: 1, name: http, appProtocol: example.com/mine}", Protocol.HTTP),
        ("{port: 1, name: http, protocol: UDP}", Protocol.UDP),
        ("{port: 1, name: http, protocol: SCTP, appProtocol: http}", Protocol.UDP),
    ],
)
def test_the_protocol_is_the_applications_then_the_names(port: str, protocol: Protocol) -> None:
    """Datagram ports are kept, so that nothing is sent to them as TCP."""
    assert service(f"{{ports: [{port}]}}").ports[0].protocol is protocol


def test_the_registrys_protocol_stands_in_for_ports_that_say_nothing() -> None:
    """A registry whose services all speak HTTP need not name its ports."""
    text = f"{HEAD}spec: {{ports: [{{port: 1, name: x}}]}}\n"
    (only,) = items(text, structs.replace(CONTEXT, protocol="http")).services

    assert only.service is not None
    assert only.service.ports[0].protocol is Protocol.HTTP


def test_a_named_target_port_is_the_one_of_that_name() -> None:
    """Slices tell it by the Service's name for it; machines that join may tell it by the target's,
    and one that has neither does not serve the port.
    """
    (port,) = service("{ports: [{port: 80, name: http, targetPort: web}]}").ports

    assert port == Port(80, "http", Protocol.HTTP, target_name="web")
    assert Endpoint("10.0.0.1", (("http", 8080),)).port_number(port) == 8080
    assert Endpoint("10.0.0.1", (("web", 9080),)).port_number(port) == 9080
    assert Endpoint("10.0.0.1").port_number(port) == 0


def test_the_annotation_says_who_may_see_it() -> None:
    """Istio's way to export a Service."""
    head = HEAD.replace(
        "uid: x", 'annotations: {networking.istio.io/exportTo: " ., other ,"}, uid: x'
    )

    assert service("{}", head).export_to == (".", "other")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("{ports: [{port: 0}]}", [(5, "spec.ports[0].port")]),
        ("{ports: [{}]}", [(5, "spec.ports[0].port")]),
        ("{ports: [{port: web}]}", [(5, "spec.ports[0].port")]),
        ("{ports: [{port: 1, targetPort: 70000}]}", [(5, "spec.ports[0].targetPort")]),
        ("{ports: [{port: 1, name: a}, {port: 2}]}", [(5, "spec.ports[1].name")]),
        ("{ports: [{port: 1, name: a}, {port: 1, name: b}]}", [(5, "spec.ports[1].port")]),
        ("{ports: [{port: 1, name: a}, {port: 1, name: b, protocol: UDP}]}", []),
        ("{clusterIP: x}", [(5, "spec.clusterIP")]),
        ("{clusterIPs: [10.0.0.1, x]}", [(5, "spec.clusterIPs[1]")]),
        ("{type: ExternalName}", [(5, "spec.externalName")]),
        ("[]", [(5, "spec")]),
    ],
)
def test_what_the_api_server_would_refuse_is_refused_in_files(
    spec: str, expected: list[tuple[int, str]]
) -> None:
    """Nobody else has checked them."""
    assert item_faults(f"{HEAD}spec: {spec}\n") == expected


def test_a_service_needs_a_name() -> None:
    """Its host is made of it."""
    assert item_faults("{apiVersion: v1, kind: Service, metadata: {}}") == [(1, "metadata.name")]
    assert item_faults("{apiVersion: v1, kind: Service}") == [(1, "metadata")]


@pytest.mark.parametrize(
    ("annotations", "field", "expected"),
    [
        ("", "", TrafficDistribution.ANY),
        ("", "PreferClose", TrafficDistribution.PREFER_SAME_ZONE),
        ("", "PreferSameNode", TrafficDistribution.PREFER_SAME_NODE),
        ("", "PreferNothingKnown", TrafficDistribution.ANY),
        ("networking.istio.io/traffic-distribution: PreferClose", "PreferSameNode",
         TrafficDistribution.PREFER_SAME_NODE),
        ("networking.istio.io/traffic-distribution: PreferClose", "PreferNothingKnown",
         TrafficDistribution.PREFER_SAME_ZONE),
        ("networking.istio.io/traffic-distribution: preferclose", "",
         TrafficDistribution.PREFER_SAME_ZONE),
        ("service.kubernetes.io/topology-mode: Auto", "", TrafficDistribution.PREFER_SAME_ZONE),
        ("service.kubernetes.io/topology-mode: Disabled", "", TrafficDistribution.ANY),
    ],
)  # fmt: skip
def test_near_endpoints_are_asked_for_in_several_ways(
    annotations: str, field: str, expected: TrafficDistribution
) -> None:
    """The field counts before Istio's annotation, as in Istio, and the oldest way last."""
    text = f"""\
apiVersion: v1
kind: Service
metadata: {{name: a, namespace: shop, annotations: {{{annotations}}}}}
spec: {{ports: [{{port: 80}}], trafficDistribution: {field or '""'}}}
"""
    (only,) = items(text).services

    assert only.service is not None
    assert only.service.traffic_distribution is expected


def test_addresses_from_outside_are_told() -> None:
    """Load balancers by address or name, then addresses that the Service lists."""
    (only,) = items(
        """\
apiVersion: v1
kind: Service
metadata: {name: a, namespace: shop}
spec: {type: LoadBalancer, ports: [{port: 80}], externalIPs: [192.0.2.2, 192.0.2.1]}
status: {loadBalancer: {ingress: [{ip: 192.0.2.1}, {hostname: lb.example.com}]}}
"""
    ).services

    assert only.service is not None
    assert only.service.external_addresses == ("192.0.2.1", "lb.example.com", "192.0.2.2")


@pytest.mark.parametrize(
    ("exported", "doubt"),
    [
        ("", ""),
        ("shop, .", "'.' is there already"),
        ("shop,web", ""),
        ("~", ""),
        ("shop;web", "expected a namespace, '.' or '*', found 'shop;web'"),
        ("*,shop", "'*' exports to everyone and must stand alone"),
    ],
)
def test_whom_a_service_is_exported_to_is_checked(exported: str, doubt: str) -> None:
    """A slip there makes it invisible, for which nobody would see a reason."""
    annotations = {"networking.istio.io/exportTo": exported}
    metadata = ObjectMeta("a", "shop", annotations=annotations)
    spec = CoreServiceSpec(ports=(CoreServicePort(80),))

    found = service_doubts(CoreService(metadata, spec))

    assert doubt in found
    assert bool(found) is bool(doubt)
    head = HEAD.replace("uid: x", f"annotations: {{networking.istio.io/exportTo: '{exported}'}}")
    faults = item_faults(f"{head}spec: {{ports: [{{port: 80}}]}}\n")
    assert bool(faults) is bool(doubt)


def test_a_service_without_a_namespace_may_be_exported_to_its_own() -> None:
    """Which one that is, the registry's default tells."""
    head = "apiVersion: v1\nkind: Service\nmetadata: {name: a, annotations: "
    exported = f"{head}{{networking.istio.io/exportTo: .}}}}\nspec: {{ports: [{{port: 80}}]}}\n"

    assert item_faults(exported) == []
