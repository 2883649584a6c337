"""What a VirtualService's HTTP rules do with a request, as client and backend see it."""

import asyncio
from typing import Final

import pytest

from tests.e2e.conftest import BOTH_VARIANTS, Backends
from tests.support.poll import eventually
from tests.support.town import Case, Town

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

# With 400 requests, a share that is off by so much is seen by chance once in millions of runs.
REQUESTS: Final = 400
SLACK: Final = 0.12


async def shares(case: Case, count: int = REQUESTS, path: str = "/") -> dict[str, float]:
    """Which part of requests each backend answered; "" is none."""
    found: dict[str, float] = {}
    for _ in range(count):
        backend = (await case.send(path)).backend
        found[backend] = found.get(backend, 0) + 1 / count
    return found


async def made(town: Town, backends: Backends, name: str, text: str, **put_in: str | int) -> Case:
    """A case with three subsets and one rule, in force."""
    case = town.case(name)
    case.service(backends.v1, backends.v2, backends.v3)
    case.subsets(backends.v1, backends.v2, backends.v3)
    case.rule(text, name="", hosts=(), **put_in)
    return await case.apply()


@BOTH_VARIANTS
async def test_weights(town: Town, backends: Backends) -> None:
    """Destinations share requests by weight; then the file is edited, and they share anew."""
    rule = """
        http:
        - route:
          - {destination: {host: <host>, subset: v1}, weight: <first>}
          - {destination: {host: <host>, subset: v2}, weight: <second>}
          - {destination: {host: <host>, subset: v3}, weight: 0}
        """
    case = await made(town, backends, "weights", rule, first=75, second=25)
    found = await shares(case)
    assert found.keys() == {"v1", "v2"}
    assert found["v1"] == pytest.approx(0.75, abs=SLACK)

    case.rule(rule, first=0, second=100)
    await case.apply()
    assert await shares(case, 50) == {"v2": pytest.approx(1)}


async def test_destination_is_another_service(town: Town, backends: Backends) -> None:
    """A rule may send to any host, and to the port that it names."""
    case = town.case("elsewhere")
    case.service(backends.v1)
    case.service(backends.v2, host="other.elsewhere.test", port=town.ports.reserve())
    case.rule("http: [{route: [{destination: {host: other.elsewhere.test}}]}]")
    await case.apply()

    answer = await case.send("/x")
    assert answer.backend == "v2"
    assert answer.data["headers"]["host"] == case.host


async def test_host_without_a_service(town: Town, backends: Backends) -> None:
    """A VirtualService alone makes a host known on the ports of the services beside it."""
    case = town.case("virtual")
    case.service(backends.v1, host="real.virtual.test")
    case.rule(
        "http: [{route: [{destination: {host: real.virtual.test}}]}]",
        hosts=[case.host, "real.virtual.test"],
    )
    await case.apply()

    assert (await case.send()).backend == "v1"


async def test_wildcard_host(town: Town, backends: Backends) -> None:
    """A rule for ``*.<domain>`` holds for hosts under it that have no rule of their own."""
    case = town.case("wild")
    case.service(backends.v1, host=f"a.{case.host}")
    case.service(backends.v2, host=f"b.{case.host}")
    teapot = "http: [{directResponse: {status: 418}}]"
    case.rule(teapot, hosts=[f"*.{case.host}"])
    case.rule(
        "http: [{route: [{destination: {host: <target>}}]}]",
        name="own",
        hosts=[f"b.{case.host}"],
        target=f"b.{case.host}",
    )
    await case.apply()

    assert (await case.send(host=f"a.{case.host}")).status == 418
    assert (await case.send(host=f"b.{case.host}")).backend == "v2"


REWRITES: Final = {
    "prefix": ("match: [{uri: {prefix: /old}}]", "{uri: /new}", "/old/x?y=1", "/new/x", ""),
    "prefix-slash": ("match: [{uri: {prefix: /old/}}]", "{uri: /}", "/old/x", "/x", ""),
    "exact": ("match: [{uri: {exact: /old}}]", "{uri: /new}", "/old", "/new", ""),
    "whole": ("name: any", "{uri: /new}", "/x", "/newx", ""),
    "authority": ("name: any", "{authority: inner.test}", "/x", "/x", "inner.test"),
    "both": (
        "match: [{uri: {prefix: /a}}]",
        "{uri: /b, authority: inner.test}",
        "/a/c",
        "/b/c",
        "inner.test",
    ),
    "regex": (
        "name: any",
        "{uriRegexRewrite: {match: '^/service/([^/]+)(/.*)$', rewrite: '\\2/at/\\1'}}",
        "/service/foo/v1/api",
        "/v1/api/at/foo",
        "",
    ),
}


