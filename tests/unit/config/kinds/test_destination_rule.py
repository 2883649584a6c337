"""Tests of config.kinds.destination_rule, and of the traffic policy in it."""

import pytest

from config.kinds.destination_rule import KIND
from tests.support.documents import fault_paths, load, warning_paths

KIND_NAME = "DestinationRule"


def policy(text: str) -> str:
    """A rule with this policy."""
    return f"{{host: a.b, trafficPolicy: {{{text}}}}}"


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        ("{host: reviews}", []),
        ("{host: '*.foo.com'}", []),
        ("{}", ["host"]),
        ("{host: a_b}", ["host"]),
        ("{host: a.b, subsets: [{name: v1}, {name: v1}]}", ["subsets[1].name"]),
        ("{host: a.b, subsets: [{}, {name: a_b}]}", ["subsets[0].name", "subsets[1].name"]),
        ("{host: a.b, subsets: [{name: v1, labels: {'a b': c}}]}", ['subsets[0].labels["a b"]']),
        ("{host: a.b, subsets: [{name: v1, trafficPolicy: {}}]}", ["subsets[0].trafficPolicy"]),
        ("{host: a.b, exportTo: ['*', x]}", ["exportTo"]),
        ("{host: a.b, workloadSelector: {matchLabels: {a: b}}, exportTo: [., x]}", ["exportTo"]),
        ("{host: a.b, workloadSelector: {matchLabels: {a: b}}, exportTo: [shop]}", []),
        ("{host: a.b, workloadSelector: {matchLabels: {a: '*'}}}",
         ["workloadSelector.matchLabels.a"]),
    ],
)  # fmt: skip
def test_host_subsets_and_scope_are_judged(spec: str, paths: list[str]) -> None:
    """A subset's name becomes part of a cluster's name."""
    assert fault_paths(KIND_NAME, spec) == paths


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", ""),
        ("tunnel: {targetHost: a.b, targetPort: 1}, proxyProtocol: {}", ""),
        ("tunnel: {protocol: GET, targetHost: a.b, targetPort: 1}", "tunnel.protocol"),
        ("tunnel: {targetHost: a_b, targetPort: 1}", "tunnel.targetHost"),
        ("tunnel: {targetHost: 10.0.0.1}", "tunnel.targetPort"),
        ("portLevelSettings: [{tls: {}}]", "portLevelSettings[0].port"),
        ("portLevelSettings: [{port: {number: 80}}]", "portLevelSettings[0]"),
        ("portLevelSettings: [{port: {number: 80}, connectionPool: {}}]",
         "portLevelSettings[0].connectionPool"),
        ("outlierDetection: {interval: 0s}", "outlierDetection.interval"),
        ("outlierDetection: {baseEjectionTime: 0s}", "outlierDetection.baseEjectionTime"),
        ("outlierDetection: {maxEjectionPercent: 101}", "outlierDetection.maxEjectionPercent"),
        ("outlierDetection: {minHealthPercent: -1}", "outlierDetection.minHealthPercent"),
        ("outlierDetection: {consecutiveLocalOriginFailures: 1}",
         "outlierDetection.consecutiveLocalOriginFailures"),
        ("connectionPool: {}", "connectionPool"),
        ("connectionPool: {tcp: {maxConnections: -1}}", "connectionPool.tcp.maxConnections"),
        ("connectionPool: {tcp: {connectTimeout: 0s}}", "connectionPool.tcp.connectTimeout"),
        ("connectionPool: {tcp: {idleTimeout: 0.0001s}}", "connectionPool.tcp.idleTimeout"),
        ("connectionPool: {tcp: {maxConnectionDuration: 0s}}",
         "connectionPool.tcp.maxConnectionDuration"),
        ("connectionPool: {tcp: {tcpKeepalive: {time: 0s}}}",
         "connectionPool.tcp.tcpKeepalive.time"),
        ("connectionPool: {http: {http1MaxPendingRequests: -1}}",
         "connectionPool.http.http1MaxPendingRequests"),
        ("connectionPool: {http: {maxRetries: -1}}", "connectionPool.http.maxRetries"),
        ("connectionPool: {http: {idleTimeout: 0s}}", "connectionPool.http.idleTimeout"),
        ("connectionPool: {http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}}",
         "connectionPool.http.useClientProtocol"),
        ("connectionPool: {http: {http2KeepAlive: {interval: 1s}}}",
         "connectionPool.http.http2KeepAlive.timeout"),
        ("loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}", "loadBalancer"),
        ("loadBalancer: {consistentHash: {useSourceIp: true, httpHeaderName: x}}",
         "loadBalancer.consistentHash"),
        ("loadBalancer: {consistentHash: {httpCookie: {}}}",
         "loadBalancer.consistentHash.httpCookie.name"),
        ("loadBalancer: {consistentHash: {httpCookie: {name: x, attributes: [{name: a},"
         " {name: a}]}}}", "loadBalancer.consistentHash.httpCookie.attributes[1].name"),
        ("loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 100}}}",
         "loadBalancer.consistentHash.maglev.tableSize"),
        ("loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 5000011}}}",
         "loadBalancer.consistentHash.maglev.tableSize"),
        ("loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 7},"
         " ringHash: {}}}", "loadBalancer.consistentHash"),
        ("loadBalancer: {localityLbSetting: {}, zoneAwareLbSetting: {}}", "loadBalancer"),
        ("loadBalancer: {warmup: {}}", "loadBalancer.warmup.duration"),
        ("loadBalancer: {warmup: {duration: 1s, minimumPercent: 101}}",
         "loadBalancer.warmup.minimumPercent"),
        ("loadBalancer: {warmup: {duration: 1s, aggression: 0}}", "loadBalancer.warmup.aggression"),
        ("tls: {mode: MUTUAL, privateKey: x}", "tls.clientCertificate"),
        ("tls: {mode: MUTUAL, clientCertificate: x}", "tls.privateKey"),
        ("tls: {mode: SIMPLE, credentialName: x, caCertificates: y}", "tls"),
        ("tls: {mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [x]}",
         "tls.insecureSkipVerify"),
    ],
)  # fmt: skip
def test_each_part_of_a_policy_is_judged_on_its_own_field(text: str, path: str) -> None:
    """One bad number would make Envoy refuse the cluster."""
    expected = f"trafficPolicy.{path}".rstrip(".")

    assert fault_paths(KIND_NAME, policy(text)) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        "connectionPool: {tcp: {idleTimeout: 0s}}",
        "loadBalancer: {consistentHash: {httpHeaderName: x, maglev: {tableSize: 65537}}}",
        "loadBalancer: {consistentHash: {httpHeaderName: x, maglev: {tableSize: '2'}}}",
        "outlierDetection: {consecutiveLocalOriginFailures: 1,"
        " splitExternalLocalOriginErrors: true}",
        "tls: {mode: SIMPLE, insecureSkipVerify: true}",
        "tls: {mode: MUTUAL, credentialName: x}",
        "tls: {mode: ISTIO_MUTUAL}",
        "portLevelSettings: [{port: {number: 80}, tls: {}}]",
    ],
)
def test_sound_policies_are_taken(text: str) -> None:
    """Bounds include their ends."""
    assert fault_paths(KIND_NAME, policy(text)) == []


