"""Tests of config.kinds.virtual_service, and of the HTTP rules and matches in it."""

import pytest

from config.decode import load_config
from config.kinds.virtual_service import KIND
from tests.support.documents import fault_paths, faults, load, rule, warning_paths

KIND_NAME = "VirtualService"
ROUTE = "route: [{destination: {host: reviews}}]"


def http(rest: str, match: str = "") -> str:
    """A rule with one HTTP route to reviews and something more."""
    matched = f"match: [{match}], " if match else ""
    return f"{{hosts: [reviews], http: [{{{matched}{ROUTE}, {rest}}}]}}"


def test_a_plain_rule_is_sound() -> None:
    """No problem is made up."""
    found = load(KIND_NAME, f"{{hosts: [reviews], http: [{{{ROUTE}}}]}}")

    assert found.warnings == ()


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        ("{hosts: [reviews]}", ["spec"]),
        (f"{{hosts: ['*'], http: [{{{ROUTE}}}]}}", ["hosts[0]"]),
        (f"{{hosts: ['*'], gateways: [gw], http: [{{{ROUTE}}}]}}", []),
        (f"{{hosts: [a_b, 10.0.0.1], http: [{{{ROUTE}}}]}}", ["hosts[0]"]),
        (f"{{hosts: [a.b.c, '*.b.c'], http: [{{{ROUTE}}}]}}", ["hosts[1]"]),
        (f"{{hosts: [a.b], gateways: [a/b/c, /x, a_b], http: [{{{ROUTE}}}]}}",
         ["gateways[0]", "gateways[1]", "gateways[2]"]),
        (f"{{hosts: [a.b], exportTo: [x, x], http: [{{{ROUTE}}}]}}", ["exportTo[1]"]),
        (f"{{gateways: [gw], http: [{{{ROUTE}}}], tcp: [{{{ROUTE}}}]}}", ["gateways", "tcp"]),
        ("{http: [{delegate: {name: x}}]}", ["http[0].delegate", "http[0]"]),
        ("{hosts: [a.b], http: [{delegate: {name: x}}]}", []),
        (f"{{hosts: [a.b], http: [{{delegate: {{name: x}}, {ROUTE}}}]}}", ["http[0]"]),
    ],
)  # fmt: skip
def test_hosts_gateways_and_delegates_fit_together(spec: str, paths: list[str]) -> None:
    """What a rule speaks of, and where it applies."""
    assert fault_paths(KIND_NAME, spec) == paths


@pytest.mark.parametrize(
    ("action", "paths"),
    [
        ("{}", ["http[0]"]),
        ("{redirect: {uri: /x}}", []),
        ("{directResponse: {status: 200}}", []),
        (f"{{redirect: {{uri: /x}}, {ROUTE}}}", ["http[0]"]),
        (f"{{directResponse: {{status: 200}}, {ROUTE}}}", ["http[0]"]),
        ("{redirect: {uri: /x}, rewrite: {uri: /y}}", ["http[0]"]),
        ("{redirect: {uri: /x}, directResponse: {status: 200}}", ["http[0]"]),
        ("{directResponse: {status: 200}, fault: {delay: {fixedDelay: 1s}}}", ["http[0]"]),
        ("{redirect: {}}", ["http[0].redirect"]),
        ("{redirect: {uri: /x, prefixRewrite: /y}}", ["http[0].redirect"]),
        ("{redirect: {derivePort: FROM_REQUEST_PORT}}", []),
        ("{redirect: {port: 1, derivePort: FROM_REQUEST_PORT}}", ["http[0].redirect"]),
        ("{redirect: {uri: /x, redirectCode: 200}}", ["http[0].redirect.redirectCode"]),
        ("{redirect: {scheme: ftp}}", ["http[0].redirect.scheme"]),
        ("{redirect: {port: 70000}}", ["http[0].redirect.port"]),
        ("{redirect: {prefixRewrite: /x}, match: [{uri: {exact: /y}}]}",
         ["http[0].redirect.prefixRewrite"]),
        ("{redirect: {prefixRewrite: /x}, match: [{uri: {prefix: /y}}]}", []),
        ("{directResponse: {status: 199}}", ["http[0].directResponse.status"]),
        ("{directResponse: {status: 200, body: {string: a, bytes: aGk=}}}",
         ["http[0].directResponse.body"]),
        ("{route: [{destination: {host: ''}}]}", ["http[0].route[0].destination.host"]),
        ("{route: [{}]}", ["http[0].route[0].destination.host"]),
        ("{route: [{destination: {host: '*'}}]}", ["http[0].route[0].destination.host"]),
        ("{route: [{destination: {host: a, subset: a_b, port: {}}}]}",
         ["http[0].route[0].destination.subset", "http[0].route[0].destination.port.number"]),
        ("{route: [{destination: {host: a}, weight: -1}]}", ["http[0].route[0].weight"]),
        ("{route: [{destination: {host: a}}, {destination: {host: b}}]}", ["http[0].route"]),
        ("{route: [{destination: {host: a}, weight: 1}, {destination: {host: b}}]}", []),
        ("{route: [{destination: {host: a}, headers: {request: {set: {':path': x}}}}]}",
         ['http[0].route[0].headers.request.set[":path"]']),
    ],
)  # fmt: skip
def test_a_rule_does_one_thing_soundly(action: str, paths: list[str]) -> None:
    """Routes, redirects, direct responses and delegates exclude each other."""
    assert fault_paths(KIND_NAME, f"{{hosts: [a.b], http: [{action}]}}") == paths


