"""Ports that a Sidecar opens towards the workload."""

from typing import Any

import msgspec
from envoy.config.core.v3 import base_pb2

from aggregator.generators.listener import GENERATOR
from aggregator.generators.spec import Resource, Root
from aggregator.model.proxy import Proxy
from config.kinds.sidecar import Sidecar
from tests.support.builders import config, port, service
from tests.support.listener import read_listener, read_manager, read_tcp_proxy
from tests.support.view import FakeView, generate


def view_of(*ingress: dict[str, Any], mode: str = "NONE") -> FakeView:
    spec = msgspec.convert({"ingress": list(ingress), "egress": [{"hosts": ["*/*"]}]}, Sidecar)
    return FakeView(
        [service("reviews.shop.svc.cluster.local", port(9080))],
        proxy=Proxy(id="test", namespace="shop", interception_mode=mode),
        sidecar=config("Sidecar", spec, name="inward"),
    )


def built(view: FakeView) -> dict[str, Resource]:
    return {
        name: each
        for name, each in generate(GENERATOR, view, Root.VIEW).items()
        if name != "virtualOutbound"
    }


HTTP = {
    "port": {"number": 9080, "protocol": "HTTP"},
    "bind": "10.0.0.1",
    "captureMode": "NONE",
    "defaultEndpoint": "127.0.0.1:8080",
}


def test_http_requests_all_go_to_the_workload() -> None:
    """The route is in the listener: there is nothing to choose."""
    found = built(view_of(HTTP))

    listener = read_listener(found["10.0.0.1_9080"])
    manager = read_manager(listener.filter_chains[0])
    (host,) = manager.route_config.virtual_hosts
    (route,) = host.routes
    assert list(host.domains) == ["*"]
    assert route.route.cluster == "inbound|9080||"
    assert manager.route_config.name == "inbound|http|9080"
    assert manager.stat_prefix == "inbound_10.0.0.1_9080"
    assert listener.traffic_direction == base_pb2.INBOUND
    assert found["10.0.0.1_9080"].clusters == {"inbound|9080||"}
    assert found["10.0.0.1_9080"].origins == ("Sidecar shop/inward",)


def test_requests_to_the_workload_have_no_time_limit() -> None:
    """Envoy's own 15 s would cut off what the callers' rules allow."""
    listener = read_listener(built(view_of(HTTP))["10.0.0.1_9080"])

    route = read_manager(listener.filter_chains[0]).route_config.virtual_hosts[0].routes[0]

    assert route.route.HasField("timeout")
    assert route.route.timeout.ToNanoseconds() == 0


def test_connections_go_to_the_workload() -> None:
    """A port without a known protocol is TCP."""
    found = built(view_of({"port": {"number": 6379, "protocol": "REDIS"}, "captureMode": "NONE"}))

    listener = read_listener(found["0.0.0.0_6379"])
    assert read_tcp_proxy(listener.filter_chains[0]).cluster == "inbound|6379||"


def test_captured_port_is_left_to_the_redirection() -> None:
    """It is bound already, by the workload."""
    captured = {"port": {"number": 9080, "protocol": "HTTP"}}

    assert not built(view_of(captured, mode=""))
    assert set(built(view_of(captured, mode="NONE"))) == {"0.0.0.0_9080"}


def test_port_with_tls_stays_closed_and_is_reported() -> None:
    """Open without its certificates it would let everyone in."""
    view = view_of({**HTTP, "tls": {"mode": "SIMPLE"}})

    assert not built(view)
    assert [each.path for each in view.problems] == ["spec.ingress[0].tls"]


def test_of_two_at_one_place_the_first_stands() -> None:
    """Envoy takes an address once."""
    second = {**HTTP, "port": {"number": 9080, "protocol": "TCP"}}

    (resource,) = built(view_of(HTTP, second)).values()

    assert read_manager(read_listener(resource).filter_chains[0]).stat_prefix


def test_outbound_listener_gives_way_at_the_same_place() -> None:
    """127.0.0.1:9080 is the way in here, so it cannot be the way out."""
    view = view_of({**HTTP, "bind": "127.0.0.1"})

    assert set(built(view)) == {"127.0.0.1_9080"}
    assert not generate(GENERATOR, view, Root.PORT, "9080")
    assert [each.path for each in view.problems] == ["spec.ingress"]