@pytest.mark.parametrize(
    ("setting", "path"),
    [
        ("{distribute: [{from: a/b/*, to: {a/b/*: 60, a/c/*: 40}}]}", None),
        ("{distribute: [{from: a, to: {a: 60}}]}", "distribute[0].to"),
        ("{distribute: [{from: a, to: {a: 100, b: 0}}]}", "distribute[0].to"),
        ("{distribute: [{from: a, to: {b: 100}}], failover: [{from: a, to: b}]}", ""),
        ("{distribute: [{from: a, to: {b: 100}}, {from: a/z, to: {b: 100}}]}", "distribute"),
        ("{distribute: [{from: a/z, to: {b: 100}}, {from: a, to: {b: 100}}]}", "distribute"),
        ("{distribute: [{from: a/z, to: {b: 100}}, {from: a/*, to: {b: 100}}]}", None),
        ("{distribute: [{from: a/z, to: {b: 100}}, {from: '*', to: {b: 100}}]}", None),
        ("{distribute: [{from: a/*/c, to: {b: 100}}]}", "distribute"),
        ("{distribute: [{from: a//c, to: {b: 100}}]}", "distribute"),
        ("{failover: [{from: a, to: b}]}", None),
        ("{failover: [{from: a, to: a}]}", "failover[0]"),
        ("{failover: [{from: a/b, to: c}]}", "failover[0]"),
        ("{failover: [{from: '*', to: c}]}", "failover[0]"),
        ("{failover: [{from: a, to: b}], failoverPriority: [topology.kubernetes.io/zone]}",
         "failoverPriority"),
        ("{failover: [{from: a, to: b}], failoverPriority: [version]}", None),
    ],
)  # fmt: skip
def test_localities_are_shared_out_without_overlap(setting: str, path: str | None) -> None:
    """Shares sum to 100; a wildcard after narrower places is the rest."""
    text = f"outlierDetection: {{}}, loadBalancer: {{localityLbSetting: {setting}}}"
    where = "trafficPolicy.loadBalancer.localityLbSetting"
    expected = [] if path is None else [f"{where}.{path}".rstrip(".")]

    assert fault_paths(KIND_NAME, policy(text)) == expected


