"""Conditions of rules as Envoy's matches, asked through the simulation of Envoy's matching."""

import pytest
from envoy.config.route.v3 import route_components_pb2, route_pb2

from aggregator.generators.route_match import (
    asks_for_claims,
    build_match,
    matches_everything,
)
from config.http_match import HTTPMatchRequest, StringMatch
from tests.support.route_table import Request, find_route
from tests.support.rules import decode_spec


def condition(text: str) -> HTTPMatchRequest:
    """A match entry in the form users write."""
    return decode_spec(HTTPMatchRequest, text)


def takes(match: HTTPMatchRequest | None, request: Request) -> bool:
    """Whether a route with that condition takes the request."""
    host = route_components_pb2.VirtualHost(
        domains=["*"], routes=[route_components_pb2.Route(name="r", match=build_match(match))]
    )
    return find_route(route_pb2.RouteConfiguration(virtual_hosts=[host]), request) is not None


GET = Request("reviews")


@pytest.mark.parametrize(
    ("text", "request_", "expected"),
    [
        ("uri: {exact: /a}", Request("r", "/a"), True),
        ("uri: {exact: /a}", Request("r", "/a/b"), False),
        ("uri: {prefix: /a}", Request("r", "/ab"), True),
        ("uri: {prefix: /a}", Request("r", "/b"), False),
        ("uri: {regex: '/a/[0-9]+'}", Request("r", "/a/12"), True),
        ("uri: {regex: '/a/[0-9]+'}", Request("r", "/a/12/b"), False),
        ("{uri: {prefix: /a}, ignoreUriCase: true}", Request("r", "/ABC"), True),
        ("uri: {prefix: /a}", Request("r", "/ABC"), False),
        ("method: {exact: POST}", GET, False),
        ("method: {regex: 'GET|HEAD'}", GET, True),
        ("scheme: {exact: https}", GET, False),
        ("authority: {prefix: rev}", GET, True),
        ("authority: {exact: ratings}", GET, False),
        ("headers: {X-User: {exact: ann}}", Request("r", headers={"x-user": "ann"}), True),
        ("headers: {X-User: {exact: ann}}", Request("r", headers={"x-user": "bob"}), False),
        ("headers: {X-User: {prefix: a}}", Request("r", headers={"x-user": "ann"}), True),
        ("headers: {x-user: {regex: 'a.*'}}", Request("r", headers={"x-user": "ann"}), True),
        ("headers: {x-user: {regex: '*'}}", Request("r", headers={"x-user": ""}), True),
        ("headers: {x-user: {}}", GET, False),
        ("headers: {x-user: {}}", Request("r", headers={"x-user": "ann"}), True),
        ("headers: {a: {exact: '1'}, b: {exact: '2'}}", Request("r", headers={"a": "1"}), False),
        ("withoutHeaders: {x-user: {}}", GET, True),
        ("withoutHeaders: {x-user: {}}", Request("r", headers={"x-user": "ann"}), False),
        ("withoutHeaders: {x: {exact: a}}", GET, True),
        ("withoutHeaders: {x: {exact: a}}", Request("r", headers={"x": "b"}), True),
        ("withoutHeaders: {x: {exact: a}}", Request("r", headers={"x": "a"}), False),
        ("queryParams: {v: {exact: '2'}}", Request("r", query={"v": "2"}), True),
        ("queryParams: {v: {exact: '2'}}", Request("r", query={"v": "3"}), False),
        ("queryParams: {v: {prefix: a}}", Request("r", query={"v": "ab"}), True),
        ("queryParams: {v: {}}", GET, False),
        ("queryParams: {v: {regex: '\\d+'}}", Request("r", query={"v": "12"}), True),
    ],
)
def test_each_condition_takes_what_its_words_say(
    text: str, request_: Request, *, expected: bool
) -> None:
    """A request goes where the rule's author reads that it goes."""
    assert takes(condition(text), request_) is expected


def test_no_condition_takes_everything() -> None:
    """A rule without a match is the last one."""
    assert takes(None, GET)
    assert matches_everything(build_match(None))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("uri: {prefix: /}", True),
        ("uri: {regex: '.*'}", True),
        ("{}", True),
        ("uri: {prefix: /a}", False),
        ("uri: {exact: /}", False),
        ("headers: {x: {}}", False),
        ("queryParams: {x: {}}", False),
        ("method: {exact: GET}", False),
    ],
)
def test_only_what_lets_nothing_past_matches_everything(text: str, *, expected: bool) -> None:
    """Rules after it are left out, so it must be sure."""
    assert matches_everything(build_match(condition(text))) is expected


def test_order_of_conditions_does_not_change_the_bytes() -> None:
    """The same rule from two sources is the same resource."""
    one = StringMatch(exact="1")
    left = HTTPMatchRequest(headers={"a": one, "b": one}, query_params={"c": one, "d": one})
    right = HTTPMatchRequest(headers={"b": one, "a": one}, query_params={"d": one, "c": one})

    assert build_match(left).SerializeToString() == build_match(right).SerializeToString()


def test_conditions_on_claims_are_recognised() -> None:
    """As headers they would match what a client writes into its request."""
    assert asks_for_claims(condition("headers: {'@request.auth.claims.group': {exact: dev}}"))
    assert asks_for_claims(condition("withoutHeaders: {'@request.auth.claims[a]': {}}"))
    assert not asks_for_claims(condition("headers: {group: {exact: dev}}"))
    assert not asks_for_claims(None)
