"""Which network an endpoint is in, and the ways into networks, by the settings."""

from typing import Any, Final

import pytest
from msgspec.structs import replace

from aggregator.model.errors import Origin
from aggregator.model.registry import NetworkGateway
from aggregator.model.service import Locality
from aggregator.registry.network import NetworkMap
from config.mesh import MeshNetworks
from config.shape import decode_struct
from tests.support.builders import endpoint, service

GATEWAY: Final = "gateway.istio-system.svc.cluster.local"
DATA: Final[dict[str, Any]] = {
    "net1": {
        "endpoints": [{"fromRegistry": "east"}],
        "gateways": [
            {"address": "192.0.2.1", "port": 15443, "locality": "eu/eu-1"},
            {"registryServiceName": GATEWAY, "port": 443},
        ],
    },
    "net2": {"endpoints": [{"fromCidr": "10.0.0.0/8"}]},
    "net3": {"endpoints": [{"fromCidr": "10.9.0.0/16"}, {"fromCidr": "2001:db8::/32"}]},
}
NETWORKS: Final = NetworkMap(
    decode_struct({"networks": DATA}, MeshNetworks, "", lambda _: Origin()).networks
)


@pytest.mark.parametrize(
    ("address", "cluster_id", "registry", "expected"),
    [
        ("10.1.0.1", "", "", "net2"),
        ("10.9.0.1", "", "", "net3"),
        ("2001:db8::1", "", "", "net3"),
        ("172.16.0.1", "", "", ""),
        ("db.example.com", "", "", ""),
        ("10.1.0.1", "east", "", "net1"),
        ("10.1.0.1", "", "east", "net1"),
        ("", "east", "", "net1"),
    ],
)
def test_an_endpoints_network_is_its_registrys_else_that_of_its_address(
    address: str, cluster_id: str, registry: str, expected: str
) -> None:
    """As in Istio: fromRegistry, then fromCidr, of which the narrowest."""
    one = replace(endpoint(address, cluster_id=cluster_id), registry=registry)

    assert NETWORKS.located(one).network == expected


def test_a_network_that_is_told_stays() -> None:
    """Who runs an endpoint knows better than a range."""
    one = endpoint("10.1.0.1", network="net9", cluster_id="east")

    assert NETWORKS.located(one) is one


def test_gateways_are_given_by_address() -> None:
    """With the place that they are at, if it is told."""
    assert list(NETWORKS.gateways("net1")) == [
        NetworkGateway("net1", "192.0.2.1", 15443, "", Locality("eu", "eu-1"))
    ]
    assert list(NETWORKS.gateways("net2")) == list(NETWORKS.gateways("none")) == []


def test_a_service_is_a_gateway_where_the_settings_name_it() -> None:
    """By what its load balancer has outside, and for the network of its own registry only."""
    named = replace(service(GATEWAY), external_addresses=("192.0.2.7", "lb.example.com"))

    assert NETWORKS.gateways_of(named, "east", "") == (
        NetworkGateway("net1", "192.0.2.7", 443, "east"),
        NetworkGateway("net1", "lb.example.com", 443, "east"),
    )
    assert NETWORKS.gateways_of(named, "west", "") == ()
    assert NETWORKS.gateways_of(replace(named, host="other.mesh"), "east", "") == ()
    assert NETWORKS.gateways_of(service(GATEWAY), "east", "") == ()


def test_without_networks_nothing_is_looked_up() -> None:
    """Most meshes have one."""
    one = endpoint("10.1.0.1")

    assert not NetworkMap({})
    assert NetworkMap({}).located(one) is one
