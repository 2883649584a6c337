"""Tests of config.kinds.sidecar, gateway and envoy_filter."""

import pytest

from config.kind_table import kinds
from tests.support.documents import fault_paths, faults, load, warning_paths


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        ("{egress: [{hosts: ['*/*']}]}", []),
        ("{}", ["spec"]),
        ("{workloadSelector: {labels: {a: b}}}", ["spec"]),
        ("{workloadSelector: {labels: {a: '*'}}, egress: [{hosts: ['*/*']}]}",
         ["workloadSelector.labels.a"]),
        ("{egress: [{}]}", ["egress[0].hosts"]),
        ("{egress: [{hosts: [a.b]}]}", ["egress[0].hosts[0]"]),
        ("{egress: [{hosts: ['~/*', '~shop/a.b', './*']}]}", []),
        ("{egress: [{hosts: ['*/*']}, {hosts: ['./*']}]}", ["egress[0]"]),
        ("{egress: [{port: {number: 80, protocol: HTTP}, hosts: ['*/*']}, {hosts: ['./*']}]}", []),
        ("{egress: [{port: {number: 80, protocol: X, name: 'a b', targetPort: 1},"
         " hosts: ['*/*']}]}",
         ["egress[0].port.name", "egress[0].port.protocol", "egress[0].port.targetPort"]),
        ("{egress: [{port: {number: 80}, hosts: ['*/*']}, {port: {number: 80}, hosts: ['*/*']}]}",
         ["egress[1].port.number"]),
        ("{egress: [{port: {number: 80}, bind: x, hosts: ['*/*']}]}", ["egress[0].bind"]),
        ("{egress: [{port: {}, hosts: ['*/*']}]}", ["egress[0].port.number"]),
        ("{egress: [{port: {}, bind: 'unix:///x', hosts: ['*/*']}]}", []),
        ("{egress: [{port: {}, bind: 'unix://x', hosts: ['*/*']}]}", ["egress[0].bind"]),
        ("{egress: [{port: {}, bind: 'unix:///x', captureMode: IPTABLES, hosts: ['*/*']}]}",
         ["egress[0].captureMode"]),
    ],
)  # fmt: skip
def test_egress_names_hosts_by_namespace_and_each_port_once(spec: str, paths: list[str]) -> None:
    """Two listeners on one port would be refused by Envoy."""
    assert fault_paths("Sidecar", spec) == paths


@pytest.mark.parametrize(
    ("listener", "paths"),
    [
        ("{port: {number: 80, protocol: HTTP}, defaultEndpoint: '127.0.0.1:8080'}", []),
        ("{port: {number: 80}, defaultEndpoint: ':8080'}", []),
        ("{port: {number: 80}, defaultEndpoint: '0.0.0.0:8080'}", []),
        ("{port: {number: 80}, defaultEndpoint: '[::1]:8080'}", []),
        ("{port: {number: 80}, defaultEndpoint: 'unix:///x'}", []),
        ("{port: {number: 80}, defaultEndpoint: '10.0.0.1:8080'}", ["defaultEndpoint"]),
        ("{port: {number: 80}, defaultEndpoint: '::1:8080'}", ["defaultEndpoint"]),
        ("{port: {number: 80}, defaultEndpoint: '127.0.0.1'}", ["defaultEndpoint"]),
        ("{port: {number: 80}, defaultEndpoint: '127.0.0.1:x'}", ["defaultEndpoint"]),
        ("{port: {number: 80}, defaultEndpoint: '127.0.0.1:70000'}", ["defaultEndpoint"]),
        ("{}", ["port"]),
        ("{port: {}}", ["port.number"]),
        ("{port: {number: 80}, bind: 'unix:///x'}", ["bind"]),
        ("{port: {number: 80, protocol: HTTP}, tls: {mode: SIMPLE, serverCertificate: a,"
         " privateKey: b}}", ["tls"]),
        ("{port: {number: 80, protocol: HTTPS}, tls: {mode: SIMPLE, serverCertificate: a,"
         " privateKey: b}}", []),
        ("{port: {number: 80, protocol: HTTPS}, tls: {mode: SIMPLE, privateKey: b}}",
         ["tls.serverCertificate"]),
        ("{port: {number: 80, protocol: HTTPS}, tls: {mode: ISTIO_MUTUAL}}", ["tls.mode"]),
        ("{port: {number: 80, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: x,"
         " httpsRedirect: true}}", ["tls.httpsRedirect", "tls.credentialName"]),
        ("{port: {number: 80}, connectionPool: {}}", ["connectionPool"]),
    ],
)  # fmt: skip
def test_ingress_leads_to_the_workload_itself(listener: str, paths: list[str]) -> None:
    """The default endpoint is on the same machine."""
    found = fault_paths("Sidecar", f"{{ingress: [{listener}]}}")

    assert found == [f"ingress[0].{path}" for path in paths]


