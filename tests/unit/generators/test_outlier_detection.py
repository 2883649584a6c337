"""Ejection of endpoints."""

from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from google.protobuf import json_format

from aggregator.generators.outlier_detection import apply_outlier_detection, build_error_matcher
from aggregator.model.errors import Origin
from config.shape import decode_struct
from config.traffic_policy import OutlierDetection


def detect(**settings: Any) -> dict[str, Any]:
    cluster = cluster_pb2.Cluster()
    apply_outlier_detection(
        cluster, decode_struct(settings, OutlierDetection, "", lambda _: Origin())
    )
    return json_format.MessageToDict(cluster, preserving_proto_field_name=True)


def test_an_empty_setting_means_envoys_defaults_without_success_rates() -> None:
    """Success rates would eject endpoints that no rule speaks of; and panic is off, as in Istio."""
    assert detect() == {
        "outlier_detection": {"enforcing_success_rate": 0},
        "common_lb_config": {"healthy_panic_threshold": {}},
    }


def test_every_field_reaches_envoy() -> None:
    """A limit that is set is enforced in every case, and 0 turns it off."""
    built = detect(
        consecutive5xxErrors=0,
        consecutiveGatewayErrors=3,
        splitExternalLocalOriginErrors=True,
        consecutiveLocalOriginFailures=4,
        interval="1.5s",
        baseEjectionTime="2m",
        maxEjectionPercent=50,
        minHealthPercent=20,
    )

    assert built == {
        "outlier_detection": {
            "consecutive_5xx": 0,
            "enforcing_consecutive_5xx": 0,
            "consecutive_gateway_failure": 3,
            "enforcing_consecutive_gateway_failure": 100,
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 4,
            "enforcing_consecutive_local_origin_failure": 100,
            "enforcing_local_origin_success_rate": 0,
            "enforcing_success_rate": 0,
            "interval": "1.500s",
            "base_ejection_time": "120s",
            "max_ejection_percent": 50,
        },
        "common_lb_config": {"healthy_panic_threshold": {"value": 20.0}},
    }


def test_failures_of_our_own_count_only_where_they_are_split() -> None:
    """Envoy ignores the count otherwise; sending it would look as if it worked."""
    built = detect(consecutiveLocalOriginFailures=4)

    assert "consecutive_local_origin_failure" not in built["outlier_detection"]


def test_the_older_name_of_gateway_errors_counts_where_the_newer_is_absent() -> None:
    """Rules written for older Istios keep their meaning."""
    older = detect(consecutiveErrors=7)
    both = detect(consecutiveErrors=7, consecutiveGatewayErrors=2)

    assert older["outlier_detection"]["consecutive_gateway_failure"] == 7
    assert both["outlier_detection"]["consecutive_gateway_failure"] == 2


def test_status_codes_can_be_chosen() -> None:
    """Services that answer 500 for good reasons say which codes mean illness."""
    one, two = build_error_matcher([503]), build_error_matcher([500, 503])

    def code(rule: Any) -> str:
        [header] = rule.http_response_headers_match.headers
        assert header.name == ":status"
        return str(header.string_match.exact)

    assert code(one) == "503"
    assert [code(rule) for rule in two.or_match.rules] == ["500", "503"]