@BOTH_VARIANTS
@pytest.mark.parametrize("kind", REWRITES)
async def test_rewrite(town: Town, backends: Backends, kind: str) -> None:
    """The backend sees the rewritten path and authority, and the query as it was."""
    match, rewrite, asked, path, authority = REWRITES[kind]
    case = await made(
        town,
        backends,
        f"rewrite-{kind}",
        """
        http:
        - <match>
          rewrite: <rewrite>
          route: [{destination: {host: <host>, subset: v1}}]
        """,
        match=match,
        rewrite=rewrite,
    )
    answer = await case.send(asked)

    assert answer.status == 200
    assert answer.data["path"] == path
    assert answer.data["query"] == ({"y": "1"} if "?" in asked else {})
    assert answer.data["headers"]["host"] == (authority or case.host)


REDIRECTS: Final = {
    "uri": ("{uri: /new}", 301, "http://<host>/new?x=1"),
    "authority": ("{authority: other.test}", 301, "http://other.test/old?x=1"),
    "both": ("{uri: /new, authority: other.test}", 301, "http://other.test/new?x=1"),
    "code": ("{uri: /new, redirectCode: 308}", 308, "http://<host>/new?x=1"),
    "scheme": ("{scheme: https}", 301, "https://<host>/old?x=1"),
    "port": ("{port: 8443, scheme: https}", 301, "https://<host>:8443/old?x=1"),
    "derived-protocol-port": (
        "{scheme: https, derivePort: FROM_PROTOCOL_DEFAULT}",
        301,
        "https://<host>/old?x=1",
    ),
    "derived-request-port": (
        "{uri: /new, derivePort: FROM_REQUEST_PORT}",
        301,
        "http://<host>:<port>/new?x=1",
    ),
}


@pytest.mark.parametrize("kind", REDIRECTS)
async def test_redirect(town: Town, backends: Backends, kind: str) -> None:
    """The client is told the new place, and no backend is asked."""
    redirect, status, location = REDIRECTS[kind]
    case = await made(
        town,
        backends,
        f"redirect-{kind}",
        "http: [{match: [{uri: {prefix: /old}}], redirect: <redirect>}]",
        redirect=redirect,
    )
    answer = await case.send("/old?x=1")

    wanted = location.replace("<host>", case.host).replace("<port>", str(town.port))
    assert (answer.status, answer.headers["location"]) == (status, wanted)
    assert not case.received(backends.v1)


@BOTH_VARIANTS
async def test_direct_response(town: Town, backends: Backends) -> None:
    """Envoy answers itself, with text or bytes, or with nothing."""
    case = await made(
        town,
        backends,
        "direct",
        """
        http:
        - match: [{uri: {exact: /text}}]
          directResponse: {status: 503, body: {string: busy}}
        - match: [{uri: {exact: /bytes}}]
          directResponse: {status: 200, body: {bytes: aGVsbG8=}}
        - directResponse: {status: 404}
        """,
    )
    answers = [await case.send(path) for path in ("/text", "/bytes", "/none")]

    assert [(each.status, each.body) for each in answers] == [
        (503, "busy"),
        (200, "hello"),
        (404, ""),
    ]
    assert not case.received(backends.v1)


@BOTH_VARIANTS
async def test_headers(town: Town, backends: Backends) -> None:
    """Headers of requests and responses are changed, for a rule and for a destination."""
    case = await made(
        town,
        backends,
        "headers",
        """
        http:
        - headers:
            request: {set: {x-set: rule, x-both: rule}, add: {x-add: rule}, remove: [x-gone]}
            response: {set: {x-answer: rule}, add: {x-more: rule}, remove: [x-backend]}
          route:
          - destination: {host: <host>, subset: v1}
            headers:
              request: {set: {x-both: destination}, add: {x-add: destination}, remove: [x-hidden]}
              response: {set: {x-place: destination}}
        """,
    )
    sent = {"x-set": "client", "x-add": "client", "x-gone": "1", "x-hidden": "1", "x-kept": "1"}
    answer = await case.send(headers=sent)
    seen = answer.data["headers"]

    assert seen["x-set"] == "rule"
    assert seen["x-both"] in ("destination", "rule")
    assert seen["x-kept"] == "1"
    assert not seen.keys() & {"x-gone", "x-hidden"}
    assert answer.headers["x-answer"] == "rule"
    assert answer.headers["x-more"] == "rule"
    assert answer.headers["x-place"] == "destination"
    assert "x-backend" not in answer.headers


