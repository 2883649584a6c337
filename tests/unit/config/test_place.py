"""Tests of config.place."""

import pytest

from aggregator.model.service import NOWHERE, Locality, Protocol
from config.place import LocalityKeys, resolve_locality, resolve_protocol


def test_the_endpoint_outdoes_its_node_and_the_node_the_registry() -> None:
    """Precedence is the same for every registry."""
    endpoint, node = {"locality": "eu/eu-1/a"}, {"region": "us", "zone": "us-1"}

    assert resolve_locality(endpoint, node, default="x") == Locality("eu", "eu-1", "a")
    assert resolve_locality({}, node, default="x") == Locality("us", "us-1")
    assert resolve_locality({}, {}, default="x/y") == Locality("x", "y")
    assert resolve_locality() == NOWHERE


def test_one_whole_locality_outdoes_its_parts() -> None:
    """Labels write it with dots, since they cannot have slashes."""
    metadata = {"istio-locality": "eu.eu-1", "region": "us"}

    assert resolve_locality(metadata) == Locality("eu", "eu-1")
    assert resolve_locality(metadata | {"locality": "asia"}) == Locality("asia")


def test_without_a_region_the_rest_is_void() -> None:
    """A zone alone says nothing, so the next one is asked."""
    assert resolve_locality({"zone": "eu-1"}, {"region": "us"}) == Locality("us")
    assert resolve_locality({"locality": "/eu-1"}, {"region": "us"}) == Locality("us")


def test_the_names_of_the_parts_can_be_set() -> None:
    """Every site has its own."""
    keys = LocalityKeys(region=("site",), zone=("rack",))

    assert resolve_locality({"site": "a", "rack": "b"}, keys=keys) == Locality("a", "b")


@pytest.mark.parametrize(
    ("told", "protocol"),
    [
        ({}, Protocol.TCP),
        ({"default": "http"}, Protocol.HTTP),
        ({"port_name": "grpc-api", "default": "http"}, Protocol.GRPC),
        ({"metadata": {"protocol": "http2"}, "port_name": "grpc"}, Protocol.HTTP2),
        ({"metadata": {"istio.protocol": "mysql"}, "port_name": "grpc"}, Protocol.MYSQL),
        ({"service": "redis", "metadata": {"protocol": "http2"}}, Protocol.REDIS),
        ({"service": "nonsense", "port_name": "grpc"}, Protocol.GRPC),
    ],
)
def test_protocols_have_one_precedence(told: dict[str, str], protocol: Protocol) -> None:
    """TCP is what is left, since every protocol passes through it."""
    assert resolve_protocol(**told) is protocol  # type: ignore[arg-type]
