"""Limits, timeouts and HTTP versions."""

from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from google.protobuf import json_format

from aggregator.generators.connection_pool import (
    HTTP_OPTIONS_NAME,
    UNLIMITED,
    HttpOptions,
    apply_connection_pool,
    apply_http_pool,
    attach_http_options,
    speaks_http2,
)
from aggregator.model.errors import Origin
from aggregator.model.service import Protocol
from config.mesh import MeshConfig
from config.shape import decode_struct
from config.traffic_policy import ConnectionPoolSettings, RetryBudget
from tests.support.view import FakeView


def pool(**settings: Any) -> ConnectionPoolSettings:
    return decode_struct(settings, ConnectionPoolSettings, "", lambda _: Origin())


def mesh(**settings: Any) -> FakeView:
    return FakeView(mesh=decode_struct(settings, MeshConfig, "", lambda _: Origin()))


def applied(
    view: FakeView, settings: ConnectionPoolSettings | None, budget: RetryBudget | None = None
) -> dict[str, Any]:
    cluster = cluster_pb2.Cluster()
    apply_connection_pool(view, cluster, settings, budget)
    return json_format.MessageToDict(cluster, preserving_proto_field_name=True)


def http(settings: ConnectionPoolSettings | None, *, http2: bool = False) -> dict[str, Any]:
    options = HttpOptions()
    apply_http_pool(options, settings, http2=http2)
    return json_format.MessageToDict(options, preserving_proto_field_name=True)


def test_without_settings_nothing_is_limited() -> None:
    """Envoy's own defaults of 1024 and 3 retries surprise everyone under load."""
    assert applied(FakeView(), None) == {
        "connect_timeout": "10s",
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": UNLIMITED,
                    "max_pending_requests": UNLIMITED,
                    "max_requests": UNLIMITED,
                    "max_retries": UNLIMITED,
                }
            ]
        },
    }


def test_every_limit_reaches_its_circuit_breaker() -> None:
    """Each of the four has a name of its own in the API."""
    built = applied(
        FakeView(),
        pool(
            tcp={"maxConnections": 1, "connectTimeout": "250ms"},
            http={"http1MaxPendingRequests": 2, "http2MaxRequests": 3, "maxRetries": 4},
        ),
    )

    assert built["connect_timeout"] == "0.250s"
    assert built["circuit_breakers"]["thresholds"] == [
        {
            "max_connections": 1,
            "max_pending_requests": 2,
            "max_requests": 3,
            "max_retries": 4,
        }
    ]


def test_the_meshs_connect_timeout_is_asked_only_where_the_rule_has_none() -> None:
    """A change of the mesh's timeout rebuilds only the clusters that use it."""
    view = mesh(connectTimeout="3s")

    assert applied(view, None)["connect_timeout"] == "3s"
    view.reads.clear()
    applied(view, pool(tcp={"connectTimeout": "1s"}))
    assert ("mesh", "connect_timeout") not in view.reads


def test_a_retry_budget_bounds_retries_by_the_requests_in_flight() -> None:
    """Its own defaults are Envoy's: 20 %, but 3 at least."""
    bare = applied(FakeView(), None, RetryBudget())
    full = applied(FakeView(), None, RetryBudget(percent=5.5, min_retry_concurrency=10))

    def budget(built: dict[str, Any]) -> Any:
        return built["circuit_breakers"]["thresholds"][0]["retry_budget"]

    assert budget(bare) == {"budget_percent": {"value": 20.0}, "min_retry_concurrency": 3}
    assert budget(full) == {"budget_percent": {"value": 5.5}, "min_retry_concurrency": 10}


def test_keep_alive_of_the_mesh_is_refined_by_the_rule() -> None:
    """Fields that the rule leaves out stay the mesh's; an empty one turns it on alone."""
    view = mesh(tcpKeepalive={"probes": 9, "time": "10s"})

    built = applied(view, pool(tcp={"tcpKeepalive": {"time": "20s", "interval": "5s"}}))
    empty = applied(FakeView(), pool(tcp={"tcpKeepalive": {}}))

    assert built["upstream_connection_options"]["tcp_keepalive"] == {
        "keepalive_probes": 9,
        "keepalive_time": 20,
        "keepalive_interval": 5,
    }
    assert empty["upstream_connection_options"] == {"tcp_keepalive": {}}


