"""Redirects, direct answers, rewrites and mirrors."""

import pytest
from envoy.config.route.v3 import route_components_pb2 as route_pb2
from google.protobuf import json_format

from aggregator.generators.route_action import (
    Mirror,
    add_mirror,
    build_action,
    build_direct_response,
    build_redirect,
    set_rewrite,
)
from config.destination import Percent
from config.http_route import HTTPDirectResponse, HTTPRedirect, HTTPRewrite
from tests.support.rules import decode_spec


def redirect(text: str, port: int = 9080) -> dict[str, object]:
    """The redirect's fields, as JSON has them."""
    built = build_redirect(decode_spec(HTTPRedirect, text), port)
    assert built is not None
    return json_format.MessageToDict(built)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", {}),
        ("uri: /to", {"pathRedirect": "/to"}),
        ("prefixRewrite: /to", {"prefixRewrite": "/to"}),
        ("authority: a.example", {"hostRedirect": "a.example"}),
        ("scheme: https", {"schemeRedirect": "https"}),
        ("redirectCode: 302", {"responseCode": "FOUND"}),
        ("redirectCode: 303", {"responseCode": "SEE_OTHER"}),
        ("redirectCode: 307", {"responseCode": "TEMPORARY_REDIRECT"}),
        ("redirectCode: 308", {"responseCode": "PERMANENT_REDIRECT"}),
        ("port: 8443", {"portRedirect": 8443}),
        ("derivePort: FROM_REQUEST_PORT", {"portRedirect": 9080}),
        ("derivePort: FROM_PROTOCOL_DEFAULT", {}),
    ],
)
def test_each_part_of_a_redirect_is_the_rules(text: str, expected: dict[str, object]) -> None:
    """What a rule leaves out is as in the request; the status is 301."""
    assert redirect(text) == expected


@pytest.mark.parametrize(
    ("scheme", "port", "expected"), [("http", 80, 0), ("https", 443, 0), ("https", 80, 80)]
)
def test_the_schemes_own_port_is_not_written(scheme: str, port: int, expected: int) -> None:
    """Clients and caches tell ``http://a`` and ``http://a:80`` apart."""
    built = redirect(f"{{scheme: {scheme}, port: {port}}}")

    assert built.get("portRedirect", 0) == expected


def test_status_that_is_no_redirect_gives_none() -> None:
    """Envoy would refuse the whole table."""
    assert build_redirect(HTTPRedirect(redirect_code=200), 80) is None


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("status: 418", b""),
        ("{status: 418, body: {string: tea}}", b"tea"),
        ("{status: 418, body: {bytes: 3q0=}}", b"\xde\xad"),
    ],
)
def test_direct_response_has_its_body(text: str, body: bytes) -> None:
    """Bytes are base64 on the outside."""
    built = build_direct_response(decode_spec(HTTPDirectResponse, text))

    assert built.status == 418
    assert (built.body.inline_bytes or built.body.inline_string.encode()) == body


def test_rewrite_changes_prefix_and_authority() -> None:
    """Both may be asked for at once."""
    action = route_pb2.RouteAction()

    set_rewrite(action, decode_spec(HTTPRewrite, "{uri: /v1, authority: a.example}"))

    assert (action.prefix_rewrite, action.host_rewrite_literal) == ("/v1", "a.example")


def test_regex_rewrite_goes_before_the_prefix() -> None:
    """Envoy takes one of the two."""
    action = route_pb2.RouteAction()
    rewrite = r"{uriRegexRewrite: {match: '/(\d+)', rewrite: '/id/\1'}}"

    set_rewrite(action, decode_spec(HTTPRewrite, rewrite))

    assert action.regex_rewrite.pattern.regex == r"/(\d+)"
    assert action.regex_rewrite.substitution == r"/id/\1"
    assert not action.prefix_rewrite


def test_mirror_takes_its_share_and_none_of_zero() -> None:
    """Zero percent is how a mirror is switched off."""
    action = route_pb2.RouteAction()

    add_mirror(action, Mirror("a", Percent(12.5)))
    add_mirror(action, Mirror("b", Percent(0.0)))

    (built,) = action.request_mirror_policies
    assert built.cluster == "a"
    assert built.runtime_fraction.default_value.numerator == 125_000


def test_mirrored_requests_keep_their_host() -> None:
    """The mirror is a server like the other one, which would not know the name "host-shadow"."""
    action = route_pb2.RouteAction()

    add_mirror(action, Mirror("a", Percent(100.0)))

    assert action.request_mirror_policies[0].disable_shadow_host_suffix_append


@pytest.mark.parametrize(("timeout", "expected"), [(None, 0), (0.0, 0), (5.0, 5)])
def test_timeout_is_written_even_if_it_is_none(timeout: float | None, expected: int) -> None:
    """Left out it would be Envoy's own 15 seconds; another limit beside it switches it off."""
    action = build_action(timeout)

    assert action.HasField("timeout")
    assert action.timeout.seconds == expected
    assert not action.HasField("max_stream_duration")
