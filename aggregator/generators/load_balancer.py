"""How a cluster balances: the policy, slow start, consistent hashing, and the weights of places."""

from typing import Final

from envoy.config.cluster.v3 import cluster_pb2

from aggregator.generators.duration import build_duration
from config.traffic_policy import (
    ConsistentHashLB,
    LoadBalancerSettings,
    SimpleLB,
    WarmupConfiguration,
)

DEFAULT_RING_SIZE: Final = 1024
_LARGEST_RING: Final = 8_388_608
# Envoy insists on a key for a value that may change at run time; this one nobody sets.
_RUNTIME_KEY: Final = "("
_DEFAULT_AGGRESSION: Final = 1.0
_DEFAULT_MINIMUM_PERCENT: Final = 10.0
_BY_WEIGHT: Final = frozenset({SimpleLB.ROUND_ROBIN, SimpleLB.LEAST_REQUEST, SimpleLB.LEAST_CONN})


def apply_load_balancer(
    cluster: cluster_pb2.Cluster,
    settings: LoadBalancerSettings | None,
    *,
    by_place: bool = False,
    by_share: bool = False,
    grpc: bool = False,
) -> None:
    """Set the policy; *by_place* says that places share by their weights, *by_share* that
    registries share by those of their endpoints.

    gRPC's core takes round robin and rings only. A cluster that takes its destination from the
    connection balances nothing.
    """
    if by_place:
        cluster.common_lb_config.locality_weighted_lb_config.SetInParent()
    if cluster.type == cluster_pb2.Cluster.ORIGINAL_DST:
        cluster.lb_policy = cluster_pb2.Cluster.CLUSTER_PROVIDED
        return
    if settings is not None and settings.consistent_hash is not None:
        _apply_consistent_hash(cluster, settings.consistent_hash, grpc=grpc)
        return
    simple = settings.simple if settings else None
    if grpc or simple is SimpleLB.ROUND_ROBIN or (by_share and not heeds_weights(settings)):
        cluster.lb_policy = cluster_pb2.Cluster.ROUND_ROBIN
    elif simple is SimpleLB.RANDOM:
        cluster.lb_policy = cluster_pb2.Cluster.RANDOM
    else:
        cluster.lb_policy = cluster_pb2.Cluster.LEAST_REQUEST
    slow_start = _build_slow_start(settings)
    if slow_start is not None and not grpc:
        if cluster.lb_policy == cluster_pb2.Cluster.ROUND_ROBIN:
            cluster.round_robin_lb_config.slow_start_config.CopyFrom(slow_start)
        elif cluster.lb_policy == cluster_pb2.Cluster.LEAST_REQUEST:
            cluster.least_request_lb_config.slow_start_config.CopyFrom(slow_start)


def heeds_weights(settings: LoadBalancerSettings | None) -> bool:
    """Whether the policy that the user chose sends each endpoint what it weighs.

    Envoy's random choice does not, and its default sends less to who is slow.
    """
    if settings is None:
        return False
    return settings.consistent_hash is not None or settings.simple in _BY_WEIGHT


def _apply_consistent_hash(
    cluster: cluster_pb2.Cluster, settings: ConsistentHashLB, *, grpc: bool
) -> None:
    if settings.maglev is not None and not grpc:
        cluster.lb_policy = cluster_pb2.Cluster.MAGLEV
        if settings.maglev.table_size:
            cluster.maglev_lb_config.table_size.value = settings.maglev.table_size
        return
    cluster.lb_policy = cluster_pb2.Cluster.RING_HASH
    size: int = settings.minimum_ring_size or DEFAULT_RING_SIZE
    if settings.ring_hash is not None:
        size = settings.ring_hash.minimum_ring_size
    if size:
        cluster.ring_hash_lb_config.minimum_ring_size.value = min(size, _LARGEST_RING)


def _build_slow_start(
    settings: LoadBalancerSettings | None,
) -> cluster_pb2.Cluster.SlowStartConfig | None:
    if settings is None:
        return None
    if settings.warmup is not None:
        return _build_warmup(settings.warmup)
    if settings.warmup_duration_secs is not None:
        return cluster_pb2.Cluster.SlowStartConfig(
            slow_start_window=build_duration(settings.warmup_duration_secs)
        )
    return None


def _build_warmup(warmup: WarmupConfiguration) -> cluster_pb2.Cluster.SlowStartConfig:
    slow_start = cluster_pb2.Cluster.SlowStartConfig(
        slow_start_window=build_duration(warmup.duration or 0)
    )
    slow_start.aggression.default_value = (
        _DEFAULT_AGGRESSION if warmup.aggression is None else warmup.aggression
    )
    slow_start.aggression.runtime_key = _RUNTIME_KEY
    slow_start.min_weight_percent.value = (
        _DEFAULT_MINIMUM_PERCENT if warmup.minimum_percent is None else warmup.minimum_percent
    )
    return slow_start
