"""Changes to headers."""

from envoy.config.core.v3 import base_pb2

from aggregator.generators.header_change import build_header_change
from config.http_route import Headers
from tests.support.rules import decode_spec

OVERWRITE = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
APPEND = base_pb2.HeaderValueOption.APPEND_IF_EXISTS_OR_ADD


def test_set_replaces_and_add_appends() -> None:
    """The two words mean different things to the upstream."""
    change = build_header_change(
        decode_spec(
            Headers,
            """
            request: {set: {b: '1', a: '2'}, add: {c: '3'}, remove: [d]}
            response: {set: {e: '4'}, remove: [f]}
            """,
        )
    )

    assert [(each.header.key, each.append_action) for each in change.request_add] == [
        ("a", OVERWRITE),
        ("b", OVERWRITE),
        ("c", APPEND),
    ]
    assert change.request_remove == ("d",)
    assert [each.header.value for each in change.response_add] == ["4"]
    assert change.response_remove == ("f",)
    assert change.authority == ""


def test_host_is_a_rewrite_of_the_authority() -> None:
    """Envoy refuses to change these as headers, and the response has no authority."""
    change = build_header_change(
        decode_spec(
            Headers,
            """
            request: {set: {Host: a.example}, add: {':authority': b.example}, remove: [host, x]}
            response: {set: {host: c.example}}
            """,
        )
    )

    assert change.authority == "a.example"
    assert not change.request_add
    assert change.request_remove == ("x",)
    assert not change.response_add


def test_empty_value_stays_a_header() -> None:
    """Envoy would leave out a header without a value."""
    change = build_header_change(decode_spec(Headers, "request: {set: {a: ''}}"))

    assert [each.keep_empty_value for each in change.request_add] == [True]


def test_nothing_asked_changes_nothing() -> None:
    """Most rules do not touch headers."""
    assert not build_header_change(None).request_add
