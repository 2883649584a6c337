"""Listeners for gRPC's own xDS clients."""

from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)

from aggregator.generators.grpc_listener import GENERATOR
from aggregator.generators.spec import Root
from tests.support.builders import port, service
from tests.support.view import FakeView, generate

ECHO = service(
    "echo.shop.svc.cluster.local",
    port(7070, "GRPC"),
    port(53, "UDP"),
    port(53, "TCP"),
    origin="echo.yaml",
)


def test_each_port_is_named_as_the_client_dials_it() -> None:
    """``xds:///echo…:7070`` asks for the listener of that very name."""
    found = generate(GENERATOR, FakeView([ECHO]), Root.HOST, ECHO.host)

    assert set(found) == {"echo.shop.svc.cluster.local:7070", "echo.shop.svc.cluster.local:53"}
    assert found["echo.shop.svc.cluster.local:7070"].origins == ("echo.yaml",)


def test_it_is_an_api_listener_that_takes_its_routes_from_the_same_stream() -> None:
    """gRPC's clients bind nothing and refuse any other source."""
    found = generate(GENERATOR, FakeView([ECHO]), Root.HOST, ECHO.host)

    body = found["echo.shop.svc.cluster.local:7070"].body
    listener = listener_pb2.Listener.FromString(body)
    manager = hcm_pb2.HttpConnectionManager()
    assert listener.api_listener.api_listener.Unpack(manager)
    assert not listener.filter_chains
    assert manager.rds.route_config_name == "outbound|7070||echo.shop.svc.cluster.local"
    assert manager.rds.config_source.HasField("ads")
    assert [each.name for each in manager.http_filters] == [
        "envoy.filters.http.fault",
        "envoy.filters.http.router",
    ]


def test_host_that_is_not_seen_has_none() -> None:
    """exportTo holds for these clients too."""
    hidden = service("hidden.bank.svc.cluster.local", export_to=["."])

    assert not generate(GENERATOR, FakeView([hidden]), Root.HOST, hidden.host)
