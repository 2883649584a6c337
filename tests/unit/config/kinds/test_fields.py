"""Every field of Istio's networking API is read under its name, and shown again as it was written.

One document a kind, with each field set to something else than its default.
"""

from typing import Any

import msgspec
import pytest
import yaml
from msgspec import Struct, inspect

from aggregator.model.errors import Origin
from config.kind_table import kinds
from config.message import Message
from config.shape import decode_struct, encode_struct

CONNECTION_POOL = """
tcp:
  maxConnections: 1
  connectTimeout: 1s
  tcpKeepalive: {probes: 1, time: 1s, interval: 2s}
  maxConnectionDuration: 3s
  idleTimeout: 4s
http:
  http1MaxPendingRequests: 1
  http2MaxRequests: 2
  maxRequestsPerConnection: 3
  maxRetries: 4
  idleTimeout: 5s
  h2UpgradePolicy: UPGRADE
  useClientProtocol: true
  maxConcurrentStreams: 6
  http2KeepAlive: {interval: 7s, timeout: 8s}
"""

CLIENT_TLS = """
mode: MUTUAL
clientCertificate: a
privateKey: b
caCertificates: c
credentialName: d
subjectAltNames: [e]
sni: f
insecureSkipVerify: true
caCrl: g
"""

LOAD_BALANCER = """
simple: RANDOM
consistentHash:
  httpHeaderName: a
  httpCookie:
    {name: b, path: /c, ttl: 1s, attributes: [{name: SameSite, value: Lax}]}
  useSourceIp: true
  httpQueryParameterName: d
  ringHash: {minimumRingSize: '2'}
  maglev: {tableSize: '3'}
  minimumRingSize: '4'
localityLbSetting:
  distribute: [{from: a/b, to: {a/c: 40, a/d: 60}}]
  failover: [{from: a, to: b}]
  failoverPriority: [topology.istio.io/network]
  enabled: true
zoneAwareLbSetting:
  enabled: true
  failover: [{from: a, to: b}]
  failoverPriority: [x]
  minClusterSize: '5'
warmupDurationSecs: 6s
warmup: {duration: 7s, minimumPercent: 8.5, aggression: 1.5}
"""

OUTLIER_DETECTION = """
consecutiveErrors: 1
splitExternalLocalOriginErrors: true
consecutiveLocalOriginFailures: 0
consecutiveGatewayErrors: 2
consecutive5xxErrors: 3
interval: 4s
baseEjectionTime: 5s
maxEjectionPercent: 6
minHealthPercent: 7
outlierDetectionHttpErrorCodes: [500]
"""

SERVER_TLS = """
httpsRedirect: true
mode: OPTIONAL_MUTUAL
serverCertificate: a
privateKey: b
caCertificates: c
caCrl: d
credentialName: e
credentialNames: [f]
caCertCredentialName: g
tlsCertificates: [{serverCertificate: h, privateKey: i, caCertificates: j}]
subjectAltNames: [k]
verifyCertificateSpki: [l]
verifyCertificateHash: [m]
minProtocolVersion: TLSV1_2
maxProtocolVersion: TLSV1_3
cipherSuites: [n]
insecureSkipVerify: false
"""


def part(text: str) -> Any:
    """YAML that several kinds have in common."""
    return yaml.safe_load(text)


TRAFFIC_POLICY: dict[str, Any] = {
    "loadBalancer": part(LOAD_BALANCER),
    "connectionPool": part(CONNECTION_POOL),
    "outlierDetection": part(OUTLIER_DETECTION),
    "tls": part(CLIENT_TLS),
}
PORT = {"number": 80, "protocol": "HTTP", "name": "http", "targetPort": 81}
WORKLOAD = part("""
address: 10.0.0.1
ports: {http: 80}
labels: {a: b}
network: n
locality: r/z/s
weight: 3
serviceAccount: me
""")

