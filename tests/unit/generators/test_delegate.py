"""Rules of a VirtualService and of its delegate become one."""

import pytest

from aggregator.generators.delegate import merge_matches, merge_routes
from config.http_match import HTTPMatchRequest
from config.http_route import HTTPRoute
from tests.support.rules import decode_spec


def conditions(*texts: str) -> tuple[HTTPMatchRequest, ...]:
    """Match entries in the form users write."""
    return tuple(decode_spec(HTTPMatchRequest, text) for text in texts)


def merged(root: str, delegate: str) -> HTTPMatchRequest | None:
    """One entry of each side as one; None where they conflict."""
    pairs = merge_matches(conditions(root), conditions(delegate))
    return pairs[0][0] if pairs else None


def test_conditions_of_both_hold() -> None:
    """A delegate narrows what was delegated to it."""
    found = merged(
        "{uri: {prefix: /a}, headers: {x: {exact: '1'}}, port: 80}",
        "{uri: {prefix: /a/b}, headers: {y: {exact: '2'}}, method: {exact: GET}}",
    )

    assert (
        found
        == conditions(
            "{uri: {prefix: /a/b}, headers: {x: {exact: '1'}, y: {exact: '2'}}, port: 80,"
            " method: {exact: GET}}"
        )[0]
    )


@pytest.mark.parametrize(
    ("root", "delegate", "fits"),
    [
        ("uri: {prefix: /a}", "uri: {exact: /a/b}", True),
        ("uri: {prefix: /a}", "uri: {prefix: /b}", False),
        ("uri: {prefix: /a}", "uri: {exact: /b}", False),
        ("uri: {exact: /a}", "uri: {exact: /a}", True),
        ("uri: {exact: /a}", "uri: {exact: /b}", False),
        ("uri: {exact: /a}", "uri: {prefix: /a}", False),
        ("uri: {regex: '/a.*'}", "uri: {prefix: /a}", False),
        ("uri: {prefix: /a}", "uri: {regex: '/a.*'}", False),
        ("headers: {x: {exact: a}}", "headers: {x: {exact: b}}", False),
        ("headers: {x: {}}", "headers: {x: {exact: b}}", True),
        ("headers: {x: {exact: a}}", "headers: {y: {exact: b}}", True),
        ("withoutHeaders: {x: {exact: a}}", "withoutHeaders: {x: {exact: b}}", False),
        ("queryParams: {x: {exact: a}}", "queryParams: {x: {exact: b}}", False),
        ("port: 80", "port: 90", False),
        ("port: 80", "{}", True),
        ("{}", "port: 80", True),
        ("sourceNamespace: a", "sourceNamespace: b", False),
        ("sourceNamespace: a", "{}", True),
        ("sourceLabels: {app: a}", "sourceLabels: {app: b}", False),
        ("sourceLabels: {app: a}", "sourceLabels: {tier: b}", True),
        ("gateways: [mesh]", "gateways: [mesh, other]", False),
        ("gateways: [mesh, other]", "gateways: [mesh]", True),
        ("{uri: {prefix: /a}, ignoreUriCase: true}", "uri: {prefix: /a}", False),
    ],
)
def test_delegate_has_to_stay_within_the_root(root: str, delegate: str, *, fits: bool) -> None:
    """Whoever is delegated to cannot take over other requests."""
    assert (merged(root, delegate) is not None) is fits


def test_every_pair_that_fits_is_an_alternative() -> None:
    """Entries of one rule are alternatives on both sides."""
    pairs = merge_matches(
        conditions("uri: {prefix: /a}", "uri: {prefix: /b}"),
        conditions("uri: {prefix: /b/c}", "method: {exact: GET}"),
    )

    assert pairs is not None
    assert [(each.uri and each.uri.prefix, bool(each.method)) for each, _ in pairs] == [
        ("/b/c", False),
        ("/a", True),
        ("/b", True),
    ]


def test_one_entry_that_fits_nowhere_spoils_the_rule() -> None:
    """As in Istio: a rule is taken as a whole or not at all."""
    root = conditions("uri: {prefix: /a}")

    assert merge_matches(root, conditions("uri: {prefix: /a/b}", "uri: {prefix: /c}")) is None


def test_sides_without_conditions_take_those_of_the_other() -> None:
    """Nothing said is no condition."""
    some = conditions("uri: {prefix: /a}")

    assert merge_matches(some, ()) == ((some[0], some),)
    assert merge_matches((), some) == ((some[0], some),)
    assert merge_matches((), ()) == ()


def test_delegate_inherits_what_it_leaves_out() -> None:
    """The root sets defaults for those that it delegates to."""
    root = decode_spec(
        HTTPRoute,
        """
        name: outer
        timeout: 5s
        retries: {attempts: 1}
        rewrite: {uri: /x}
        mirrors: [{destination: {host: m}}]
        headers: {request: {set: {a: b}}}
        """,
    )
    delegate = decode_spec(
        HTTPRoute, "{name: inner, timeout: 1s, route: [{destination: {host: r}}]}"
    )

    found = merge_routes(root, delegate)

    assert found.name == "outer-inner"
    assert found.timeout == 1.0
    assert (found.retries, found.rewrite) == (root.retries, root.rewrite)
    assert (found.mirrors, found.headers) == (root.mirrors, root.headers)
    assert found.route == delegate.route
