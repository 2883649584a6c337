"""Tests of config.core.endpoint_slice and config.core.endpoints."""

import pytest
from msgspec import structs

from aggregator.model.registry import ServiceItem
from aggregator.model.service import Endpoint, Health, Locality
from tests.support.documents import CONTEXT, item_faults, items

SLICE = """\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: reviews-1, namespace: shop, labels: {kubernetes.io/service-name: reviews}}
addressType: IPv4
"""
ENDPOINTS = "apiVersion: v1\nkind: Endpoints\nmetadata: {name: reviews, namespace: shop}\n"


def item(text: str) -> ServiceItem:
    """The only item of a text."""
    (only,) = items(text).services
    return only


def test_a_slice_gives_endpoints_to_the_service_that_its_label_names() -> None:
    """It defines nothing itself."""
    found = item(
        SLICE
        + """\
endpoints:
- addresses: [10.0.0.1]
  hostname: h
  nodeName: node1
  zone: eu-1
  deprecatedTopology: {topology.kubernetes.io/region: eu}
  targetRef: {kind: Pod, name: p, namespace: shop, uid: x}
  hints: {forZones: []}
ports: [{name: http, port: 8080, protocol: TCP}, {name: grpc, port: 9090}]
"""
    )

    assert (found.namespace, found.host) == ("shop", "reviews.shop.svc.cluster.local")
    assert found.service is None
    assert found.endpoints == (
        Endpoint(
            "10.0.0.1",
            (("grpc", 9090), ("http", 8080)),
            (),
            Locality("eu", "eu-1"),
            "",
            "c1",
            hostname="h",
            node="node1",
            registry="vms",
        ),
    )


def test_the_region_is_the_registrys_where_a_slice_tells_the_zone_alone() -> None:
    """Kubernetes' slices have no region since v1."""
    context = structs.replace(CONTEXT, locality="eu/eu-9/rack", network="net1")
    text = f"{SLICE}endpoints: [{{addresses: [10.0.0.1], zone: eu-1}}, {{addresses: [10.0.0.2]}}]\n"
    (only,) = items(text, context).services

    assert [each.locality for each in only.endpoints] == [
        Locality("eu", "eu-1"),
        Locality("eu", "eu-9", "rack"),
    ]
    assert {each.network for each in only.endpoints} == {"net1"}


@pytest.mark.parametrize(
    ("conditions", "health"),
    [
        ("{}", Health.READY),
        ("{ready: null}", Health.READY),
        ("{ready: true, terminating: true}", Health.READY),
        ("{ready: false}", Health.NOT_READY),
        ("{ready: false, serving: true}", Health.NOT_READY),
        ("{ready: false, serving: true, terminating: true}", Health.DRAINING),
        ("{ready: false, serving: false, terminating: true}", Health.TERMINATING),
        ("{ready: false, terminating: true}", Health.TERMINATING),
    ],
)
def test_three_conditions_make_one_health(conditions: str, health: Health) -> None:
    """Unknown is ready; what still serves while it ends is draining."""
    found = item(f"{SLICE}endpoints: [{{addresses: [10.0.0.1], conditions: {conditions}}}]\n")

    assert found.endpoints[0].health is health


def test_each_address_is_an_endpoint() -> None:
    """Files may list several in one entry."""
    found = item(f"{SLICE}endpoints: [{{addresses: [10.0.0.1, 10.0.0.2]}}]\n")

    assert [each.address for each in found.endpoints] == ["10.0.0.1", "10.0.0.2"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SLICE.replace("kubernetes.io/service-name", "app"), [(3, "metadata.labels")]),
        (SLICE.replace("IPv4", "FQDN"), [(4, "addressType")]),
        (f"{SLICE}endpoints: [{{addresses: [x]}}]\n", [(5, "endpoints[0].addresses[0]")]),
        (f"{SLICE}endpoints: [{{addresses: []}}]\n", [(5, "endpoints[0].addresses")]),
        (f"{SLICE}endpoints: [{{}}]\n", [(5, "endpoints[0].addresses")]),
        (f"{SLICE}ports: [{{port: 0}}]\n", [(5, "ports[0].port")]),
        (f"{SLICE}endpoints: [{{addresses: [1.2.3.4], conditions: {{ready: maybe}}}}]\n",
         [(5, "endpoints[0].conditions.ready")]),
    ],
)  # fmt: skip
def test_mistakes_in_slices_are_told_at_their_line(
    text: str, expected: list[tuple[int, str]]
) -> None:
    """A slice without its label would vanish in silence."""
    assert item_faults(text) == expected


def test_endpoints_give_ready_and_unready_addresses() -> None:
    """The older form, one object of the Service's own name."""
    found = item(
        ENDPOINTS
        + """\
subsets:
- addresses: [{ip: 10.0.0.1, hostname: h, nodeName: n, targetRef: {kind: Pod, name: p}}]
  notReadyAddresses: [{ip: 10.0.0.2}]
  ports: [{name: http, port: 8080}]
- addresses: [{ip: 10.0.0.3}]
"""
    )

    assert (found.host, found.service) == ("reviews.shop.svc.cluster.local", None)
    assert [(each.address, each.ports, each.health) for each in found.endpoints] == [
        ("10.0.0.1", (("http", 8080),), Health.READY),
        ("10.0.0.2", (("http", 8080),), Health.NOT_READY),
        ("10.0.0.3", (), Health.READY),
    ]
    assert (found.endpoints[0].hostname, found.endpoints[0].node) == ("h", "n")


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("subsets: [{addresses: [{ip: x}]}]", (4, "subsets[0].addresses[0].ip")),
        ("subsets: [{addresses: [{}]}]", (4, "subsets[0].addresses[0].ip")),
        ("subsets: [{notReadyAddresses: [{ip: x}]}]", (4, "subsets[0].notReadyAddresses[0].ip")),
        ("subsets: [{ports: [{port: 70000}]}]", (4, "subsets[0].ports[0].port")),
    ],
)
def test_mistakes_in_endpoints_are_told_at_their_line(rest: str, expected: tuple[int, str]) -> None:
    """Nobody else has checked files."""
    assert item_faults(f"{ENDPOINTS}{rest}\n") == [expected]