SPECS: dict[str, Any] = {
    "VirtualService": part("""
hosts: [a.b]
gateways: [mesh]
http:
- name: first
  match:
  - name: m
    uri: {exact: /a}
    scheme: {prefix: http}
    method: {regex: G.*}
    authority: {exact: a.b}
    headers: {x-id: {exact: ''}}
    port: 80
    sourceLabels: {app: a}
    gateways: [mesh]
    queryParams: {q: {exact: v}}
    ignoreUriCase: true
    withoutHeaders: {x-no: {}}
    sourceNamespace: ns
    statPrefix: sp
  route:
  - destination: {host: h, subset: s, port: {number: 81}}
    weight: 5
    headers:
      request: {set: {a: b}, add: {c: d}, remove: [e]}
      response: {set: {f: g}, add: {h: i}, remove: [j]}
  redirect:
    uri: /r
    authority: x.y
    port: 82
    derivePort: FROM_REQUEST_PORT
    scheme: https
    redirectCode: 307
    prefixRewrite: /p
  directResponse: {status: 503, body: {string: text, bytes: aGk=}}
  delegate: {name: d, namespace: e}
  rewrite: {uri: /u, authority: z.y, uriRegexRewrite: {match: a, rewrite: b}}
  timeout: 1s
  retries:
    attempts: 2
    perTryTimeout: 0.5s
    retryOn: 5xx
    retryRemoteLocalities: true
    retryIgnorePreviousHosts: false
    backoff: 0.025s
  fault:
    delay: {percent: 10, fixedDelay: 2s, exponentialDelay: 3s, percentage: {value: 0.5}}
    abort: {httpStatus: 500, grpcStatus: ABORTED, http2Error: x, percentage: {value: 1.5}}
  mirror: {host: m}
  mirrors: [{destination: {host: n}, percentage: {value: 50.0}}]
  mirrorPercent: 0
  mirrorPercentage: {value: 5.0}
  corsPolicy:
    allowOrigin: [a]
    allowOrigins: [{exact: b}]
    allowMethods: [GET]
    allowHeaders: [x]
    exposeHeaders: [y]
    maxAge: 60s
    allowCredentials: false
    unmatchedPreflights: IGNORE
  headers: {request: {set: {k: l}}}
tls:
- match:
  - sniHosts: [a.b]
    destinationSubnets: [10.0.0.0/8]
    port: 443
    sourceLabels: {a: b}
    gateways: [mesh]
    sourceNamespace: ns
  route: [{destination: {host: t}, weight: 1}]
tcp:
- match:
  - destinationSubnets: [10.0.0.0/8]
    port: 90
    sourceSubnet: 10.0.0.0/9
    sourceLabels: {a: b}
    gateways: [mesh]
    sourceNamespace: ns
  route: [{destination: {host: u}, weight: 2}]
exportTo: ['*']
"""),
    "DestinationRule": {
        "host": "a.b",
        "trafficPolicy": TRAFFIC_POLICY
        | {
            "portLevelSettings": [TRAFFIC_POLICY | {"port": {"number": 80}}],
            "tunnel": {"protocol": "POST", "targetHost": "a.b", "targetPort": 1},
            "proxyProtocol": {"version": "V2"},
            "retryBudget": {"percent": 20.5, "minRetryConcurrency": 3, "budgetInterval": "1s"},
        },
        "subsets": [{"name": "v1", "labels": {"version": "v1"}, "trafficPolicy": TRAFFIC_POLICY}],
        "exportTo": ["."],
        "workloadSelector": {"matchLabels": {"app": "a"}},
    },
    "ServiceEntry": {
        "hosts": ["a.b"],
        "addresses": ["10.0.0.1"],
        "ports": [PORT],
        "location": "MESH_INTERNAL",
        "resolution": "DYNAMIC_DNS",
        "endpoints": [WORKLOAD],
        "workloadSelector": {"labels": {"app": "a"}},
        "exportTo": ["."],
        "subjectAltNames": ["spiffe://x"],
    },
    "WorkloadEntry": WORKLOAD,
    "WorkloadGroup": {
        "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
        "template": WORKLOAD,
        "probe": part("""
initialDelaySeconds: 1
timeoutSeconds: 2
periodSeconds: 3
successThreshold: 4
failureThreshold: 5
httpGet:
  {path: /, port: 80, host: h, scheme: HTTP, httpHeaders: [{name: a, value: b}]}
tcpSocket: {host: h, port: 81}
exec: {command: ['true']}
grpc: {port: 82, service: s}
"""),
    },
    "Gateway": {
        "servers": [
            {
                "port": PORT,
                "bind": "10.0.0.1",
                "hosts": ["a.b"],
                "tls": part(SERVER_TLS),
                "defaultEndpoint": "127.0.0.1:1",
                "name": "n",
            }
        ],
        "selector": {"istio": "gateway"},
    },
    "Sidecar": {
        "workloadSelector": {"labels": {"app": "a"}},
        "ingress": [
            {
                "port": PORT,
                "bind": "10.0.0.1",
                "captureMode": "NONE",
                "defaultEndpoint": "127.0.0.1:1",
                "tls": part(SERVER_TLS),
                "connectionPool": part(CONNECTION_POOL),
            }
        ],
        "egress": [{"port": PORT, "bind": "10.0.0.1", "captureMode": "IPTABLES", "hosts": ["./*"]}],
        "inboundConnectionPool": part(CONNECTION_POOL),
        "outboundTrafficPolicy": {
            "mode": "ALLOW_ANY",
            "egressProxy": {"host": "a", "subset": "s", "port": {"number": 1}},
        },
    },
    "EnvoyFilter": part("""
workloadSelector: {labels: {app: a}}
targetRefs: [{group: g, kind: k, name: n, namespace: s}]
priority: -1
configPatches:
- applyTo: HTTP_FILTER
  match:
    context: GATEWAY
    proxy: {proxyVersion: 1.*, metadata: {a: b}}
    listener:
      portNumber: 1
      portName: p
      filterChain:
        name: c
        sni: s
        transportProtocol: tls
        applicationProtocols: h2
        filter: {name: f, subFilter: {name: g}}
        destinationPort: 2
      listenerFilter: l
      name: n
    routeConfiguration:
      portNumber: 3
      portName: q
      gateway: ns/g
      vhost: {name: v, domainName: d, route: {name: r, action: REDIRECT}}
      name: rc
    cluster: {portNumber: 4, service: s, subset: t, name: u}
    waypoint:
      {portNumber: 5, route: {name: w}, filter: {name: x, subFilter: {name: y}}}
  patch:
    operation: MERGE
    value: {any: [1, {thing: x}], none: null}
    filterClass: AUTHN
"""),
}


