"""Retry policies of routes."""

from functools import lru_cache
from http import HTTPStatus
from typing import Final

from envoy.config.route.v3 import route_components_pb2 as route_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.extensions.retry.priority.previous_priorities.v3 import previous_priorities_config_pb2

from aggregator.generators.duration import build_duration
from config.http_route import HTTPRetry

DEFAULT_RETRY_ON: Final = (
    "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
)
DEFAULT_RETRIES: Final = 2
HOST_SELECTION_ATTEMPTS: Final = 5
_STATUS_CODES: Final = "retriable-status-codes"
_KNOWN_CODES: Final = frozenset(status.value for status in HTTPStatus)


@lru_cache(maxsize=256)
def build_retry_policy(
    policy: HTTPRetry | None, *, consistent_hash: bool
) -> route_pb2.RetryPolicy | None:
    """Istio's default where nothing is asked for; None where retries are switched off.

    The message is shared: copy it.

    With a consistent hash the same endpoint is tried again, unless the rule says otherwise.
    """
    if policy is not None and policy.attempts <= 0:
        return None
    built = route_pb2.RetryPolicy(
        retry_on=DEFAULT_RETRY_ON, host_selection_retry_max_attempts=HOST_SELECTION_ATTEMPTS
    )
    built.num_retries.value = policy.attempts if policy else DEFAULT_RETRIES
    elsewhere = not consistent_hash
    if policy is not None:
        if policy.retry_ignore_previous_hosts is not None:
            elsewhere = policy.retry_ignore_previous_hosts
        _set_policy(built, policy)
    if elsewhere:
        predicate = built.retry_host_predicate.add(
            name="envoy.retry_host_predicates.previous_hosts"
        )
        predicate.typed_config.Pack(previous_hosts_pb2.PreviousHostsPredicate())
    return built


def _set_policy(built: route_pb2.RetryPolicy, policy: HTTPRetry) -> None:
    if policy.retry_on:
        conditions, codes = split_retry_on(policy.retry_on)
        if codes and _STATUS_CODES not in conditions:
            conditions = (*conditions, _STATUS_CODES)
        built.retry_on = ",".join(conditions)
        built.retriable_status_codes.extend(codes)
    if policy.per_try_timeout is not None:
        built.per_try_timeout.CopyFrom(build_duration(policy.per_try_timeout))
    if policy.retry_remote_localities:
        built.retry_priority.name = "envoy.retry_priorities.previous_priorities"
        built.retry_priority.typed_config.Pack(
            previous_priorities_config_pb2.PreviousPrioritiesConfig(update_frequency=2)
        )
    if policy.backoff is not None:
        built.retry_back_off.base_interval.CopyFrom(build_duration(policy.backoff))


def split_retry_on(text: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Envoy's conditions, and the HTTP status codes that may stand among them."""
    conditions: list[str] = []
    codes: list[int] = []
    for part in (each.strip() for each in text.split(",")):
        if part.isdecimal() and int(part) in _KNOWN_CODES:
            codes.append(int(part))
        elif part:
            conditions.append(part)
    return tuple(conditions), tuple(codes)
