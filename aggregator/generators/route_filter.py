"""Settings of HTTP filters that a single route carries: faults and cross-origin requests."""

from typing import Final

from envoy.config.core.v3 import base_pb2
from envoy.extensions.filters.common.fault.v3 import fault_pb2 as common_fault_pb2
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.type.matcher.v3 import string_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from aggregator.generators.duration import build_duration
from aggregator.generators.route_match import build_string_match
from config.destination import Percent
from config.http_route import (
    GRPC_STATUSES,
    Abort,
    CorsPolicy,
    Delay,
    HTTPFaultInjection,
    HTTPRoute,
    UnmatchedPreflights,
)

FAULT: Final = "envoy.filters.http.fault"
CORS: Final = "envoy.filters.http.cors"
_PER_PERCENT: Final = 10_000


def build_filter_settings(route: HTTPRoute) -> dict[str, Any]:
    """By the names of the filters; empty where the rule asks for nothing."""
    settings: dict[str, Message | None] = {
        FAULT: _build_fault(route.fault) if route.fault else None,
        CORS: _build_cors(route.cors_policy) if route.cors_policy else None,
    }
    return {name: _pack(message) for name, message in settings.items() if message is not None}


def build_percentage(percentage: Percent) -> percent_pb2.FractionalPercent:
    """To a ten-thousandth of a percent, which is as fine as Envoy has it."""
    return percent_pb2.FractionalPercent(
        numerator=round(percentage.value * _PER_PERCENT),
        denominator=percent_pb2.FractionalPercent.MILLION,
    )


def _pack(message: Message) -> Any:
    packed = Any()
    packed.Pack(message, deterministic=True)
    return packed


def _build_fault(fault: HTTPFaultInjection) -> fault_pb2.HTTPFault | None:
    delay = _build_delay(fault.delay) if fault.delay else None
    abort = _build_abort(fault.abort) if fault.abort else None
    return fault_pb2.HTTPFault(delay=delay, abort=abort) if delay or abort else None


def _build_delay(delay: Delay) -> common_fault_pb2.FaultDelay | None:
    """Exponential delays are not known to Envoy, nor to Istio any more."""
    if delay.fixed_delay is None:
        return None
    return common_fault_pb2.FaultDelay(
        fixed_delay=build_duration(delay.fixed_delay),
        percentage=build_percentage(delay.percentage or Percent(float(delay.percent))),
    )


def _build_abort(abort: Abort) -> fault_pb2.FaultAbort | None:
    """Without a percentage nothing is aborted, as Istio has it."""
    percentage = build_percentage(abort.percentage or Percent(0.0))
    if abort.http_status is not None:
        return fault_pb2.FaultAbort(http_status=abort.http_status, percentage=percentage)
    if abort.grpc_status is not None and abort.grpc_status in GRPC_STATUSES:
        return fault_pb2.FaultAbort(
            grpc_status=GRPC_STATUSES.index(abort.grpc_status), percentage=percentage
        )
    return None


def _build_cors(policy: CorsPolicy) -> cors_pb2.CorsPolicy:
    origins = [build_string_match(origin) for origin in policy.allow_origins]
    if not origins:
        origins = [string_pb2.StringMatcher(exact=origin) for origin in policy.allow_origin]
    built = cors_pb2.CorsPolicy(
        allow_origin_string_match=origins,
        allow_methods=",".join(policy.allow_methods),
        allow_headers=",".join(policy.allow_headers),
        expose_headers=",".join(policy.expose_headers),
        max_age="" if policy.max_age is None else str(int(policy.max_age)),
        filter_enabled=base_pb2.RuntimeFractionalPercent(
            default_value=build_percentage(Percent(100.0))
        ),
    )
    if policy.allow_credentials is not None:
        built.allow_credentials.value = policy.allow_credentials
    built.forward_not_matching_preflights.value = (
        policy.unmatched_preflights != UnmatchedPreflights.IGNORE
    )
    return built
