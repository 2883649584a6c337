"""Retry policies."""

import pytest
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.retry.priority.previous_priorities.v3 import previous_priorities_config_pb2

from aggregator.generators.retry import build_retry_policy, split_retry_on
from config.http_route import HTTPRetry
from tests.support.rules import decode_spec


def build(text: str, *, consistent_hash: bool = False) -> route_components_pb2.RetryPolicy:
    """The policy of a rule that retries."""
    built = build_retry_policy(decode_spec(HTTPRetry, text), consistent_hash=consistent_hash)
    assert built is not None
    return built


def test_default_is_istios() -> None:
    """Services without rules survive a failed connection, on another endpoint."""
    built = build_retry_policy(None, consistent_hash=False)

    assert built is not None
    assert built.retry_on == (
        "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
    )
    assert built.num_retries.value == 2
    assert built.host_selection_retry_max_attempts == 5
    assert [each.name for each in built.retry_host_predicate] == [
        "envoy.retry_host_predicates.previous_hosts"
    ]


def test_attempts_of_zero_switch_retries_off() -> None:
    """Requests that must not be repeated are not."""
    assert build_retry_policy(HTTPRetry(attempts=0), consistent_hash=False) is None


def test_times_and_counts_are_the_rules() -> None:
    """What a rule says replaces the default, field by field."""
    built = build("{attempts: 3, perTryTimeout: 250ms, backoff: 100ms}")

    assert built.num_retries.value == 3
    assert built.per_try_timeout.nanos == 250_000_000
    assert built.retry_back_off.base_interval.nanos == 100_000_000
    assert built.retry_on.startswith("connect-failure")


@pytest.mark.parametrize(
    ("text", "conditions", "codes"),
    [
        ("5xx,reset", ("5xx", "reset"), ()),
        ("503", (), (503,)),
        (" gateway-error , 429,, 503 ", ("gateway-error",), (429, 503)),
        ("999", ("999",), ()),
    ],
)
def test_status_codes_may_stand_among_conditions(
    text: str, conditions: tuple[str, ...], codes: tuple[int, ...]
) -> None:
    """Istio's retryOn mixes both; Envoy wants them apart."""
    assert split_retry_on(text) == (conditions, codes)


def test_status_codes_bring_their_condition_along() -> None:
    """Without it Envoy would not look at the codes."""
    built = build("{attempts: 1, retryOn: 'reset,503'}")

    assert built.retry_on == "reset,retriable-status-codes"
    assert list(built.retriable_status_codes) == [503]
    assert build("{attempts: 1, retryOn: 'retriable-status-codes,503'}").retry_on == (
        "retriable-status-codes"
    )


def test_other_localities_are_tried_when_asked_for() -> None:
    """A retry leaves the priority that failed."""
    built = build("{attempts: 2, retryRemoteLocalities: true}")

    packed = previous_priorities_config_pb2.PreviousPrioritiesConfig()
    assert built.retry_priority.typed_config.Unpack(packed)
    assert packed.update_frequency == 2
    assert not build("{attempts: 2}").HasField("retry_priority")


@pytest.mark.parametrize(
    ("text", "consistent_hash", "elsewhere"),
    [
        ("attempts: 1", False, True),
        ("attempts: 1", True, False),
        ("{attempts: 1, retryIgnorePreviousHosts: false}", False, False),
        ("{attempts: 1, retryIgnorePreviousHosts: true}", True, True),
    ],
)
def test_hashing_keeps_to_the_endpoint_unless_told_otherwise(
    text: str, *, consistent_hash: bool, elsewhere: bool
) -> None:
    """A session stays where its state is."""
    built = build(text, consistent_hash=consistent_hash)

    assert bool(built.retry_host_predicate) is elsewhere
