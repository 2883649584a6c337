"""Each condition of a VirtualService's HTTP rules decides where real requests go."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest

from tests.e2e.conftest import BOTH_VARIANTS, Backends
from tests.support.town import Case, Town

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

Request = Mapping[str, Any]
Condition = tuple[str, list[Request], list[Request]]


def to(path: str = "/", **request: Any) -> Request:
    """Arguments of `Case.send`."""
    return {"path": path, **request}


def having(**headers: str) -> Request:
    """A request with headers, their underscores meaning hyphens."""
    return {"headers": {name.replace("_", "-"): value for name, value in headers.items()}}


CONDITIONS: Final[dict[str, Condition]] = {
    "uri-exact": ("uri: {exact: /a}", [to("/a"), to("/a?b=/c")], [to("/a/"), to("/A"), to("/ab")]),
    "uri-prefix": ("uri: {prefix: /api}", [to("/api"), to("/api/x"), to("/apix")], [to("/ap")]),
    "uri-regex": (
        "uri: {regex: '/v[0-9]+/items'}",
        [to("/v1/items"), to("/v12/items?x=2")],
        [to("/v1/items/3"), to("/x/v1/items"), to("/v/items")],
    ),
    "uri-exact-any-case": (
        "{uri: {exact: /Cart}, ignoreUriCase: true}",
        [to("/cart"), to("/CART")],
        [to("/carts")],
    ),
    "uri-prefix-any-case": (
        "{uri: {prefix: /Cart}, ignoreUriCase: true}",
        [to("/cart/1"), to("/CARTS")],
        [to("/car")],
    ),
    "scheme": ("scheme: {exact: http}", [to()], []),
    "other-scheme": ("scheme: {exact: https}", [], [to()]),
    "method-exact": (
        "method: {exact: POST}",
        [to(method="POST", body=b"x")],
        [to(), to(method="PUT")],
    ),
    "method-regex": (
        "method: {regex: 'PUT|PATCH'}",
        [to(method="PUT"), to(method="PATCH")],
        [to(), to(method="POST")],
    ),
    "authority-exact": (
        "authority: {exact: '<host>:81'}",
        [to(host="<host>:81")],
        [to(), to(host="<host>:82")],
    ),
    "authority-prefix": (
        "authority: {prefix: '<host>:8'}",
        [to(host="<host>:81")],
        [to(), to(host="<host>:99")],
    ),
    "header-exact": (
        "headers: {x-user: {exact: ann}}",
        [having(x_user="ann"), having(X_User="ann")],
        [to(), having(x_user="anna"), having(x_user="Ann")],
    ),
    "header-prefix": (
        "headers: {x-user: {prefix: an}}",
        [having(x_user="ann"), having(x_user="an")],
        [to(), having(x_user="joan")],
    ),
    "header-regex": (
        "headers: {x-user: {regex: 'a.*n'}}",
        [having(x_user="ann"), having(x_user="an")],
        [to(), having(x_user="anna"), having(x_user="joan")],
    ),
    "header-present": (
        "headers: {x-user: {}}",
        [having(x_user="ann"), having(x_user="")],
        [to(), having(x_other="ann")],
    ),
    "without-header-exact": (
        "withoutHeaders: {x-user: {exact: ann}}",
        [to(), having(x_user="bob")],
        [having(x_user="ann")],
    ),
    "without-header-present": (
        "withoutHeaders: {x-user: {}}",
        [to()],
        [having(x_user="ann")],
    ),
    "query-exact": (
        "queryParams: {who: {exact: ann}}",
        [to("/?who=ann"), to("/x?a=b&who=ann")],
        [to(), to("/?who=anna"), to("/who=ann")],
    ),
    "query-prefix": (
        "queryParams: {who: {prefix: an}}",
        [to("/?who=ann")],
        [to(), to("/?who=joan")],
    ),
    "query-regex": (
        "queryParams: {who: {regex: 'a+'}}",
        [to("/?who=aaa")],
        [to(), to("/?who=ab")],
    ),
    "port": ("port: <port>", [to()], []),
    "other-port": ("port: 1", [], [to()]),
    "source-labels": ("sourceLabels: {app: caller, version: v7}", [to()], []),
    "other-source-labels": ("sourceLabels: {app: caller, version: v8}", [], [to()]),
    "source-namespace": ("sourceNamespace: <namespace>", [to()], []),
    "other-source-namespace": ("sourceNamespace: elsewhere", [], [to()]),
    "mesh-gateway": ("gateways: [mesh]", [to()], []),
    "other-gateway": ("gateways: [ingress]", [], [to()]),
    "all-of-several": (
        "{uri: {prefix: /api}, method: {exact: POST}, headers: {x-user: {exact: ann}}}",
        [{**to("/api", method="POST"), **having(x_user="ann")}],
        [to("/api", method="POST"), {**to("/api"), **having(x_user="ann")}],
    ),
}

RULE: Final = """
http:
- match:
  - <condition>
  route:
  - destination: {host: <host>, subset: v2}