@pytest.mark.parametrize(
    ("match", "path"),
    [
        ("{uri: {prefix: ''}}", ""),
        ("{uri: {regex: '('}}", "uri.regex"),
        ("{uri: {exact: /a, prefix: /b}}", "uri"),
        ("{scheme: {prefix: ''}}", "scheme.prefix"),
        ("{method: {regex: ''}}", "method.regex"),
        ("{authority: {regex: '[a'}}", "authority.regex"),
        ("{headers: {x-id: {}}}", ""),
        ("{headers: {':path': {exact: /}}}", ""),
        ("{headers: {'a b': {exact: x}}}", 'headers["a b"]'),
        ("{headers: {x-id: null}}", "headers.x-id"),
        ("{withoutHeaders: {x-id: {regex: '*'}}}", ""),
        ("{withoutHeaders: {x-id: {regex: '('}}}", "withoutHeaders.x-id.regex"),
        ("{headers: {'@request.auth.claims.sub': {exact: x}}}",
         'headers["@request.auth.claims.sub"]'),
        ("{queryParams: {q: {prefix: ''}}}", "queryParams.q.prefix"),
        ("{port: 70000}", "port"),
        ("{sourceLabels: {'a b': c}}", 'sourceLabels["a b"]'),
        ("{gateways: [a/b/c]}", "gateways[0]"),
        ("{sourceNamespace: a.b}", "sourceNamespace"),
    ],
)  # fmt: skip
def test_matches_are_conditions_that_envoy_takes(match: str, path: str) -> None:
    """Each condition is judged on its own field."""
    found = fault_paths(KIND_NAME, http("timeout: 1s", match))

    assert found == ([f"http[0].match[0].{path}"] if path else [])


def test_claims_can_be_matched_at_gateways() -> None:
    """Sidecars do not route by a token's claims."""
    match = "{headers: {'@request.auth.claims.sub': {exact: x}}}"
    spec = f"{{hosts: [a.b], gateways: [gw], http: [{{match: [{match}], {ROUTE}}}]}}"

    assert fault_paths(KIND_NAME, spec) == []


