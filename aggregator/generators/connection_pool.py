"""Limits, timeouts and HTTP versions of a cluster's connections."""

from functools import lru_cache
from typing import Final

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf.any_pb2 import Any

from aggregator.generators.duration import build_duration
from aggregator.generators.spec import View
from aggregator.model.service import Protocol
from config.mesh import MeshH2UpgradePolicy
from config.traffic_policy import (
    ConnectionPoolSettings,
    H2UpgradePolicy,
    HTTPSettings,
    RetryBudget,
    TcpKeepalive,
    TCPSettings,
)

HttpOptions = http_protocol_options_pb2.HttpProtocolOptions
HTTP_OPTIONS_NAME: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
UNLIMITED: Final = 0xFFFF_FFFF
_NO_POOL: Final = ConnectionPoolSettings()
_NO_HTTP: Final = HTTPSettings()
_NO_TCP: Final = TCPSettings()
_DEFAULT_BUDGET_PERCENT: Final = 20.0
_DEFAULT_BUDGET_CONCURRENCY: Final = 3


def apply_connection_pool(
    view: View,
    cluster: cluster_pb2.Cluster,
    pool: ConnectionPoolSettings | None,
    budget: RetryBudget | None = None,
) -> None:
    """Set what belongs to the cluster itself: timeout, circuit breakers, keep-alive."""
    tcp = (pool or _NO_POOL).tcp or _NO_TCP
    http = (pool or _NO_POOL).http or _NO_HTTP
    timeout = view.mesh.connect_timeout if tcp.connect_timeout is None else tcp.connect_timeout
    cluster.connect_timeout.CopyFrom(build_duration(timeout))
    cluster.circuit_breakers.CopyFrom(
        _build_breakers(
            tcp.max_connections,
            http.http1_max_pending_requests,
            http.http2_max_requests,
            http.max_retries,
        )
    )
    if budget is not None:
        cluster.circuit_breakers.thresholds[0].retry_budget.CopyFrom(_build_budget(budget))
    for keepalive in (view.mesh.tcp_keepalive, tcp.tcp_keepalive):
        if keepalive is not None:
            _apply_keepalive(cluster, keepalive)


def speaks_http2(view: View, protocol: Protocol, pool: ConnectionPoolSettings | None) -> bool:
    """Whether HTTP/2 is spoken to the upstream whatever the client speaks."""
    http = (pool or _NO_POOL).http or _NO_HTTP
    if http.use_client_protocol:
        return False
    if protocol.is_http2 or http.h2_upgrade_policy is H2UpgradePolicy.UPGRADE:
        return True
    if not protocol.is_http or http.h2_upgrade_policy is H2UpgradePolicy.DO_NOT_UPGRADE:
        return False
    return view.mesh.h2_upgrade_policy is MeshH2UpgradePolicy.UPGRADE


def apply_http_pool(
    options: HttpOptions, pool: ConnectionPoolSettings | None, *, http2: bool
) -> None:
    """Set what belongs to HTTP; nothing is set where Envoy's defaults hold."""
    tcp = (pool or _NO_POOL).tcp or _NO_TCP
    http = (pool or _NO_POOL).http or _NO_HTTP
    common = options.common_http_protocol_options
    idle = tcp.idle_timeout if http.idle_timeout is None else http.idle_timeout
    if idle is not None:
        common.idle_timeout.CopyFrom(build_duration(idle))
    if http.max_requests_per_connection > 0:
        common.max_requests_per_connection.value = http.max_requests_per_connection
    if tcp.max_connection_duration is not None:
        common.max_connection_duration.CopyFrom(build_duration(tcp.max_connection_duration))
    if http.use_client_protocol:
        options.use_downstream_protocol_config.http_protocol_options.SetInParent()
        options.use_downstream_protocol_config.http2_protocol_options.SetInParent()
    elif http2:
        two = options.explicit_http_config.http2_protocol_options
        two.SetInParent()
        if http.max_concurrent_streams > 0:
            two.max_concurrent_streams.value = http.max_concurrent_streams
        if http.http2_keep_alive is not None:
            keepalive = http.http2_keep_alive
            if keepalive.interval is not None:
                two.connection_keepalive.interval.CopyFrom(build_duration(keepalive.interval))
            if keepalive.timeout is not None:
                two.connection_keepalive.timeout.CopyFrom(build_duration(keepalive.timeout))


def attach_http_options(cluster: cluster_pb2.Cluster, options: HttpOptions) -> None:
    """Add *options* to the cluster unless they say nothing."""
    raw = options.SerializeToString(deterministic=True)
    if not raw:
        return
    if options.WhichOneof("upstream_protocol_options") is None:
        # Envoy wants one of them named.
        options.explicit_http_config.http_protocol_options.SetInParent()
        raw = options.SerializeToString(deterministic=True)
    cluster.typed_extension_protocol_options[HTTP_OPTIONS_NAME].CopyFrom(_pack(raw))


@lru_cache(1024)
def _pack(raw: bytes) -> Any:
    return Any(type_url=f"type.googleapis.com/{HTTP_OPTIONS_NAME}", value=raw)


@lru_cache(256)
def _build_breakers(
    connections: int, pending: int, requests: int, retries: int
) -> circuit_breaker_pb2.CircuitBreakers:
    """Shared between callers, who copy it: nearly all clusters have the same."""
    built = circuit_breaker_pb2.CircuitBreakers()
    limits = built.thresholds.add()
    limits.max_connections.value = _limit(connections)
    limits.max_pending_requests.value = _limit(pending)
    limits.max_requests.value = _limit(requests)
    limits.max_retries.value = _limit(retries)
    return built


def _limit(wanted: int) -> int:
    return wanted if wanted > 0 else UNLIMITED


def _build_budget(
    budget: RetryBudget,
) -> circuit_breaker_pb2.CircuitBreakers.Thresholds.RetryBudget:
    built = circuit_breaker_pb2.CircuitBreakers.Thresholds.RetryBudget()
    percent = _DEFAULT_BUDGET_PERCENT if budget.percent is None else budget.percent
    built.budget_percent.value = percent
    built.min_retry_concurrency.value = budget.min_retry_concurrency or _DEFAULT_BUDGET_CONCURRENCY
    return built


def _apply_keepalive(cluster: cluster_pb2.Cluster, keepalive: TcpKeepalive) -> None:
    """Fields that are not set stay as an earlier call left them."""
    built = cluster.upstream_connection_options.tcp_keepalive
    built.SetInParent()
    if keepalive.probes > 0:
        built.keepalive_probes.value = keepalive.probes
    if keepalive.time is not None:
        built.keepalive_time.value = int(keepalive.time)
    if keepalive.interval is not None:
        built.keepalive_interval.value = int(keepalive.interval)