async def test_headers_of_one_among_destinations(town: Town, backends: Backends) -> None:
    """A destination's headers go with its requests only; the authority can be set like a header."""
    case = await made(
        town,
        backends,
        "headers-weighted",
        """
        http:
        - headers: {request: {set: {":authority": renamed.test}}}
          route:
          - destination: {host: <host>, subset: v1}
            weight: 50
            headers: {request: {set: {x-mark: one}}}
          - destination: {host: <host>, subset: v2}
            weight: 50
        """,
    )
    marks = set()
    for _ in range(60):
        answer = await case.send()
        marks.add((answer.backend, answer.data["headers"].get("x-mark", "")))
        assert answer.data["headers"]["host"] == "renamed.test"

    assert marks == {("v1", "one"), ("v2", "")}


@BOTH_VARIANTS
async def test_timeout(town: Town, backends: Backends) -> None:
    """A request ends with 504 when its time is over, and lives on where there is more of it."""
    case = await made(
        town,
        backends,
        "timeout",
        """
        http:
        - match: [{uri: {prefix: /short}}]
          timeout: 0.2s
          retries: {attempts: 0}
          route: [{destination: {host: <host>, subset: v1}}]
        - route: [{destination: {host: <host>, subset: v1}}]
        """,
    )
    late = await case.send("/short?delay=1")
    assert late.status == 504
    assert 0.19 <= late.seconds < 0.9
    assert (await case.send("/short")).status == 200
    assert (await case.send("/long?delay=0.4")).status == 200


RETRY: Final = """
http:
- retries: <retries>
  route: [{destination: {host: <host>, subset: v1}}]
"""


@BOTH_VARIANTS
async def test_retries(town: Town, backends: Backends) -> None:
    """The backend gets the request again until it succeeds or the attempts are used up."""
    retries = "{attempts: 2, retryOn: 5xx}"
    case = await made(town, backends, "retries", RETRY, retries=retries)

    assert (await case.send("/once?fail=1&key=a")).status == 200
    assert (await case.send("/always?fail=9&key=b&status=500")).status == 500

    def attempts(path: str) -> int:
        return sum(each.path == path for each in case.received(backends.v1))

    assert (attempts("/once"), attempts("/always")) == (2, 3)


async def test_retries_on_chosen_failures_only(town: Town, backends: Backends) -> None:
    """`retryOn` lists conditions and status codes; what it does not list is not tried again."""
    retries = "{attempts: 3, retryOn: 'gateway-error,409'}"
    case = await made(town, backends, "retry-on", RETRY, retries=retries)
    answers = {
        status: (await case.send(f"/{status}?fail=1&key={status}&status={status}")).status
        for status in (503, 409, 500, 404)
    }

    assert answers == {503: 200, 409: 200, 500: 500, 404: 404}


async def test_no_retries(town: Town, backends: Backends) -> None:
    """0 attempts switch off the retries that hold otherwise."""
    case = await made(town, backends, "no-retries", RETRY, retries="{attempts: 0}")

    assert (await case.send("/?fail=1&status=503")).status == 503
    assert len(case.received(backends.v1)) == 1


async def test_default_retries(town: Town, backends: Backends) -> None:
    """Without a word about retries, connections that fail are tried elsewhere, twice at most."""
    case = town.case("default-retries")
    gone = town.ports.reserve()
    dead = {"address": "127.0.0.1", "ports": {"http": gone}}
    case.service(backends.v1, backends.v2, per_endpoint=[dead])
    await case.apply()

    answers = [(await case.send()).backend for _ in range(12)]
    assert answers == ["v2"] * 12


async def test_time_limit_of_each_try(town: Town, backends: Backends) -> None:
    """`perTryTimeout` ends one attempt; the next one has its own time."""
    retries = "{attempts: 2, perTryTimeout: 0.15s, retryOn: 'gateway-error'}"
    case = await made(town, backends, "per-try", RETRY, retries=retries)
    answer = await case.send("/?delay=2")

    assert answer.status == 504
    assert 0.4 <= answer.seconds < 1.5
    assert len(case.received(backends.v1)) == 3


FAULT: Final = """
http:
- match: [{uri: {prefix: /faulty}}]
  fault: <fault>
  route: [{destination: {host: <host>, subset: v1}}]
- route: [{destination: {host: <host>, subset: v1}}]
"""