def test_ingress_ports_are_each_used_once() -> None:
    """The second listener would not be opened."""
    spec = "{ingress: [{port: {number: 80}}, {port: {number: 80}}]}"

    assert fault_paths("Sidecar", spec) == ["ingress[1].port.number"]


@pytest.mark.parametrize(
    ("policy", "paths"),
    [
        ("{}", []),
        ("{mode: ALLOW_ANY, egressProxy: {host: a.b, port: {number: 1}}}", []),
        ("{egressProxy: {host: a.b, port: {number: 1}}}", ["egressProxy"]),
        ("{mode: ALLOW_ANY, egressProxy: {host: a.b}}", ["egressProxy.port"]),
    ],
)
def test_the_egress_proxy_is_for_traffic_that_may_leave(policy: str, paths: list[str]) -> None:
    """It takes unknown hosts, which only ALLOW_ANY lets out."""
    found = fault_paths("Sidecar", f"{{outboundTrafficPolicy: {policy}}}")

    assert found == [f"outboundTrafficPolicy.{path}" for path in paths]


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        ("{egress: [{hosts: ['a/b.c', 'a/b.c']}]}", ["egress[0].hosts[1]"]),
        ("{egress: [{hosts: ['./b.c', 'shop/*']}]}", ["egress[0].hosts[1]"]),
        ("{egress: [{hosts: ['*/*', 'a/b.c']}]}", ["egress[0].hosts"]),
        ("{egress: [{hosts: ['a/b.c', '~a/b.c']}]}", []),
        ("{ingress: [{port: {number: 1, protocol: TCP}, connectionPool: {http: {}}}]}",
         ["ingress[0].connectionPool.http"]),
        ("{workloadSelector: {}, egress: [{hosts: ['*/*']}]}", ["workloadSelector.labels"]),
    ],
)  # fmt: skip
def test_the_author_of_a_sidecar_is_warned(spec: str, paths: list[str]) -> None:
    """Entries that add nothing are most often mistakes."""
    assert warning_paths("Sidecar", spec) == paths


@pytest.mark.parametrize(
    ("server", "paths"),
    [
        ("{port: {number: 80, protocol: HTTP, name: a}, hosts: ['*']}", []),
        ("{port: {number: 80, protocol: HTTP, name: a}}", ["hosts"]),
        ("{port: {number: 80, protocol: HTTP, name: a}, hosts: [short]}", ["hosts[0]"]),
        ("{port: {number: 80, protocol: HTTP, name: a}, hosts: ['a/b/c.d']}", ["hosts[0]"]),
        ("{hosts: ['*']}", ["port"]),
        ("{port: {protocol: X, targetPort: 5}, hosts: ['*']}",
         ["port.number", "port.targetPort", "port.name", "port.protocol"]),
        ("{port: {number: 1, protocol: HTTP, name: a}, bind: x, hosts: ['*']}", ["bind"]),
        ("{port: {number: 1, protocol: HTTP, name: a}, bind: 'unix:///x', hosts: ['*']}",
         ["port.number"]),
        ("{port: {number: 1, protocol: HTTPS, name: a}, hosts: ['*']}", ["tls"]),
        ("{port: {number: 1, protocol: HTTP, name: a}, hosts: ['*'], tls: {httpsRedirect: true}}",
         []),
        ("{port: {number: 1, protocol: TCP, name: a}, hosts: ['*'], tls: {}}", ["tls"]),
        ("{port: {number: 1, protocol: HTTP, name: a}, hosts: ['*'],"
         " tls: {mode: SIMPLE, credentialName: x}}", ["tls"]),
        ("{port: {number: 1, protocol: HTTPS, name: a}, hosts: ['*'], tls: {mode: MUTUAL,"
         " serverCertificate: a, privateKey: b}}", ["tls.caCertificates"]),
        ("{port: {number: 1, protocol: HTTPS, name: a}, hosts: ['*'], tls: {mode: SIMPLE,"
         " credentialName: a, credentialNames: [b]}}", ["tls"]),
        ("{port: {number: 1, protocol: HTTPS, name: a}, hosts: ['*'], tls: {mode: ISTIO_MUTUAL,"
         " credentialName: a}}", ["tls"]),
        ("{port: {number: 1, protocol: HTTPS, name: a}, hosts: ['*'], tls: {mode: SIMPLE,"
         " serverCertificate: a, privateKey: b, caCrl: c}}", ["tls.caCrl"]),
        ("{port: {number: 1, protocol: HTTPS, name: a}, hosts: ['*'], tls: {mode: SIMPLE,"
         " tlsCertificates: [{serverCertificate: a}]}}", ["tls.tlsCertificates[0].privateKey"]),
    ],
)  # fmt: skip
def test_gateway_servers_have_port_hosts_and_fitting_tls(server: str, paths: list[str]) -> None:
    """Certificates are there exactly where the protocol needs them."""
    found = fault_paths("Gateway", f"{{servers: [{server}]}}")

    assert found == [f"servers[0].{path}" for path in paths]