@pytest.mark.parametrize(
    ("rest", "path"),
    [
        ("timeout: 0s", "timeout"),
        ("timeout: 0.0005s", "timeout"),
        ("retries: {attempts: -1}", "retries.attempts"),
        ("retries: {attempts: 0}", ""),
        ("retries: {retryOn: 5xx}", "retries.attempts"),
        ("retries: {attempts: 1, retryOn: '5xx,503,reset'}", ""),
        ("retries: {attempts: 1, retryOn: '5xx,nonsense'}", "retries.retryOn"),
        ("retries: {attempts: 1, retryOn: '999'}", "retries.retryOn"),
        ("retries: {attempts: 1, perTryTimeout: 0s}", "retries.perTryTimeout"),
        ("retries: {attempts: 1, backoff: 0s}", "retries.backoff"),
        ("fault: {}", "fault"),
        ("fault: {delay: {fixedDelay: 0s}}", "fault.delay.fixedDelay"),
        ("fault: {delay: {exponentialDelay: 1s}}", "fault.delay.exponentialDelay"),
        ("fault: {delay: {fixedDelay: 1s, percentage: {value: 101}}}",
         "fault.delay.percentage.value"),
        ("fault: {abort: {httpStatus: 700}}", "fault.abort.httpStatus"),
        ("fault: {abort: {httpStatus: 500, percentage: {value: 0.00001}}}",
         "fault.abort.percentage.value"),
        ("fault: {abort: {httpStatus: 500, percentage: {value: .nan}}}",
         "fault.abort.percentage.value"),
        ("fault: {abort: {grpcStatus: NOT_FOUND}}", ""),
        ("fault: {abort: {grpcStatus: NOTHING}}", "fault.abort.grpcStatus"),
        ("fault: {abort: {http2Error: x}}", "fault.abort.http2Error"),
        ("fault: {abort: {httpStatus: 500, grpcStatus: ABORTED}}", "fault.abort"),
        ("mirror: {host: a_b}", "mirror.host"),
        ("mirror: {host: a}, mirrors: [{destination: {host: b}}]", "."),
        ("mirrors: [{percentage: {value: 5}}]", "mirrors[0].destination.host"),
        ("mirrors: [{destination: {host: a}, percentage: {value: -1}}]",
         "mirrors[0].percentage.value"),
        ("mirrorPercentage: {value: 101}", "mirrorPercentage.value"),
        ("mirrorPercent: 101", "mirrorPercent"),
        ("rewrite: {}", "rewrite"),
        ("rewrite: {uri: /x, uriRegexRewrite: {match: a, rewrite: b}}", "rewrite"),
        ("rewrite: {uriRegexRewrite: {match: '(', rewrite: b}}", "rewrite.uriRegexRewrite.match"),
        ("rewrite: {uriRegexRewrite: {match: a}}", "rewrite.uriRegexRewrite.rewrite"),
        ("rewrite: {authority: a}, headers: {request: {set: {Host: b}}}",
         "headers.request.set.Host"),
        ("headers: {request: {set: {':authority': b}}}", ""),
        ("headers: {request: {add: {x: 'a%b'}}}", "headers.request.add.x"),
        ("headers: {request: {remove: [host]}}", "headers.request.remove[0]"),
        ("headers: {response: {set: {':status': '1'}}}", 'headers.response.set[":status"]'),
        ("headers: {response: {add: {'': x}}}", 'headers.response.add[""]'),
        ("corsPolicy: {allowOrigins: [{}]}", "corsPolicy.allowOrigins[0]"),
        ("corsPolicy: {allowOrigins: [{regex: '('}]}", "corsPolicy.allowOrigins[0].regex"),
        ("corsPolicy: {allowMethods: [GET, '*']}", ""),
        ("corsPolicy: {allowMethods: [FETCH]}", "corsPolicy.allowMethods[0]"),
        ("corsPolicy: {allowHeaders: ['*', 'a b']}", "corsPolicy.allowHeaders[1]"),
        ("corsPolicy: {exposeHeaders: ['']}", "corsPolicy.exposeHeaders[0]"),
        ("corsPolicy: {maxAge: 1.5s}", "corsPolicy.maxAge"),
    ],
)  # fmt: skip
def test_what_is_done_beside_routing_is_sound(rest: str, path: str) -> None:
    """Timeouts, retries, faults, mirrors, rewrites, headers and CORS."""
    expected = {"": [], ".": ["http[0]"]}.get(path, [f"http[0].{path}"])

    assert fault_paths(KIND_NAME, http(rest)) == expected


@pytest.mark.parametrize(
    ("rule_", "paths"),
    [
        ("tls: [{match: [{sniHosts: [a.b]}], route: [{destination: {host: x}}]}]", []),
        ("tls: [{route: [{destination: {host: x}}]}]", ["tls[0].match"]),
        ("tls: [{match: [{}], route: [{destination: {host: x}}]}]", ["tls[0].match[0].sniHosts"]),
        ("tls: [{match: [{sniHosts: [c.d]}], route: [{destination: {host: x}}]}]",
         ["tls[0].match[0].sniHosts[0]"]),
        ("tls: [{match: [{sniHosts: [a.b]}]}]", ["tls[0].route"]),
        ("tcp: [{}]", ["tcp[0].route"]),
        ("tcp: [{match: [{destinationSubnets: [x], port: 70000}], route: [{destination: {host: x}}]"
         "}]", ["tcp[0].match[0].destinationSubnets[0]", "tcp[0].match[0].port"]),
        ("tcp: [{route: [{destination: {host: x}}, {destination: {host: y}}]}]", ["tcp[0].route"]),
    ],
)  # fmt: skip
def test_tcp_and_tls_rules_are_judged_too(rule_: str, paths: list[str]) -> None:
    """SNI must be one of the rule's hosts."""
    assert fault_paths(KIND_NAME, f"{{hosts: [a.b], {rule_}}}") == paths


