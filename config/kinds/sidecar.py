"""Sidecar: what a group of proxies sees of the mesh, and the ports that they open."""

from enum import StrEnum
from typing import ClassVar, Final

from aggregator.model.config import Config
from aggregator.model.errors import Problem
from aggregator.model.service import Labels, labels_of
from config.check import (
    Report,
    check_host,
    check_ip,
    check_namespaced_host,
    check_port,
    check_port_name,
    check_protocol,
    check_unix_address,
    check_workload_labels,
    protocol_of,
)
from config.destination import Destination, check_destination
from config.kind import NETWORKING_GROUP, NETWORKING_VERSIONS, KindSpec
from config.kinds.workload_entry import UNIX
from config.message import Message, Rule, UInt32
from config.selector import WorkloadSelector
from config.server_tls import ServerTLSMode, ServerTLSSettings, check_server_tls
from config.traffic_policy import ConnectionPoolSettings, check_connection_pool


class CaptureMode(StrEnum):
    """Whether traffic reaches the listener by redirection."""

    DEFAULT = "DEFAULT"
    IPTABLES = "IPTABLES"
    NONE = "NONE"


class OutboundTrafficMode(StrEnum):
    """What happens to traffic to unknown hosts."""

    REGISTRY_ONLY = "REGISTRY_ONLY"
    ALLOW_ANY = "ALLOW_ANY"


class SidecarPort(Message, frozen=True):
    """A port of a proxy; number 0 with `bind` ``unix://…`` is a socket.

    `target_port` has no effect any more.
    """

    number: UInt32 = 0
    protocol: str = ""
    name: str = ""
    target_port: UInt32 = 0


class IstioIngressListener(Message, frozen=True):
    """A port on which the workload is reached."""

    NEEDS: ClassVar = ("port",)

    port: SidecarPort | None = None
    bind: str = ""
    capture_mode: CaptureMode = CaptureMode.DEFAULT
    default_endpoint: str = ""
    tls: ServerTLSSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None


class IstioEgressListener(Message, frozen=True):
    """Hosts (``namespace/host``) that the workload may reach, on one port or on theirs."""

    NEEDS: ClassVar = ("hosts",)

    port: SidecarPort | None = None
    bind: str = ""
    capture_mode: CaptureMode = CaptureMode.DEFAULT
    hosts: tuple[str, ...] = ()


class OutboundTrafficPolicy(Message, frozen=True):
    """What happens to traffic to unknown hosts, and through whom it goes."""

    mode: OutboundTrafficMode = OutboundTrafficMode.REGISTRY_ONLY
    egress_proxy: Destination | None = None


class Sidecar(Message, frozen=True):
    """Without a selector it holds for the namespace; in the root namespace, for the mesh."""

    RULES: ClassVar = (
        Rule(
            "has(self.outboundTrafficPolicy) || has(self.inboundConnectionPool)"
            " || (has(self.ingress) && size(self.ingress) > 0)"
            " || (has(self.egress) && size(self.egress) > 0)",
            "expected egress, ingress or outboundTrafficPolicy",
        ),
    )

    workload_selector: WorkloadSelector | None = None
    ingress: tuple[IstioIngressListener, ...] = ()
    egress: tuple[IstioEgressListener, ...] = ()
    inbound_connection_pool: ConnectionPoolSettings | None = None
    outbound_traffic_policy: OutboundTrafficPolicy | None = None


_LOCAL: Final = frozenset({"", "127.0.0.1", "0.0.0.0", "::1", "::"})  # noqa: S104 - not bound


def _validate(config: Config) -> list[Problem]:
    spec: Sidecar = config.spec
    report = Report.of(config)
    if spec.workload_selector is not None:
        where = "spec.workloadSelector.labels"
        check_workload_labels(report, where, spec.workload_selector.labels)
    if spec == Sidecar(workload_selector=spec.workload_selector):
        report.error("spec", "expected egress, ingress or outboundTrafficPolicy, found nothing")
    seen: set[int] = set()
    for index, ingress in enumerate(spec.ingress):
        _check_ingress(report, f"spec.ingress[{index}]", ingress, seen)
    check_connection_pool(report, "spec.inboundConnectionPool", spec.inbound_connection_pool)
    _check_egress_ports(report, spec)
    for index, egress in enumerate(spec.egress):
        _check_egress_hosts(report, f"spec.egress[{index}].hosts", egress, config.namespace)
    _check_egress_proxy(report, "spec.outboundTrafficPolicy", spec.outbound_traffic_policy)
    return report.problems


def _check_egress_proxy(report: Report, path: str, policy: OutboundTrafficPolicy | None) -> None:
    if policy is None or policy.egress_proxy is None:
        return
    if policy.mode is not OutboundTrafficMode.ALLOW_ANY:
        report.error(f"{path}.egressProxy", "has an effect with mode ALLOW_ANY only")
    check_host(report, f"{path}.egressProxy.host", policy.egress_proxy.host)
    if policy.egress_proxy.port is None:
        report.error(f"{path}.egressProxy.port", "required")
    check_destination(report, f"{path}.egressProxy", policy.egress_proxy)


