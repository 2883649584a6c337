"""Tests of config.kinds.service_entry and config.kinds.workload_entry."""

import pytest

from config.kinds.service_entry import KIND
from tests.support.documents import fault_paths, load, warning_paths

KIND_NAME = "ServiceEntry"
PORT = "ports: [{number: 80, name: http, protocol: HTTP}]"


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        (f"{{hosts: [a.b], {PORT}}}", []),
        ("{}", ["hosts"]),
        (f"{{hosts: ['*'], {PORT}}}", ["hosts[0]"]),
        (f"{{hosts: [a_b], {PORT}}}", ["hosts[0]"]),
        (f"{{hosts: ['*.a.b'], {PORT}}}", []),
        (f"{{hosts: [a.b], addresses: [10.0.0.0/8, x], {PORT}}}", ["addresses[1]"]),
        (f"{{hosts: [a.b], addresses: [10.0.0.0/8], resolution: DNS, {PORT}}}", ["addresses[0]"]),
        ("{hosts: [a.b], ports: [{number: 80, name: a}, {number: 80, name: a}]}",
         ["ports[1].name", "ports[1].number"]),
        ("{hosts: [a.b], ports: [{name: a, protocol: X, targetPort: 70000}]}",
         ["ports[0].number", "ports[0].protocol", "ports[0].targetPort"]),
        ("{hosts: [a.b], ports: [{number: 80}]}", ["ports[0].name"]),
        ("{hosts: [a.b, c.d], resolution: STATIC, ports: [{number: 1, name: a, protocol: TCP}]}",
         ["ports[0].protocol"]),
        ("{hosts: [a.b, c.d], ports: [{number: 1, name: a, protocol: TCP}]}", []),
        (f"{{hosts: [a.b], {PORT}, endpoints: [{{address: 10.0.0.1}}]}}", ["endpoints"]),
        (f"{{hosts: [a.b], {PORT}, resolution: STATIC, workloadSelector: {{labels: {{a: b}}}},"
         " endpoints: [{address: 10.0.0.1}]}", ["."]),
        (f"{{hosts: [a.b], {PORT}, workloadSelector: {{labels: {{a: '*'}}}}}}",
         ["workloadSelector.labels.a"]),
        (f"{{hosts: [a.b], {PORT}, exportTo: [~]}}", ["exportTo[0]"]),
        (f"{{hosts: [a.b], {PORT}, exportTo: ['~']}}", []),
        (f"{{hosts: [a.b], {PORT}, exportTo: ['~', x]}}", ["exportTo"]),
    ],
)  # fmt: skip
def test_hosts_addresses_and_ports_are_judged(spec: str, paths: list[str]) -> None:
    """What other parts of the mesh know the service by."""
    found = ["." if path == "spec" else path for path in fault_paths(KIND_NAME, spec)]

    assert found == paths


@pytest.mark.parametrize(
    ("endpoint", "paths"),
    [
        ("{address: 10.0.0.1, ports: {http: 8080}, labels: {a: b}}", []),
        ("{address: 'unix:///run/x'}", []),
        ("{address: 'unix://run/x'}", ["address"]),
        ("{address: 'unix:///run/x', ports: {http: 1}}", ["ports"]),
        ("{address: a.b}", ["address"]),
        ("{}", ["address"]),
        ("{network: far}", []),
        ("{address: 10.0.0.1, ports: {grpc: 1}}", ["ports.grpc"]),
        ("{address: 10.0.0.1, ports: {http: 0}}", ["ports.http"]),
        ("{address: 10.0.0.1, labels: {'a b': c}}", ['labels["a b"]']),
    ],
)
def test_static_endpoints_are_addresses(endpoint: str, paths: list[str]) -> None:
    """EDS carries addresses and sockets, never names."""
    spec = f"{{hosts: [a.b], resolution: STATIC, {PORT}, endpoints: [{endpoint}]}}"

    assert fault_paths(KIND_NAME, spec) == [f"endpoints[0].{path}" for path in paths]


def test_a_socket_serves_one_port_only() -> None:
    """It has no number to tell several apart."""
    spec = """
    hosts: [a.b]
    resolution: STATIC
    ports: [{number: 1, name: a, protocol: HTTP}, {number: 2, name: b, protocol: HTTP}]
    endpoints: [{address: "unix:///run/x"}]
    """
    assert fault_paths(KIND_NAME, spec) == ["endpoints[0].address"]


