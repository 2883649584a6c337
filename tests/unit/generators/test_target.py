"""Which clusters there are, and how each finds its endpoints."""

from collections.abc import Mapping
from typing import Any

import pytest

from aggregator.generators.destination_rule import NO_RULE, resolve_destination_rule
from aggregator.generators.target import ClusterType, resolve_cluster_type, targets
from aggregator.model.errors import Origin
from aggregator.model.proxy import Proxy
from config.kinds.destination_rule import DestinationRule
from config.shape import decode_struct
from config.traffic_policy import TrafficPolicy
from tests.support.builders import endpoint, port, rule, service
from tests.support.view import FakeView


def resolve(
    resolution: str,
    *,
    kind: str = "sidecar",
    mode: str = "REDIRECT",
    generator: str = "",
    address: str = "a.example.com",
    **policy: object,
) -> ClusterType:
    one = service("a.example.com", resolution=resolution)
    proxy = Proxy(id="test", kind=kind, interception_mode=mode, generator=generator)
    view = FakeView([one], {one: [endpoint(address)]}, proxy=proxy)
    return resolve_cluster_type(
        view, one, decode_struct(policy, TrafficPolicy, "", lambda _: Origin())
    )


@pytest.mark.parametrize(
    ("resolution", "envoy", "grpc"),
    [
        ("STATIC", ClusterType.EDS, ClusterType.EDS),
        ("DNS", ClusterType.STRICT_DNS, ClusterType.LOGICAL_DNS),
        ("DNS_ROUND_ROBIN", ClusterType.LOGICAL_DNS, ClusterType.LOGICAL_DNS),
        ("NONE", ClusterType.ORIGINAL_DST, ClusterType.EDS),
        ("DYNAMIC_DNS", ClusterType.DYNAMIC_DNS, ClusterType.UNSUPPORTED),
    ],
)
def test_the_resolution_decides_the_type(
    resolution: str, envoy: ClusterType, grpc: ClusterType
) -> None:
    """ServiceEntry's words mean what they mean in Istio; gRPC refuses other types."""
    assert resolve(resolution) is envoy
    assert resolve(resolution, generator="grpc") is grpc


@pytest.mark.parametrize(("kind", "mode"), [("router", ""), ("sidecar", "NONE")])
def test_without_redirection_known_endpoints_serve(kind: str, mode: str) -> None:
    """Where nothing was redirected there is no original destination, and requests would fail."""
    assert resolve("NONE", kind=kind, mode=mode) is ClusterType.EDS


def test_grpc_takes_addresses_of_a_name_service_as_endpoints() -> None:
    """Addresses need no resolving, so that several of them work too."""
    assert resolve("DNS", generator="grpc", address="10.0.0.1") is ClusterType.EDS


def test_passthrough_takes_the_destination_from_the_connection() -> None:
    """But not for gRPC, whose connections have none."""
    passthrough = {"simple": "PASSTHROUGH"}

    assert resolve("STATIC", loadBalancer=passthrough) is ClusterType.ORIGINAL_DST
    assert resolve("STATIC", generator="grpc", loadBalancer=passthrough) is ClusterType.EDS


@pytest.mark.parametrize(
    "tls",
    [
        {"mode": "ISTIO_MUTUAL"},
        {"mode": "SIMPLE", "credentialName": "secret"},
        {"mode": "MUTUAL", "credentialName": "secret"},
        {"mode": "MUTUAL"},
        {"mode": "MUTUAL", "clientCertificate": "cert.pem"},
    ],
)
def test_what_cannot_be_secured_is_closed(tls: Mapping[str, Any]) -> None:
    """Never plaintext where a rule asks for certificates that nobody serves."""
    assert resolve("STATIC", tls=tls) is ClusterType.CLOSED
    assert resolve("DNS", tls=tls) is ClusterType.CLOSED
    assert resolve("NONE", tls=tls) is ClusterType.CLOSED


@pytest.mark.parametrize(
    "tls",
    [
        {"mode": "DISABLE"},
        {"mode": "SIMPLE"},
        {"mode": "MUTUAL", "clientCertificate": "cert.pem", "privateKey": "key.pem"},
    ],
)
def test_what_the_proxys_own_files_secure_is_open(tls: Mapping[str, Any]) -> None:
    """The clusters of rules that need nothing from us work."""
    assert resolve("STATIC", tls=tls) is ClusterType.EDS


def test_grpc_cannot_be_given_tls() -> None:
    """It would send plaintext, or refuse everything."""
    assert resolve("STATIC", generator="grpc", tls={"mode": "SIMPLE"}) is ClusterType.CLOSED


def test_each_port_has_one_cluster_and_udp_has_none() -> None:
    """DNS servers have TCP and UDP on one port; a second cluster of one name would be refused."""
    dns = service(
        "dns.shop.svc.cluster.local",
        port(53, "UDP", "u"),
        port(53, "TCP", "t"),
        port(53, "TCP", "x"),
    )

    assert [(each.name, each.port.name) for each in targets(dns, NO_RULE)] == [
        ("outbound|53||dns.shop.svc.cluster.local", "t")
    ]


def test_each_subset_has_its_cluster_policy_and_source() -> None:
    """The object behind a subset is the one to name when it is refused."""
    web = service("web.shop.svc.cluster.local", port(80), port(90))
    spec = {"host": "web", "subsets": [{"name": "v1", "trafficPolicy": {"outlierDetection": {}}}]}
    config = rule(DestinationRule, spec)
    view = FakeView([web], configs=[config])

    found = list(targets(web, resolve_destination_rule(view, web)))

    assert [each.name.split("|")[1:3] for each in found] == [
        ["80", ""],
        ["80", "v1"],
        ["90", ""],
        ["90", "v1"],
    ]
    assert [each.policy.outlier_detection is None for each in found] == [True, False, True, False]
    assert all(each.config is config for each in found)