@pytest.mark.parametrize(
    ("http_rules", "paths"),
    [
        (f"[{{{ROUTE}}}, {{match: [{{uri: {{exact: /}}}}], {ROUTE}}}]", ["http[1]"]),
        (f"[{{match: [{{port: 1}}], {ROUTE}}}, {{match: [{{port: 1, name: x}}], {ROUTE}}}]",
         ["http[1].match[0]"]),
        (f"[{{match: [{{uri: {{prefix: /a}}}}], {ROUTE}}},"
         f" {{match: [{{uri: {{prefix: /ab}}}}], {ROUTE}}}]", ["http[1].match[0]"]),
        (f"[{{match: [{{uri: {{prefix: /a}}, port: 1}}], {ROUTE}}},"
         f" {{match: [{{uri: {{prefix: /ab}}}}], {ROUTE}}}]", []),
        (f"[{{match: [{{uri: {{prefix: /ab}}}}], {ROUTE}}},"
         f" {{match: [{{uri: {{prefix: /a}}}}], {ROUTE}}}]", []),
        (f"[{{{ROUTE}, mirrorPercent: 5}}]", ["http[0].mirrorPercent"]),
        (f"[{{{ROUTE}, fault: {{abort: {{}}}}}}]", ["http[0].fault.abort"]),
    ],
)  # fmt: skip
def test_the_author_is_warned_of_rules_without_effect(http_rules: str, paths: list[str]) -> None:
    """They are taken, because Istio takes them."""
    assert warning_paths(KIND_NAME, f"{{hosts: [a.b], http: {http_rules}}}") == paths


def test_large_bodies_are_warned_of_and_huge_ones_refused() -> None:
    """They go to every proxy."""

    def spec(size: int) -> str:
        response = f"{{status: 200, body: {{string: {'x' * size}}}}}"
        return f"{{hosts: [a.b], http: [{{directResponse: {response}}}]}}"

    assert warning_paths(KIND_NAME, spec(1_000)) == []
    assert warning_paths(KIND_NAME, spec(200_000)) == ["http[0].directResponse.body"]
    assert fault_paths(KIND_NAME, spec(1_100_000)) == ["http[0].directResponse.body"]


def test_all_problems_come_at_once_at_their_lines() -> None:
    """The user mends the file in one go."""
    found = faults(
        KIND_NAME,
        """
        hosts: [a_b]
        http:
        - match:
          - uri: {regex: "("}
          route:
          - destination: {host: x}
            weight: -5
          timeout: 0s
        """,
    )

    assert [(each.origin.line, each.path) for each in found] == [
        (5, "spec.hosts[0]"),
        (8, "spec.http[0].match[0].uri.regex"),
        (11, "spec.http[0].route[0].weight"),
        (12, "spec.http[0].timeout"),
    ]
    assert {each.subject for each in found} == {"VirtualService shop/rule"}


def test_hosts_are_fully_qualified() -> None:
    """Look-ups are by the names that services have."""
    spec = f"{{hosts: [reviews, a.example.com, '*.b.c'], http: [{{{ROUTE}}}]}}"
    config = load(KIND_NAME, spec).config

    assert KIND.hosts(config, "mesh.local") == (
        "reviews.shop.svc.mesh.local",
        "a.example.com",
        "*.b.c",
    )


def test_selectors_are_the_source_labels_of_all_its_rules() -> None:
    """The push engine tells proxies apart by them, each set once."""
    spec = """
    hosts: [a.b]
    http:
    - match: [{sourceLabels: {app: x, v: "1"}}, {sourceLabels: {app: x, v: "1"}}, {port: 1}]
      route: [{destination: {host: x}}]
    tcp:
    - match: [{sourceLabels: {app: y}}]
      route: [{destination: {host: x}}]
    exportTo: [.]
    """
    config = load(KIND_NAME, spec).config

    assert KIND.selectors(config) == ((("app", "x"), ("v", "1")), (("app", "y"),))
    assert KIND.export_to(config) == (".",)


def test_every_version_of_the_api_is_read() -> None:
    """The fields are the same in all of them."""
    given = rule(KIND_NAME, f"{{hosts: [a.b], http: [{{{ROUTE}}}]}}")
    for version in ("v1", "v1beta1", "v1alpha3"):
        given.data["apiVersion"] = f"networking.istio.io/{version}"
        assert load_config(given, default_namespace="x").config.kind == KIND_NAME
