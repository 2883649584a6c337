"""Network filters that pass a connection on to clusters. Knows neither listeners nor rules."""

from collections.abc import Sequence

from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.type.v3 import hash_policy_pb2

from aggregator.generators.access_log import build_access_logs
from aggregator.generators.duration import build_duration
from aggregator.generators.spec import View
from config.traffic_policy import TrafficPolicy

FILTER_NAME = "envoy.filters.network.tcp_proxy"


def build_tcp_proxy(
    view: View,
    stat_prefix: str,
    clusters: Sequence[tuple[str, int]],
    policy: TrafficPolicy | None = None,
) -> listener_components_pb2.Filter:
    """Passes to one of *clusters*, (name, weight); *policy* is that of the first destination."""
    proxy = tcp_proxy_pb2.TcpProxy(stat_prefix=stat_prefix, access_log=build_access_logs(view))
    if len(clusters) == 1:
        proxy.cluster = clusters[0][0]
    else:
        for name, weight in clusters:
            proxy.weighted_clusters.clusters.add(name=name, weight=weight)
    if policy is not None:
        _apply_policy(proxy, policy)
    packed = listener_components_pb2.Filter(name=FILTER_NAME)
    packed.typed_config.Pack(proxy, deterministic=True)
    return packed


def _apply_policy(proxy: tcp_proxy_pb2.TcpProxy, policy: TrafficPolicy) -> None:
    pool = policy.connection_pool
    tcp = pool.tcp if pool is not None else None
    if tcp is not None:
        if tcp.idle_timeout is not None:
            proxy.idle_timeout.CopyFrom(build_duration(tcp.idle_timeout))
        if tcp.max_connection_duration is not None:
            proxy.max_downstream_connection_duration.CopyFrom(
                build_duration(tcp.max_connection_duration)
            )
    balancer = policy.load_balancer
    hashed = balancer.consistent_hash if balancer is not None else None
    # Of what a rule may hash, a connection has only the caller's address.
    if hashed is not None and hashed.use_source_ip:
        proxy.hash_policy.append(
            hash_policy_pb2.HashPolicy(source_ip=hash_policy_pb2.HashPolicy.SourceIp())
        )