@BOTH_VARIANTS
async def test_fault_abort(town: Town, backends: Backends) -> None:
    """A share of requests is answered with the error, and does not reach the backend."""
    fault = "{abort: {httpStatus: 418, percentage: {value: 40}}}"
    case = await made(town, backends, "abort", FAULT, fault=fault)
    statuses = [(await case.send("/faulty")).status for _ in range(REQUESTS)]

    assert set(statuses) == {200, 418}
    assert statuses.count(418) / REQUESTS == pytest.approx(0.4, abs=SLACK)
    assert len(case.received(backends.v1)) == statuses.count(200)
    assert (await case.send("/")).status == 200


@BOTH_VARIANTS
async def test_fault_delay(town: Town, backends: Backends) -> None:
    """A share of requests waits before it goes on."""
    fault = "{delay: {fixedDelay: 0.8s, percentage: {value: 50}}}"
    case = await made(town, backends, "delay", FAULT, fault=fault)
    answers = await asyncio.gather(*(case.send("/faulty") for _ in range(60)))
    late = [each for each in answers if each.seconds >= 0.79]

    assert all(each.status == 200 for each in answers)
    assert 10 < len(late) < 50
    assert (await case.send("/")).seconds < 0.79


async def test_fault_delay_and_abort(town: Town, backends: Backends) -> None:
    """Both at once: the error comes late."""
    every = "percentage: {value: 100}"
    fault = f"{{delay: {{fixedDelay: 0.2s, {every}}}, abort: {{httpStatus: 503, {every}}}}}"
    case = await made(town, backends, "delay-abort", FAULT, fault=fault)
    answer = await case.send("/faulty")

    assert answer.status == 503
    assert answer.seconds >= 0.19
    assert not case.received(backends.v1)


@BOTH_VARIANTS
async def test_mirror(town: Town, backends: Backends) -> None:
    """A copy of every request goes to the mirror, whose answers nobody sees."""
    case = await made(
        town,
        backends,
        "mirror",
        """
        http:
        - route: [{destination: {host: <host>, subset: v1}}]
          mirror: {host: <host>, subset: v2}
        """,
    )
    for number in range(10):
        answer = await case.send(f"/{number}", method="POST", body=b"content")
        assert answer.backend == "v1"

    await eventually(lambda: len(case.received(backends.v2)) == 10)
    copy = case.received(backends.v2)[0]
    assert (copy.method, copy.body) == ("POST", "content")
    assert len(case.received(backends.v1)) == 10


async def test_mirrors_with_shares(town: Town, backends: Backends) -> None:
    """Several mirrors, each with its own share of the requests."""
    case = await made(
        town,
        backends,
        "mirrors",
        """
        http:
        - route: [{destination: {host: <host>, subset: v1}}]
          mirrors:
          - destination: {host: <host>, subset: v2}
          - {destination: {host: <host>, subset: v3}, percentage: {value: 30}}
        """,
    )
    for _ in range(REQUESTS):
        assert (await case.send()).backend == "v1"

    await eventually(lambda: len(case.received(backends.v2)) == REQUESTS)
    share = len(case.received(backends.v3)) / REQUESTS
    assert share == pytest.approx(0.3, abs=SLACK)


@BOTH_VARIANTS
async def test_cors(town: Town, backends: Backends) -> None:
    """Envoy answers preflights of allowed origins, and marks the answers to their requests."""
    case = await made(
        town,
        backends,
        "cors",
        """
        http:
        - route: [{destination: {host: <host>, subset: v1}}]
          corsPolicy:
            allowOrigins: [{exact: "https://shop.test"}, {regex: "https://.*[.]shop[.]test"}]
            allowMethods: [GET, PUT]
            allowHeaders: [x-user]
            exposeHeaders: [x-total]
            maxAge: 1h
            allowCredentials: true
        """,
    )
    asked = {"origin": "https://a.shop.test", "access-control-request-method": "PUT"}
    preflight = await case.send(method="OPTIONS", headers=asked)
    assert preflight.status == 200
    assert not case.received(backends.v1)
    told = {name: value for name, value in preflight.headers.items() if "access-control" in name}
    assert told == {
        "access-control-allow-origin": "https://a.shop.test",
        "access-control-allow-methods": "GET,PUT",
        "access-control-allow-headers": "x-user",
        "access-control-expose-headers": "x-total",
        "access-control-allow-credentials": "true",
        "access-control-max-age": "3600",
    }

    answer = await case.send(headers={"origin": "https://shop.test"})
    assert answer.backend == "v1"
    assert answer.headers["access-control-allow-origin"] == "https://shop.test"
    assert answer.headers["access-control-expose-headers"] == "x-total"
    other = await case.send(headers={"origin": "https://evil.test"})
    assert "access-control-allow-origin" not in other.headers