- route:
  - destination: {host: <host>, subset: v1}
"""


@BOTH_VARIANTS
@pytest.mark.parametrize("condition", CONDITIONS)
async def test_condition_picks_the_rule(town: Town, backends: Backends, condition: str) -> None:
    """Requests that satisfy the condition go by its rule, all others by the next one."""
    text, taken, passed = CONDITIONS[condition]
    case = town.case(condition)
    case.service(backends.v1, backends.v2)
    case.subsets(backends.v1, backends.v2)
    case.rule(RULE, condition=text if text.startswith("{") else f"{{{text}}}")
    await case.apply()

    assert await _backends_of(case, taken) == ["v2"] * len(taken)
    assert await _backends_of(case, passed) == ["v1"] * len(passed)


async def _backends_of(case: Case, requests: Sequence[Request]) -> list[str]:
    found = []
    for each in requests:
        host = str(each.get("host", "")).replace("<host>", case.host)
        found.append((await case.send(**{**each, "host": host})).backend)
    return found


async def test_one_of_several_matches_is_enough(town: Town, backends: Backends) -> None:
    """Matches of one rule are alternatives."""
    case = town.case("alternatives")
    case.service(backends.v1, backends.v2)
    case.subsets(backends.v1, backends.v2)
    case.rule(RULE, condition="{uri: {exact: /a}}\n  - {uri: {exact: /b}}")
    await case.apply()

    assert await _backends_of(case, [to("/a"), to("/b"), to("/c")]) == ["v2", "v2", "v1"]


async def test_first_rule_that_matches_wins(town: Town, backends: Backends) -> None:
    """The order of rules is that of the file, however specific they are."""
    case = town.case("order")
    case.service(backends.v1, backends.v2, backends.v3)
    case.subsets(backends.v1, backends.v2, backends.v3)
    case.rule(
        """
        http:
        - match: [{uri: {prefix: /a}}]
          route: [{destination: {host: <host>, subset: v1}}]
        - match: [{uri: {exact: /a/b}}]
          route: [{destination: {host: <host>, subset: v2}}]
        - route: [{destination: {host: <host>, subset: v3}}]
        """
    )
    await case.apply()

    assert await _backends_of(case, [to("/a/b"), to("/a"), to("/b")]) == ["v1", "v1", "v3"]


async def test_nothing_matches(town: Town, backends: Backends) -> None:
    """Without a rule that takes all, what matches none is not found, and reaches no endpoint."""
    case = town.case("unmatched")
    case.service(backends.v1)
    case.rule(
        """
        http:
        - match: [{uri: {prefix: /a}}]
          route: [{destination: {host: <host>}}]
        """
    )
    await case.apply()

    assert (await case.send("/a")).backend == "v1"
    assert (await case.send("/b")).status == 404
    assert [each.path for each in case.received(backends.v1)] == ["/a"]


async def test_port_of_the_listener_picks_the_rule(town: Town, backends: Backends) -> None:
    """A service on two ports can have a rule for each."""
    case = town.case("ports")
    second = town.ports.reserve()
    ports = [
        {"name": "first", "number": town.port, "protocol": "HTTP"},
        {"name": "second", "number": second, "protocol": "HTTP"},
    ]
    at = [
        {"ports": {"first": each.port, "second": each.port}} for each in (backends.v1, backends.v2)
    ]
    case.service(backends.v1, backends.v2, more={"ports": ports}, per_endpoint=at)
    case.subsets(backends.v1, backends.v2)
    case.rule(RULE, condition=f"{{port: {second}}}")
    await case.apply()

    assert (await case.send(port=second)).backend == "v2"
    assert (await case.send()).backend == "v1"


async def test_delegate(town: Town, backends: Backends) -> None:
    """A rule hands a part of its requests to another VirtualService, whose rules then decide."""
    case = town.case("delegate")
    case.service(backends.v1, backends.v2, backends.v3)
    case.subsets(backends.v1, backends.v2, backends.v3)
    case.rule(
        """
        http:
        - match: [{uri: {prefix: /a}}]
          delegate: {name: delegate-part, namespace: <namespace>}
        - route: [{destination: {host: <host>, subset: v3}}]
        """
    )
    case.rule(
        """
        http:
        - match: [{uri: {prefix: /a/b}}]
          route: [{destination: {host: <host>, subset: v2}}]
        - route: [{destination: {host: <host>, subset: v1}}]
        """,
        name="part",
    )
    await case.apply()

    requests = [to("/a/b/c"), to("/a"), to("/b")]
    assert await _backends_of(case, requests) == ["v2", "v1", "v3"]
