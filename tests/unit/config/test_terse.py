"""Tests of config.terse."""

import pytest
from msgspec import structs

from aggregator.model.registry import ServiceItem
from aggregator.model.service import Endpoint, Locality, Port, Protocol, Resolution
from config.terse import is_terse
from tests.support.documents import CONTEXT, document, item_faults, items


def only(text: str) -> ServiceItem:
    """The one service of a text."""
    (item,) = items(text).services
    return item


def test_the_whole_form_is_read() -> None:
    """Every field lands where it belongs."""
    item = only(
        """
        services:
        - host: Reviews.shop.mesh
          namespace: shop
          protocol: HTTP
          ports: [{name: http, number: 9080, protocol: grpc, target_port: 9081}]
          labels: {team: a}
          locality: eu/eu-1
          network: net0
          addresses: [240.0.0.1]
          export_to: [., other]
          endpoints:
          - {address: 10.0.0.1, labels: {version: v1}, locality: eu/eu-2/a, weight: 3,
             network: net1, ports: {http: 19080}}
          - {address: 10.0.0.2, weight: 0}
        """
    )

    assert (item.namespace, item.host) == ("shop", "reviews.shop.mesh")
    service = item.service
    assert service is not None
    assert service.key.host == item.host
    assert service.ports == (Port(9080, "http", Protocol.GRPC, 9081),)
    assert (service.labels, service.addresses) == ((("team", "a"),), ("240.0.0.1",))
    assert (service.export_to, service.registries) == ((".", "other"), ("vms",))
    assert (service.resolution, service.mesh_external) == (Resolution.STATIC, False)
    assert service.origin.source == "rules.yaml"
    assert item.endpoints == (
        Endpoint(
            "10.0.0.1",
            (("http", 19080),),
            (("version", "v1"),),
            Locality("eu", "eu-2", "a"),
            "net1",
            "c1",
            3,
            registry="vms",
        ),
        Endpoint(
            "10.0.0.2",
            locality=Locality("eu", "eu-1"),
            network="net0",
            cluster_id="c1",
            weight=0,
            registry="vms",
        ),
    )


def test_the_registry_fills_in_what_is_not_said() -> None:
    """Namespace, protocol, locality, network and scope."""
    context = structs.replace(
        CONTEXT,
        namespace="vms",
        protocol="http2",
        locality="us/us-1",
        network="n",
        export_to=("x",),
    )
    text = "services: [{host: a.b, ports: [{number: 80}], endpoints: [{address: 10.0.0.1}]}]"
    (item,) = items(text, context).services

    assert item.namespace == "vms"
    assert item.service is not None
    assert item.service.ports == (Port(80, "http2-80", Protocol.HTTP2),)
    assert item.service.export_to == ("x",)
    assert item.endpoints[0].locality == Locality("us", "us-1")
    assert item.endpoints[0].network == "n"


@pytest.mark.parametrize(
    ("port", "service", "registry", "protocol"),
    [
        ("{number: 1, name: http-x, protocol: TCP}", "protocol: GRPC,", "MONGO", Protocol.TCP),
        ("{number: 1, name: http-x}", "protocol: GRPC,", "MONGO", Protocol.GRPC),
        ("{number: 1, name: http-x}", "", "MONGO", Protocol.HTTP),
        ("{number: 1, name: xyz}", "", "MONGO", Protocol.MONGO),
        ("{number: 1, name: xyz}", "", "", Protocol.TCP),
    ],
)
def test_the_nearest_word_on_the_protocol_counts(
    port: str, service: str, registry: str, protocol: Protocol
) -> None:
    """The port's, the service's, the port's name, the registry's, TCP."""
    text = f"services: [{{host: a.b, {service} ports: [{port}]}}]"
    (item,) = items(text, structs.replace(CONTEXT, protocol=registry)).services

    assert item.service is not None
    assert item.service.ports[0].protocol is protocol


@pytest.mark.parametrize(
    ("host", "namespace"),
    [
        ("a.shop.svc.cluster.local", "shop"),
        ("A.Shop.svc.cluster.local", "shop"),
        ("a.shop.svc.other.local", "default"),
        ("a.b", "default"),
    ],
)
def test_a_host_of_kubernetes_form_tells_its_namespace(host: str, namespace: str) -> None:
    """So it unites with the Service of that name."""
    item = only(f"services: [{{host: {host}, ports: [{{number: 80}}]}}]")

    assert item.namespace == namespace


@pytest.mark.parametrize(
    ("addresses", "resolution"),
    [
        ("[{address: 10.0.0.1}]", Resolution.STATIC),
        ("[{address: '::1'}]", Resolution.STATIC),
        ("[{address: vm1.example.com}, {address: 10.0.0.1}]", Resolution.DNS),
        ("[]", Resolution.STATIC),
    ],
)
def test_names_among_the_addresses_are_resolved_by_envoy(
    addresses: str, resolution: Resolution
) -> None:
    """EDS cannot carry names."""
    item = only(f"services: [{{host: a.b, ports: [{{number: 80}}], endpoints: {addresses}}}]")

    assert item.service is not None
    assert item.service.resolution is resolution


