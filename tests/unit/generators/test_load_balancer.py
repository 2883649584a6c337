"""Balancing policies of clusters."""

from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2

from aggregator.generators.load_balancer import apply_load_balancer
from aggregator.model.errors import Origin
from config.shape import decode_struct
from config.traffic_policy import LoadBalancerSettings

Cluster = cluster_pb2.Cluster


def balance(
    *,
    grpc: bool = False,
    original_dst: bool = False,
    given: bool = True,
    by_share: bool = False,
    **settings: Any,
) -> cluster_pb2.Cluster:
    cluster = Cluster(type=Cluster.ORIGINAL_DST if original_dst else Cluster.EDS)
    decoded = decode_struct(settings, LoadBalancerSettings, "", lambda _: Origin())
    apply_load_balancer(cluster, decoded if given else None, by_share=by_share, grpc=grpc)
    return cluster


@pytest.mark.parametrize(
    ("simple", "policy"),
    [
        ("UNSPECIFIED", Cluster.LEAST_REQUEST),
        ("LEAST_REQUEST", Cluster.LEAST_REQUEST),
        ("LEAST_CONN", Cluster.LEAST_REQUEST),
        ("ROUND_ROBIN", Cluster.ROUND_ROBIN),
        ("RANDOM", Cluster.RANDOM),
    ],
)
def test_simple_policies(simple: str, policy: cluster_pb2.Cluster.LbPolicy.ValueType) -> None:
    """Each of the API's names has its Envoy policy; gRPC knows round robin only."""
    assert balance(simple=simple).lb_policy == policy
    assert balance(simple=simple, grpc=True).lb_policy == Cluster.ROUND_ROBIN


def test_least_request_is_the_default() -> None:
    """As in Istio: it copes best with endpoints of unequal speed."""
    assert balance(given=False).lb_policy == Cluster.LEAST_REQUEST
    assert balance().lb_policy == Cluster.LEAST_REQUEST


def test_a_cluster_that_follows_the_connection_balances_nothing() -> None:
    """Envoy refuses any other policy for it."""
    assert balance(simple="ROUND_ROBIN", original_dst=True).lb_policy == Cluster.CLUSTER_PROVIDED


def test_warm_up_slows_the_start_of_new_endpoints() -> None:
    """The message's own defaults are a linear rise from 10 %."""
    full = balance(warmup={"duration": "30s", "aggression": 2, "minimumPercent": 25})
    bare = balance(simple="ROUND_ROBIN", warmup={"duration": "1m"})

    start = full.least_request_lb_config.slow_start_config
    assert start.slow_start_window.seconds == 30
    assert (start.aggression.default_value, start.min_weight_percent.value) == (2.0, 25.0)
    start = bare.round_robin_lb_config.slow_start_config
    assert start.slow_start_window.seconds == 60
    assert (start.aggression.default_value, start.min_weight_percent.value) == (1.0, 10.0)
    assert start.aggression.runtime_key


def test_the_older_warm_up_field_still_works() -> None:
    """Rules written for older Istios keep their meaning."""
    built = balance(warmupDurationSecs="15s")

    assert built.least_request_lb_config.slow_start_config.slow_start_window.seconds == 15


def test_warm_up_is_not_for_random_nor_for_grpc() -> None:
    """Neither has such a setting; a config of another policy would be refused."""
    assert balance(simple="RANDOM", warmup={"duration": "1s"}).WhichOneof("lb_config") is None
    assert balance(grpc=True, warmup={"duration": "1s"}).WhichOneof("lb_config") is None


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({}, 1024),
        ({"minimumRingSize": 2048}, 2048),
        ({"ringHash": {"minimumRingSize": 4096}}, 4096),
        ({"ringHash": {}}, 0),
        ({"ringHash": {"minimumRingSize": 2**40}}, 8_388_608),
    ],
)
def test_consistent_hashing_uses_a_ring(settings: dict[str, Any], size: int) -> None:
    """Both forms of its size count; Envoy refuses larger ones than it supports."""
    built = balance(consistentHash={"useSourceIp": True, **settings})

    assert built.lb_policy == Cluster.RING_HASH
    assert built.ring_hash_lb_config.minimum_ring_size.value == size


def test_maglev_is_the_other_kind_of_consistent_hashing() -> None:
    """gRPC has rings only, which hash as consistently."""
    settings = {"useSourceIp": True, "maglev": {"tableSize": 65537}}

    built = balance(consistentHash=settings)

    assert built.lb_policy == Cluster.MAGLEV
    assert built.maglev_lb_config.table_size.value == 65537
    assert balance(consistentHash=settings, grpc=True).lb_policy == Cluster.RING_HASH


@pytest.mark.parametrize("by_place", [True, False])
def test_places_weigh_only_where_that_is_wanted(by_place: bool) -> None:
    """Weights of places take the choice from the policy, so they are on only where needed."""
    cluster = Cluster(type=Cluster.EDS)

    apply_load_balancer(cluster, None, by_place=by_place)

    assert cluster.common_lb_config.HasField("locality_weighted_lb_config") is by_place


@pytest.mark.parametrize(
    ("simple", "policy"),
    [
        ("UNSPECIFIED", Cluster.ROUND_ROBIN),
        ("RANDOM", Cluster.ROUND_ROBIN),
        ("LEAST_REQUEST", Cluster.LEAST_REQUEST),
        ("ROUND_ROBIN", Cluster.ROUND_ROBIN),
    ],
)
def test_registries_share_by_a_policy_that_heeds_weights(
    simple: str, policy: cluster_pb2.Cluster.LbPolicy.ValueType
) -> None:
    """A share of 10 % is 10 %, not what is left by how fast the others are."""
    assert balance(simple=simple, by_share=True).lb_policy == policy
    assert balance(given=False, by_share=True).lb_policy == Cluster.ROUND_ROBIN
    hashed = {"useSourceIp": True}
    assert balance(consistentHash=hashed, by_share=True).lb_policy == Cluster.RING_HASH