def test_zone_awareness_leaves_places_to_envoy() -> None:
    """Regions and zones are heeded anyway."""
    setting = "{failoverPriority: [topology.kubernetes.io/region], failover: [{from: a, to: a}]}"
    text = f"outlierDetection: {{}}, loadBalancer: {{zoneAwareLbSetting: {setting}}}"
    where = "trafficPolicy.loadBalancer.zoneAwareLbSetting"

    assert fault_paths(KIND_NAME, policy(text)) == [
        f"{where}.failoverPriority[0]",
        f"{where}.failover[0]",
    ]


def test_the_author_is_warned_of_what_has_no_effect_or_is_deprecated() -> None:
    """Failover needs outliers to be ejected."""
    failover = policy("loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}]}}")
    ring = policy("loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 5}}")
    errors = policy("outlierDetection: {consecutiveErrors: 5}")

    balancer = "trafficPolicy.loadBalancer"
    assert warning_paths(KIND_NAME, failover) == [f"{balancer}.localityLbSetting"]
    assert warning_paths(KIND_NAME, ring) == [f"{balancer}.consistentHash.minimumRingSize"]
    assert warning_paths(KIND_NAME, errors) == ["trafficPolicy.outlierDetection.consecutiveErrors"]


def test_the_host_is_fully_qualified() -> None:
    """Short names mean services of the rule's own namespace."""
    config = load(KIND_NAME, "{host: reviews, exportTo: [.]}").config

    assert KIND.hosts(config, "cluster.local") == ("reviews.shop.svc.cluster.local",)
    assert KIND.export_to(config) == (".",)


def test_selector_and_failover_labels_are_told() -> None:
    """The push engine reads these labels of proxies, and no others."""
    spec = """
    host: a.b
    workloadSelector: {matchLabels: {app: x}}
    trafficPolicy:
      loadBalancer: {localityLbSetting: {failoverPriority: [version, "tier=gold"]}}
      portLevelSettings:
      - port: {number: 80}
        loadBalancer: {localityLbSetting: {failoverPriority: [rack]}}
    subsets:
    - name: v1
      trafficPolicy: {loadBalancer: {zoneAwareLbSetting: {failoverPriority: [row]}}}
    """
    config = load(KIND_NAME, spec).config

    assert KIND.selectors(config) == ((("app", "x"),),)
    assert KIND.proxy_labels(config) == {"version", "tier", "rack", "row"}


def test_a_rule_without_selectors_tells_none() -> None:
    """Proxies are not told apart for nothing."""
    config = load(KIND_NAME, "{host: a.b}").config

    assert KIND.selectors(config) == ()
    assert KIND.proxy_labels(config) == frozenset()