def _check_ingress(
    report: Report, path: str, listener: IstioIngressListener, seen: set[int]
) -> None:
    port = listener.port
    if port is None:
        report.error(f"{path}.port", "required")
        return
    _check_port(report, f"{path}.port", port)
    check_port(report, f"{path}.port.number", port.number)
    if listener.bind:
        check_ip(report, f"{path}.bind", listener.bind)
    if port.number in seen:
        report.error(f"{path}.port.number", f"the port {port.number} is there already")
    seen.add(port.number)
    _check_default_endpoint(report, f"{path}.defaultEndpoint", listener.default_endpoint)
    _check_ingress_tls(report, f"{path}.tls", listener.tls, port)
    check_connection_pool(report, f"{path}.connectionPool", listener.connection_pool)
    protocol = protocol_of(port.protocol)
    has_http = listener.connection_pool is not None and listener.connection_pool.http is not None
    if has_http and (protocol is None or not protocol.is_http):
        report.warn(f"{path}.connectionPool.http", "has an effect on HTTP ports only")


def _check_port(report: Report, path: str, port: SidecarPort) -> None:
    if port.name:
        check_port_name(report, f"{path}.name", port.name)
    check_protocol(report, f"{path}.protocol", port.protocol)
    if port.target_port:
        report.error(f"{path}.targetPort", "has no effect on sidecars")


def _check_default_endpoint(report: Report, path: str, text: str) -> None:
    if not text:
        return
    if text.startswith(UNIX):
        check_unix_address(report, path, text.removeprefix(UNIX))
        return
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    if not colon or bare not in _LOCAL or (":" in bare) != bracketed:
        report.error(path, f"expected 127.0.0.1:port, [::1]:port or unix:///path, found {text!r}")
    elif not port.isdecimal() or not port.isascii() or len(port) > 5:
        report.error(path, f"expected a port after the colon, found {port!r}")
    else:
        check_port(report, path, int(port))


def _check_ingress_tls(
    report: Report, path: str, tls: ServerTLSSettings | None, port: SidecarPort
) -> None:
    if tls is None:
        return
    for name, present in (
        ("subjectAltNames", bool(tls.subject_alt_names)),
        ("httpsRedirect", tls.https_redirect),
        ("credentialName", bool(tls.credential_name)),
        ("credentialNames", bool(tls.credential_names)),
        ("tlsCertificates", bool(tls.tls_certificates)),
    ):
        if present:
            report.error(f"{path}.{name}", "is not supported on sidecars")
    if tls.mode in (ServerTLSMode.ISTIO_MUTUAL, ServerTLSMode.AUTO_PASSTHROUGH):
        report.error(f"{path}.mode", f"{tls.mode} is not possible on sidecars")
    protocol = protocol_of(port.protocol)
    if protocol is None or not protocol.is_tls:
        report.error(path, "can be set on HTTPS and TLS ports only")
    check_server_tls(report, path, tls)


def _check_egress_ports(report: Report, spec: Sidecar) -> None:
    taken: set[int | str] = set()
    for index, egress in enumerate(spec.egress):
        path = f"spec.egress[{index}]"
        port = egress.port
        if port is None:
            if index != len(spec.egress) - 1:
                report.error(path, "a listener without port must be the only such, and the last")
            continue
        _check_port(report, f"{path}.port", port)
        _check_egress_bind(report, path, egress, port)
        key: int | str = port.number or egress.bind
        if key in taken:
            report.error(f"{path}.port.number", f"{key} is there already")
        taken.add(key)


def _check_egress_bind(
    report: Report, path: str, egress: IstioEgressListener, port: SidecarPort
) -> None:
    if port.number:
        check_port(report, f"{path}.port.number", port.number)
        if egress.bind:
            check_ip(report, f"{path}.bind", egress.bind)
        return
    if not egress.bind.startswith(UNIX):
        report.error(f"{path}.port.number", "expected a port, or bind unix:///path")
    else:
        check_unix_address(report, f"{path}.bind", egress.bind.removeprefix(UNIX))
    if egress.capture_mode is CaptureMode.IPTABLES:
        report.error(f"{path}.captureMode", "nothing can be redirected to a Unix socket")


def _check_egress_hosts(
    report: Report, path: str, egress: IstioEgressListener, own_namespace: str
) -> None:
    if not egress.hosts:
        report.error(path, "expected at least one host")
    seen: dict[str, set[str]] = {}
    for index, text in enumerate(egress.hosts):
        where = f"{path}[{index}]"
        excluded = text.startswith("~")  # "~" before a namespace excludes; alone it means no one.
        named = text if text.startswith("~/") else text.removeprefix("~")
        check_namespaced_host(report, where, named, namespaces=("*", ".", "~"), ip=False)
        namespace, slash, host = text.partition("/")
        if excluded or not slash:
            continue
        hosts = seen.setdefault(own_namespace if namespace == "." else namespace, set())
        if host in hosts or "*" in hosts or (host == "*" and hosts):
            report.warn(where, f"{text!r} is covered already, or covers another entry")
        hosts.add(host)
    if "*" in seen.get("*", ()) and len(seen) > 1:
        report.warn(path, "'*/*' imports everything; the other entries have no effect")


def _selectors(config: Config) -> tuple[Labels, ...]:
    spec: Sidecar = config.spec
    if spec.workload_selector is None or not spec.workload_selector.labels:
        return ()
    return (labels_of(spec.workload_selector.labels),)


KIND: Final = KindSpec(
    kind="Sidecar",
    plural="sidecars",
    group=NETWORKING_GROUP,
    versions=NETWORKING_VERSIONS,
    spec=Sidecar,
    validate=_validate,
    selectors=_selectors,
)
