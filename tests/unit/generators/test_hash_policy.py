"""What is hashed of a request."""

import pytest
from google.protobuf import json_format

from aggregator.generators.hash_policy import build_hash_policy
from config.traffic_policy import TrafficPolicy
from tests.support.rules import decode_spec


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("httpHeaderName: x-user", {"header": {"headerName": "x-user"}}),
        ("useSourceIp: true", {"connectionProperties": {"sourceIp": True}}),
        ("httpQueryParameterName: user", {"queryParameter": {"name": "user"}}),
        (
            "httpCookie: {name: c, path: /p, ttl: 1.5s, attributes: [{name: a, value: b}]}",
            {
                "cookie": {
                    "name": "c",
                    "path": "/p",
                    "ttl": "1.500s",
                    "attributes": [{"name": "a", "value": "b"}],
                }
            },
        ),
        ("httpCookie: {name: c}", {"cookie": {"name": "c"}}),
        ("httpCookie: {name: c, ttl: 0s}", {"cookie": {"name": "c", "ttl": "0s"}}),
    ],
)
def test_each_key_is_what_the_policy_names(text: str, expected: dict[str, object]) -> None:
    """A cookie with a ttl, if of zero, is made by Envoy; one without is only read."""
    policy = decode_spec(TrafficPolicy, f"loadBalancer: {{consistentHash: {{{text}}}}}")

    built = build_hash_policy(policy)

    assert built is not None
    assert json_format.MessageToDict(built) == expected


def test_other_balancers_hash_nothing() -> None:
    """The route of a plain service has no hash policy."""
    assert build_hash_policy(None) is None
    assert build_hash_policy(decode_spec(TrafficPolicy, "loadBalancer: {simple: RANDOM}")) is None
    assert build_hash_policy(decode_spec(TrafficPolicy, "{}")) is None