def test_sockets_are_paths() -> None:
    """The model has the path alone."""
    item = only(
        "services: [{host: a.b, ports: [{number: 80}], endpoints: [{address: 'unix:///run/x'}]}]"
    )

    assert item.endpoints[0].address == "/run/x"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("hosst: a.b", (3, "services[0].hosst")),
        ("namespace: a.b", (3, "services[0].namespace")),
        ("protocol: X", (3, "services[0].protocol")),
        ("labels: {'a b': c}", (3, 'services[0].labels["a b"]')),
        ("locality: /zone", (3, "services[0].locality")),
        ("locality: a/b/c/d", (3, "services[0].locality")),
        ("addresses: [x]", (3, "services[0].addresses[0]")),
        ("export_to: [x, x]", (3, "services[0].export_to[1]")),
        ("endpoints: [{}]", (3, "services[0].endpoints[0].address")),
        ("endpoints: [{address: 10.0.0.256}]", (3, "services[0].endpoints[0].address")),
        ("endpoints: [{address: 'unix://x'}]", (3, "services[0].endpoints[0].address")),
        ("endpoints: [{address: 10.0.0.1, weight: -1}]", (3, "services[0].endpoints[0].weight")),
        ("endpoints: [{address: 10.0.0.1, weight: 1.5}]", (3, "services[0].endpoints[0].weight")),
        ("endpoints: [{address: 10.0.0.1, wait: 1}]", (3, "services[0].endpoints[0].wait")),
        ("endpoints: [{address: 10.0.0.1, ports: {grpc: 1}}]",
         (3, "services[0].endpoints[0].ports.grpc")),
        ("endpoints: [{address: 10.0.0.1, ports: {http: 0}}]",
         (3, "services[0].endpoints[0].ports.http")),
        ("endpoints: [{address: 10.0.0.1, labels: {a: 'b/c'}}]",
         (3, "services[0].endpoints[0].labels.a")),
        ("endpoints: [{address: a.b}, {address: 'unix:///x'}]", (3, "services[0].endpoints")),
    ],
)  # fmt: skip
def test_mistakes_are_told_at_their_line_and_field(change: str, expected: tuple[int, str]) -> None:
    """The form is read strictly."""
    text = f"services:\n- host: x.y\n  {change}\n  ports: [{{number: 80, name: http}}]\n"

    assert item_faults(text) == [expected]


@pytest.mark.parametrize(
    ("ports", "paths"),
    [
        ("[]", ["services[0].ports"]),
        ("[{}]", ["services[0].ports[0].number"]),
        ("[{number: 0}]", ["services[0].ports[0].number"]),
        ("[{number: 1, target_port: 70000}]", ["services[0].ports[0].target_port"]),
        ("[{number: 1, name: 'a b'}]", ["services[0].ports[0].name"]),
        ("[{number: 1, protocol: X}]", ["services[0].ports[0].protocol"]),
        ("[{number: 1, name: a}, {number: 1, name: a}]",
         ["services[0].ports[1].name", "services[0].ports[1].number"]),
    ],
)  # fmt: skip
def test_ports_have_numbers_and_differ(ports: str, paths: list[str]) -> None:
    """Endpoints name them."""
    found = item_faults(f"services: [{{host: x.y, ports: {ports}}}]")

    assert [path for _, path in found] == paths


def test_one_host_is_described_once_and_in_one_namespace() -> None:
    """A second description would silently replace the first."""
    port = "ports: [{number: 80}]"
    twice = f"services:\n- {{host: a.b, {port}}}\n- {{host: A.b, {port}}}\n"
    apart = f"services:\n- {{host: a.b, {port}}}\n- {{host: a.b, namespace: x, {port}}}\n"
    contrary = f"services:\n- {{host: a.shop.svc.cluster.local, namespace: x, {port}}}\n"

    assert item_faults(twice) == [(3, "services[1].host")]
    assert item_faults(apart) == []
    assert item_faults(contrary) == [(2, "services[0].namespace")]


def test_all_mistakes_of_all_services_come_at_once() -> None:
    """The user mends the file in one go."""
    text = "services:\n- host: a_b\n  ports: [{number: 80}]\n- host: c.d\n  ports: []\n"

    assert item_faults(text) == [(2, "services[0].host"), (5, "services[1].ports")]


def test_foreign_keys_beside_the_list_are_refused() -> None:
    """The document is nothing else."""
    assert item_faults("services: []\nversion: 1\n") == [(2, "version")]


def test_the_form_is_told_by_its_key() -> None:
    """A Kubernetes object may have such a field too."""
    assert is_terse(document("services: []"))
    assert not is_terse(document("{kind: X, services: []}"))
    assert not is_terse(document("service: []"))
