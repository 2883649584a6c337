"""Faults and cross-origin settings of single routes."""

from typing import TypeVar

import pytest
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from google.protobuf.message import Message

from aggregator.generators.filters.cors import FILTER as CORS_FILTER
from aggregator.generators.filters.fault import FILTER as FAULT_FILTER
from aggregator.generators.route_filter import build_filter_settings
from config.http_route import HTTPRoute
from tests.support.rules import decode_spec

M = TypeVar("M", bound=Message)


def read(text: str, name: str, message: M) -> M:
    """The settings that a rule gives one filter."""
    settings = build_filter_settings(decode_spec(HTTPRoute, text))
    assert settings[name].Unpack(message)
    return message


def fault(text: str) -> fault_pb2.HTTPFault:
    """The fault of a rule."""
    return read(f"fault: {text}", FAULT_FILTER.name, fault_pb2.HTTPFault())


def cors(text: str) -> cors_pb2.CorsPolicy:
    """The cross-origin policy of a rule."""
    return read(f"corsPolicy: {text}", CORS_FILTER.name, cors_pb2.CorsPolicy())


def test_rule_without_either_has_no_settings() -> None:
    """Settings on every route would be bytes for nothing."""
    assert build_filter_settings(HTTPRoute()) == {}


def test_delay_holds_a_share_for_a_time() -> None:
    """Percentages go down to a ten-thousandth."""
    built = fault("{delay: {fixedDelay: 2s, percentage: {value: 0.5}}}")

    assert built.delay.fixed_delay.seconds == 2
    assert built.delay.percentage.numerator == 5_000
    assert built.delay.percentage.denominator == built.delay.percentage.MILLION
    assert not built.HasField("abort")


def test_older_percent_of_delays_counts() -> None:
    """Rules of earlier years still hold."""
    assert fault("{delay: {fixedDelay: 2s, percent: 10}}").delay.percentage.numerator == 100_000


@pytest.mark.parametrize(
    ("text", "http", "grpc"),
    [("httpStatus: 418", 418, 0), ("grpcStatus: UNAVAILABLE", 0, 14)],
)
def test_abort_answers_in_its_protocol(text: str, http: int, grpc: int) -> None:
    """A gRPC client gets a gRPC status."""
    built = fault(f"{{abort: {{{text}, percentage: {{value: 100}}}}}}")

    assert (built.abort.http_status, built.abort.grpc_status) == (http, grpc)
    assert built.abort.percentage.numerator == 1_000_000


def test_abort_without_a_share_aborts_nothing() -> None:
    """Istio's rule: a forgotten percentage does not take a service down."""
    assert fault("{abort: {httpStatus: 500}}").abort.percentage.numerator == 0


def test_fault_that_envoy_does_not_know_is_none() -> None:
    """Exponential delays were never built."""
    route = decode_spec(HTTPRoute, "fault: {delay: {exponentialDelay: 1s}}")

    assert build_filter_settings(route) == {}


def test_cors_lists_what_is_allowed() -> None:
    """Each field of the policy ends in the header that it is about."""
    built = cors(
        """
        allowOrigins: [{exact: 'https://a'}, {prefix: 'https://b'}, {regex: '.*c'}]
        allowMethods: [GET, POST]
        allowHeaders: [x-a, x-b]
        exposeHeaders: [x-c]
        maxAge: 24h
        allowCredentials: true
        """
    )

    origins = built.allow_origin_string_match
    assert [origins[0].exact, origins[1].prefix] == ["https://a", "https://b"]
    assert origins[2].safe_regex.regex == ".*c"
    assert (built.allow_methods, built.allow_headers) == ("GET,POST", "x-a,x-b")
    assert (built.expose_headers, built.max_age) == ("x-c", "86400")
    assert built.allow_credentials.value
    assert built.filter_enabled.default_value.numerator == 1_000_000


def test_older_list_of_origins_counts() -> None:
    """`allowOrigin` is exact."""
    assert cors("{allowOrigin: ['https://a']}").allow_origin_string_match[0].exact == "https://a"


@pytest.mark.parametrize(
    ("text", "forward"),
    [
        ("{}", True),
        ("{unmatchedPreflights: FORWARD}", True),
        ("{unmatchedPreflights: IGNORE}", False),
    ],
)
def test_preflights_of_other_origins_go_to_the_service_unless_ignored(
    text: str, *, forward: bool
) -> None:
    """A service that handles its own origins sees them."""
    assert cors(text).forward_not_matching_preflights.value is forward
