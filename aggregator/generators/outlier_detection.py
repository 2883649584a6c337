"""When Envoy ejects an endpoint, as a DestinationRule says; success rates play no part in it."""

from collections.abc import Iterable

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.common.matcher.v3 import matcher_pb2
from google.protobuf.wrappers_pb2 import UInt32Value

from aggregator.generators.duration import build_duration
from config.traffic_policy import OutlierDetection


def apply_outlier_detection(cluster: cluster_pb2.Cluster, settings: OutlierDetection) -> None:
    """Set the cluster's detection, and the share of healthy endpoints below which all are used."""
    built = cluster.outlier_detection
    built.enforcing_success_rate.value = 0
    _enforce(
        settings.consecutive_5xx_errors, built.consecutive_5xx, built.enforcing_consecutive_5xx
    )
    _enforce(
        _gateway_errors(settings),
        built.consecutive_gateway_failure,
        built.enforcing_consecutive_gateway_failure,
    )
    if settings.interval is not None:
        built.interval.CopyFrom(build_duration(settings.interval))
    if settings.base_ejection_time is not None:
        built.base_ejection_time.CopyFrom(build_duration(settings.base_ejection_time))
    if settings.max_ejection_percent > 0:
        built.max_ejection_percent.value = settings.max_ejection_percent
    if settings.split_external_local_origin_errors:
        built.split_external_local_origin_errors = True
        built.enforcing_local_origin_success_rate.value = 0
        if settings.consecutive_local_origin_failures:
            _enforce(
                settings.consecutive_local_origin_failures,
                built.consecutive_local_origin_failure,
                built.enforcing_consecutive_local_origin_failure,
            )
    cluster.common_lb_config.healthy_panic_threshold.value = max(settings.min_health_percent, 0)


def build_error_matcher(codes: Iterable[int]) -> matcher_pb2.MatchPredicate:
    """Matches responses with one of the status codes, of which there must be one."""
    rules = [_build_status_rule(code) for code in codes]
    if len(rules) == 1:
        return rules[0]
    return matcher_pb2.MatchPredicate(or_match=matcher_pb2.MatchPredicate.MatchSet(rules=rules))


def _gateway_errors(settings: OutlierDetection) -> int | None:
    if settings.consecutive_gateway_errors is not None:
        return settings.consecutive_gateway_errors
    return settings.consecutive_errors or None


def _enforce(limit: int | None, count: UInt32Value, enforcing: UInt32Value) -> None:
    """A limit that is set is always enforced, 0 turns it off; Envoy's default holds otherwise."""
    if limit is not None:
        count.value = limit
        enforcing.value = 100 if limit else 0


def _build_status_rule(code: int) -> matcher_pb2.MatchPredicate:
    predicate = matcher_pb2.MatchPredicate()
    header = predicate.http_response_headers_match.headers.add(name=":status")
    header.string_match.exact = str(code)
    return predicate