def decoded(kind: str) -> Message:
    """The kind's document as a struct."""
    return decode_struct(SPECS[kind], kinds()[kind].spec, "spec", lambda _path: Origin())


def test_there_is_a_document_for_every_kind() -> None:
    """A new kind comes with one."""
    assert SPECS.keys() == kinds().keys()


@pytest.mark.parametrize("kind", SPECS)
def test_what_is_read_is_shown_again_as_it_was_written(kind: str) -> None:
    """Each field lands under its own name: no two are mixed up, none is lost."""
    shown = msgspec.json.decode(msgspec.json.encode(encode_struct(decoded(kind))))

    assert shown == SPECS[kind]


@pytest.mark.parametrize("kind", SPECS)
def test_the_document_sets_every_field_of_every_message(kind: str) -> None:
    """So the test above leaves none out."""
    unset: set[str] = set()
    seen: dict[type, set[str]] = {}
    _note_set(decoded(kind), seen)
    for struct, names in seen.items():
        unset |= {f"{struct.__name__}.{name}" for name in struct_fields(struct) - names}

    assert not unset
    assert reachable(kinds()[kind].spec) == set(seen)


def _note_set(value: object, seen: dict[type, set[str]]) -> None:
    if isinstance(value, Struct):
        names = seen.setdefault(type(value), set())
        for name in value.__struct_fields__:
            inner = getattr(value, name)
            if inner not in (None, "", (), {}):
                names.add(name)
            _note_set(inner, seen)
    elif isinstance(value, dict):
        for each in value.values():
            _note_set(each, seen)
    elif isinstance(value, tuple):
        for each in value:
            _note_set(each, seen)


def struct_fields(struct: type) -> set[str]:
    """The attributes of a message."""
    assert issubclass(struct, Struct)
    return set(struct.__struct_fields__)


def reachable(struct: type[Struct]) -> set[type]:
    """A message and all those within it."""
    found: set[type] = set()
    waiting: list[inspect.Type] = [inspect.type_info(struct)]
    while waiting:
        each = waiting.pop()
        if isinstance(each, inspect.StructType) and each.cls not in found:
            found.add(each.cls)
            waiting += [field.type for field in each.fields]
        elif isinstance(each, inspect.UnionType):
            waiting += each.types
        elif isinstance(each, inspect.VarTupleType):
            waiting.append(each.item_type)
        elif isinstance(each, inspect.DictType):
            waiting.append(each.value_type)
    return found
