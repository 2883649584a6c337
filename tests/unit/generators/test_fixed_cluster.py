"""The clusters that every proxy has, and those of its own workload."""

from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2

from aggregator.generators.cluster import GENERATOR
from aggregator.generators.connection_pool import HTTP_OPTIONS_NAME, HttpOptions
from aggregator.generators.spec import Root
from aggregator.model.proxy import Proxy
from config.kinds.sidecar import Sidecar
from tests.support.builders import rule
from tests.support.view import FakeView, generate

Cluster = cluster_pb2.Cluster


def build(view: FakeView) -> dict[str, cluster_pb2.Cluster]:
    built = generate(GENERATOR, view, Root.VIEW)
    return {name: Cluster.FromString(resource.body) for name, resource in built.items()}


def ingress(
    *listeners: dict[str, Any], ipv4: bool = True, ipv6: bool = False, **spec: Any
) -> FakeView:
    sidecar = rule(Sidecar, {"ingress": list(listeners), **spec}, source="side.yaml")
    return FakeView(sidecar=sidecar, ipv4=ipv4, ipv6=ipv6)


def listener(number: int = 9080, protocol: str = "HTTP", **fields: Any) -> dict[str, Any]:
    return {"port": {"number": number, "protocol": protocol, "name": "in"}, **fields}


def address(cluster: cluster_pb2.Cluster) -> Any:
    [place] = cluster.load_assignment.endpoints
    [member] = place.lb_endpoints
    return member.endpoint.address


def test_every_envoy_can_pass_unknown_traffic_on_or_drop_it() -> None:
    """Routes and listeners name these two; a missing one would make them invalid."""
    built = build(FakeView())

    assert sorted(built) == ["BlackHoleCluster", "PassthroughCluster"]
    hole, passthrough = built["BlackHoleCluster"], built["PassthroughCluster"]
    assert (hole.type, len(hole.load_assignment.endpoints)) == (Cluster.STATIC, 0)
    assert passthrough.type == Cluster.ORIGINAL_DST
    assert passthrough.lb_policy == Cluster.CLUSTER_PROVIDED
    options = HttpOptions()
    assert passthrough.typed_extension_protocol_options[HTTP_OPTIONS_NAME].Unpack(options)
    assert options.HasField("use_downstream_protocol_config")
    assert options.common_http_protocol_options.idle_timeout.seconds == 300


def test_grpc_clients_have_neither() -> None:
    """They refuse types that they do not know."""
    assert build(FakeView(proxy=Proxy(id="test", generator="grpc"))) == {}


def test_a_workload_is_reached_where_the_sidecar_says() -> None:
    """defaultEndpoint is a port of this machine."""
    built = build(ingress(listener(defaultEndpoint="127.0.0.1:8080")))["inbound|9080||"]

    socket = address(built).socket_address
    assert (built.type, socket.address, socket.port_value) == (Cluster.STATIC, "127.0.0.1", 8080)


def test_a_workload_may_listen_on_a_unix_socket() -> None:
    """The form that Istio writes, with the scheme taken off."""
    built = build(ingress(listener(defaultEndpoint="unix:///run/app.sock")))["inbound|9080||"]

    assert address(built).pipe.path == "/run/app.sock"


@pytest.mark.parametrize(
    ("endpoint", "ipv4", "expected"),
    [
        ("[::1]:8080", False, "::1"),
        ("[::1]:8080", True, "127.0.0.1"),
        ("127.0.0.1:8080", False, "::1"),
    ],
)
def test_loopback_is_of_a_family_that_the_proxy_has(
    endpoint: str, ipv4: bool, expected: str
) -> None:
    """A rule for many proxies works on machines without IPv4 too."""
    built = build(ingress(listener(defaultEndpoint=endpoint), ipv4=ipv4, ipv6=not ipv4))

    assert address(built["inbound|9080||"]).socket_address.address == expected


@pytest.mark.parametrize("own", ["0.0.0.0:8080", "[::]:8080"])
def test_the_proxys_own_address_is_taken_for_loopback_and_told(own: str) -> None:
    """Proxies with the same rule share these clusters, so none can hold an address of its own."""
    view = ingress(listener(defaultEndpoint=own))

    assert address(build(view)["inbound|9080||"]).socket_address.address == "127.0.0.1"
    [problem] = view.problems
    assert (problem.path, problem.origin.source) == ("spec.ingress[0].defaultEndpoint", "side.yaml")


@pytest.mark.parametrize("endpoint", ["10.0.0.1:8080", "127.0.0.1", "127.0.0.1:http", "x:80"])
def test_an_endpoint_elsewhere_is_refused(endpoint: str) -> None:
    """A sidecar that sent its inbound traffic to another machine would be an open relay."""
    view = ingress(listener(defaultEndpoint=endpoint))

    assert "inbound|9080||" not in build(view)
    [problem] = view.problems
    assert endpoint in problem.message


def test_without_an_endpoint_the_connections_own_destination_is_meant() -> None:
    """What was redirected here goes on to where it was going."""
    view = ingress(listener())

    built = build(view)["inbound|9080||"]

    assert (built.type, built.lb_policy) == (Cluster.ORIGINAL_DST, Cluster.CLUSTER_PROVIDED)
    assert not view.problems


def test_a_bound_port_without_an_endpoint_is_told() -> None:
    """Nothing was redirected to it, so every request would get 503 for no visible reason."""
    view = ingress(listener(captureMode="NONE"))
    build(view)

    [problem] = view.problems
    assert (problem.path, "defaultEndpoint" in problem.message) == ("spec.ingress[0]", True)


def test_a_workload_that_speaks_http2_is_spoken_to_in_http2() -> None:
    """gRPC servers refuse HTTP/1.1; a mesh-wide upgrade does not concern the workload itself."""
    built = build(
        ingress(
            listener(9080, "GRPC", defaultEndpoint="127.0.0.1:1"),
            listener(9081, defaultEndpoint="127.0.0.1:2"),
            inboundConnectionPool={"http": {"h2UpgradePolicy": "UPGRADE"}},
        )
    )

    options = HttpOptions()
    assert (
        built["inbound|9080||"].typed_extension_protocol_options[HTTP_OPTIONS_NAME].Unpack(options)
    )
    assert options.explicit_http_config.HasField("http2_protocol_options")
    assert not built["inbound|9081||"].typed_extension_protocol_options


def test_limits_are_the_ports_own_or_the_sidecars() -> None:
    """A port's pool replaces the common one."""
    built = build(
        ingress(
            listener(9080, connectionPool={"tcp": {"maxConnections": 1}}),
            listener(9081),
            inboundConnectionPool={"tcp": {"maxConnections": 2}},
        )
    )

    limits = [
        built[f"inbound|{number}||"].circuit_breakers.thresholds[0].max_connections.value
        for number in (9080, 9081)
    ]
    assert limits == [1, 2]


def test_a_port_that_is_listed_twice_has_one_cluster() -> None:
    """Two clusters of one name would be refused together with everything else."""
    view = ingress(listener(defaultEndpoint="127.0.0.1:1"), listener(defaultEndpoint="127.0.0.1:2"))

    assert address(build(view)["inbound|9080||"]).socket_address.port_value == 1