@pytest.mark.parametrize(
    ("protocol", "policy", "expected"),
    [
        ("HTTP", "DEFAULT", False),
        ("HTTP", "UPGRADE", True),
        ("HTTP2", "DO_NOT_UPGRADE", True),
        ("GRPC", "DEFAULT", True),
        ("TCP", "DEFAULT", False),
        ("TCP", "UPGRADE", True),
        ("HTTPS", "DEFAULT", False),
    ],
)
def test_http2_is_for_ports_that_speak_it_and_for_upgrades(
    protocol: str, policy: str, expected: bool
) -> None:
    """gRPC fails over HTTP/1.1, and plain HTTP servers over HTTP/2."""
    settings = pool(http={"h2UpgradePolicy": policy})

    assert speaks_http2(FakeView(), Protocol(protocol), settings) is expected


def test_the_mesh_may_upgrade_all_http_ports() -> None:
    """A rule may still say no, and other ports are left alone."""
    view = mesh(h2UpgradePolicy="UPGRADE")
    refused = pool(http={"h2UpgradePolicy": "DO_NOT_UPGRADE"})

    assert speaks_http2(view, Protocol.HTTP, None)
    assert not speaks_http2(view, Protocol.HTTP, refused)
    assert not speaks_http2(view, Protocol.TCP, None)


def test_the_clients_protocol_can_be_kept() -> None:
    """Then neither the port's protocol nor an upgrade counts."""
    settings = pool(http={"useClientProtocol": True, "h2UpgradePolicy": "UPGRADE"})

    assert not speaks_http2(FakeView(), Protocol.GRPC, settings)
    assert http(settings) == {
        "use_downstream_protocol_config": {
            "http_protocol_options": {},
            "http2_protocol_options": {},
        }
    }


def test_http_settings_reach_envoy() -> None:
    """HTTP's own idle timeout comes before that of all connections."""
    settings = pool(
        tcp={"idleTimeout": "9s", "maxConnectionDuration": "1h"},
        http={"idleTimeout": "7s", "maxRequestsPerConnection": 5, "maxConcurrentStreams": 8},
    )

    assert http(settings)["common_http_protocol_options"] == {
        "idle_timeout": "7s",
        "max_connection_duration": "3600s",
        "max_requests_per_connection": 5,
    }
    only_tcp = http(pool(tcp={"idleTimeout": "9s"}))
    assert only_tcp["common_http_protocol_options"] == {"idle_timeout": "9s"}


def test_http2_settings_are_for_http2() -> None:
    """Streams and pings exist nowhere else."""
    settings = pool(
        http={"maxConcurrentStreams": 8, "http2KeepAlive": {"interval": "1s", "timeout": "2s"}}
    )

    assert http(settings, http2=True)["explicit_http_config"]["http2_protocol_options"] == {
        "max_concurrent_streams": 8,
        "connection_keepalive": {"interval": "1s", "timeout": "2s"},
    }
    assert http(settings) == {}
    assert http(None, http2=True) == {"explicit_http_config": {"http2_protocol_options": {}}}


def test_options_name_a_protocol_or_are_left_out() -> None:
    """Envoy refuses options that name none; without any, its default is HTTP/1.1 anyway."""
    plain, timed = cluster_pb2.Cluster(), cluster_pb2.Cluster()
    options = HttpOptions()
    attach_http_options(plain, options)
    options.common_http_protocol_options.idle_timeout.seconds = 7
    attach_http_options(timed, options)

    assert not plain.typed_extension_protocol_options
    read = HttpOptions()
    assert timed.typed_extension_protocol_options[HTTP_OPTIONS_NAME].Unpack(read)
    assert read.explicit_http_config.HasField("http_protocol_options")