def test_gateways_have_a_plain_name_servers_and_unique_port_names() -> None:
    """Routes are named after them."""
    server = "{port: {number: 80, protocol: HTTP, name: a}, hosts: ['*']}"

    assert fault_paths("Gateway", "{}") == ["servers"]
    assert fault_paths("Gateway", f"{{servers: [{server}, {server}]}}") == ["servers[1].port.name"]
    (problem,) = faults("Gateway", f"{{servers: [{server}]}}", name="a.b")
    assert problem.path == "metadata.name"


@pytest.mark.parametrize(
    ("tls", "paths"),
    [
        ("{mode: PASSTHROUGH, caCertificates: x}", ["tls"]),
        ("{mode: SIMPLE, credentialName: x, minProtocolVersion: TLSV1_0}",
         ["tls.minProtocolVersion"]),
        ("{mode: SIMPLE, credentialName: x, cipherSuites: [AES128-SHA, AES128-SHA, NONSENSE]}",
         ["tls.cipherSuites[1]", "tls.cipherSuites[2]"]),
        ("{mode: SIMPLE, credentialName: x, cipherSuites: [ALL, '-AES128-SHA', '']}", []),
    ],
)  # fmt: skip
def test_the_author_is_warned_of_tls_settings_that_are_ignored(tls: str, paths: list[str]) -> None:
    """BoringSSL skips what it does not know."""
    spec = (
        "{servers: [{port: {number: 1, protocol: HTTPS, name: a}, hosts: ['*'],"
        f" tls: {tls}}}]}}"
    )

    assert warning_paths("Gateway", spec) == [f"servers[0].{path}" for path in paths]


@pytest.mark.parametrize(
    ("patch", "paths"),
    [
        ("{applyTo: CLUSTER, patch: {operation: MERGE, value: {}}}", []),
        ("{applyTo: CLUSTER, patch: {operation: REMOVE}}", []),
        ("{patch: {operation: REMOVE}}", ["applyTo"]),
        ("{applyTo: CLUSTER}", ["patch.operation"]),
        ("{applyTo: CLUSTER, patch: {operation: ADD}}", ["patch.value"]),
        ("{applyTo: CLUSTER, match: {listener: {}}, patch: {operation: REMOVE}}",
         ["match.listener"]),
        ("{applyTo: HTTP_ROUTE, match: {cluster: {}}, patch: {operation: REMOVE}}",
         ["match.cluster"]),
        ("{applyTo: CLUSTER, match: {cluster: {}, waypoint: {}}, patch: {operation: REMOVE}}",
         ["match"]),
        ("{applyTo: CLUSTER, match: {proxy: {proxyVersion: '('}}, patch: {operation: REMOVE}}",
         ["match.proxy.proxyVersion"]),
        ("{applyTo: HTTP_FILTER, match: {listener: {filterChain: {filter: {name: x,"
         " subFilter: {name: y}}}}}, patch: {operation: REMOVE}}",
         ["match.listener.filterChain.filter.name"]),
        ("{match: {context: WAYPOINT}}", []),
    ],
)  # fmt: skip
def test_patches_of_an_envoy_filter_fit_what_they_patch(patch: str, paths: list[str]) -> None:
    """What the value means is judged where messages are built."""
    found = fault_paths("EnvoyFilter", f"{{configPatches: [{patch}]}}")

    assert found == [f"configPatches[0].{path}" for path in paths]


def test_an_envoy_filter_says_that_it_has_no_effect_yet() -> None:
    """Nobody should wonder why a patch does not show."""
    assert warning_paths("EnvoyFilter", "{}") == [""]


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("Sidecar", "{workloadSelector: {labels: {app: x}}, egress: [{hosts: ['*/*']}]}"),
        ("Gateway", "{selector: {app: x}, servers: [{port: {number: 80, protocol: HTTP, name: a},"
         " hosts: ['*']}]}"),
        ("EnvoyFilter", "{workloadSelector: {labels: {app: x}}}"),
    ],
)  # fmt: skip
def test_selectors_are_told(kind: str, spec: str) -> None:
    """The push engine tells proxies apart by them."""
    assert kinds()[kind].selectors(load(kind, spec).config) == ((("app", "x"),),)


def test_kinds_declare_unique_names() -> None:
    """Watches and debug views tell kinds apart by them."""
    found = kinds()

    assert all(name == spec.kind for name, spec in found.items())
    assert len({spec.plural for spec in found.values()}) == len(found) == 8
    assert found["Gateway"].api_versions[0] == "networking.istio.io/v1"