@pytest.mark.parametrize(
    ("rest", "paths"),
    [
        ("resolution: DNS", []),
        ("resolution: DNS, endpoints: [{address: c.d}, {address: 10.0.0.1}]", []),
        ("resolution: DNS, endpoints: [{address: 'unix:///x'}]", ["endpoints[0].address"]),
        ("resolution: DNS, endpoints: [{address: a_b}]", ["endpoints[0].address"]),
        ("resolution: DNS_ROUND_ROBIN, endpoints: [{address: c.d}, {address: e.f}]", ["endpoints"]),
        ("resolution: DNS_ROUND_ROBIN", []),
    ],
)
def test_names_are_resolved_where_the_rule_says_so(rest: str, paths: list[str]) -> None:
    """LOGICAL_DNS has one name."""
    assert fault_paths(KIND_NAME, f"{{hosts: [a.b], {PORT}, {rest}}}") == paths


def test_a_wildcard_cannot_be_resolved_without_endpoints() -> None:
    """There is no one name to ask for."""
    assert fault_paths(KIND_NAME, f"{{hosts: ['*.b.c'], {PORT}, resolution: DNS}}") == ["hosts[0]"]


def test_dynamic_resolution_takes_wildcards_and_nothing_else() -> None:
    """The name comes with each request."""
    sound = f"{{hosts: ['*.b.c'], {PORT}, resolution: DYNAMIC_DNS}}"
    wrong = """
    hosts: [a.b]
    resolution: DYNAMIC_DNS
    addresses: [10.0.0.1]
    endpoints: [{address: 10.0.0.1}]
    ports: [{number: 1, name: a, protocol: TCP}]
    """
    assert fault_paths(KIND_NAME, sound) == []
    assert fault_paths(KIND_NAME, wrong) == [
        "hosts[0]",
        "addresses",
        "endpoints",
        "ports[0].protocol",
    ]


def test_the_author_is_warned_of_what_cannot_be_told_apart() -> None:
    """TCP has no host in it."""
    tcp = "ports: [{number: 1, name: a, protocol: TCP}]"
    tls = "ports: [{number: 1, name: a, protocol: TLS}]"
    several = f"{{hosts: [a.b, c.d], addresses: [10.0.0.1], resolution: DNS, {tls}}}"

    assert warning_paths(KIND_NAME, f"{{hosts: [a.b], {tcp}}}") == ["ports[0]"]
    assert warning_paths(KIND_NAME, f"{{hosts: [a.b], addresses: [10.0.0.1], {tcp}}}") == []
    assert warning_paths(KIND_NAME, several) == ["ports[0].protocol"]
    assert warning_paths(KIND_NAME, f"{{hosts: ['*b.c'], {PORT}}}") == ["hosts[0]"]
    assert warning_paths(
        KIND_NAME, f"{{hosts: [a.b], {PORT}, workloadSelector: {{}}, resolution: STATIC}}"
    ) == ["workloadSelector.labels"]


def test_hosts_stand_as_written() -> None:
    """A service of that very name, as Istio has it."""
    config = load(KIND_NAME, f"{{hosts: [a.b, c], {PORT}, resolution: DNS}}").config

    assert KIND.hosts(config, "cluster.local") == ("a.b", "c")


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        ("{address: 10.0.0.1}", []),
        ("{address: vm1.example.com}", []),
        ("{address: 'unix:///x'}", []),
        ("{address: a_b}", ["address"]),
        ("{}", ["address"]),
        ("{address: 10.0.0.1, ports: {'a b': 1}}", ['ports["a b"]']),
    ],
)
def test_workload_entries_may_have_names(spec: str, paths: list[str]) -> None:
    """Which services choose them decides whether names are possible."""
    assert fault_paths("WorkloadEntry", spec) == paths


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        ("{template: {}}", []),
        ("{}", ["template"]),
        ("{template: {}, metadata: {labels: {'a b': c}}}", ['metadata.labels["a b"]']),
        ("{template: {}, probe: {}}", ["probe"]),
        ("{template: {}, probe: {httpGet: {port: 1}, exec: {command: [x]}}}", ["probe"]),
        ("{template: {}, probe: {periodSeconds: -1, grpc: {port: 1}}}", ["probe.periodSeconds"]),
        ("{template: {}, probe: {httpGet: {scheme: FTP, httpHeaders: [{name: 'a b'}]}}}",
         ["probe.httpGet.port", "probe.httpGet.scheme", "probe.httpGet.httpHeaders[0].name"]),
        ("{template: {}, probe: {tcpSocket: {}}}", ["probe.tcpSocket.port"]),
        ("{template: {}, probe: {exec: {}}}", ["probe.exec.command"]),
    ],
)  # fmt: skip
def test_workload_groups_have_a_template_and_one_probe(spec: str, paths: list[str]) -> None:
    """The four ways to probe exclude each other."""
    assert fault_paths("WorkloadGroup", spec) == paths
