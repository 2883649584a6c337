"""Gateway: what routers listen on."""

from collections.abc import Mapping
from typing import ClassVar, Final

from aggregator.model.config import Config
from aggregator.model.errors import Problem
from aggregator.model.service import Labels, labels_of
from config.check import (
    Report,
    check_ip,
    check_namespaced_host,
    check_port,
    check_unix_address,
    duplicates,
    is_dns_label,
    protocol_of,
)
from config.kind import NETWORKING_GROUP, NETWORKING_VERSIONS, KindSpec
from config.kinds.workload_entry import UNIX
from config.message import Message, UInt32
from config.server_tls import ServerTLSMode, ServerTLSSettings, check_server_tls


class Port(Message, frozen=True):
    """A port of a router; `target_port` has no effect any more."""

    NEEDS: ClassVar = ("name",)

    number: UInt32 = 0
    protocol: str = ""
    name: str = ""
    target_port: UInt32 = 0


class Server(Message, frozen=True):
    """One port with its hosts, each ``[namespace/]host``."""

    NEEDS: ClassVar = ("port", "hosts")

    port: Port | None = None
    bind: str = ""
    hosts: tuple[str, ...] = ()
    tls: ServerTLSSettings | None = None
    default_endpoint: str = ""
    name: str = ""


class Gateway(Message, frozen=True):
    """Servers on the routers that have all labels of `selector`."""

    NEEDS: ClassVar = ("servers",)

    servers: tuple[Server, ...] = ()
    selector: Mapping[str, str] = {}


def _validate(config: Config) -> list[Problem]:
    spec: Gateway = config.spec
    report = Report.of(config)
    if not is_dns_label(config.name):
        report.error("metadata.name", f"expected a name without dots, found {config.name!r}")
    if not spec.servers:
        report.error("spec.servers", "expected at least one server")
    for index, server in enumerate(spec.servers):
        _check_server(report, f"spec.servers[{index}]", server)
    names = [server.port.name if server.port is not None else "" for server in spec.servers]
    for index, name in duplicates(names):
        if spec.servers[index].port is not None:
            report.error(f"spec.servers[{index}].port.name", f"{name!r} is there already")
    return report.problems


def _check_server(report: Report, path: str, server: Server) -> None:
    if not server.hosts:
        report.error(f"{path}.hosts", "expected at least one host")
    for index, host in enumerate(server.hosts):
        check_namespaced_host(
            report, f"{path}.hosts[{index}]", host, namespaces=("*", "."), ip=True
        )
    if server.bind.startswith(UNIX):
        check_unix_address(report, f"{path}.bind", server.bind.removeprefix(UNIX))
    elif server.bind:
        check_ip(report, f"{path}.bind", server.bind)
    check_server_tls(report, f"{path}.tls", server.tls)
    if server.port is None:
        report.error(f"{path}.port", "required")
    else:
        _check_port(report, path, server.port, server)


def _check_port(report: Report, path: str, port: Port, server: Server) -> None:
    if not server.bind.startswith(UNIX):
        check_port(report, f"{path}.port.number", port.number)
    elif port.number:
        report.error(f"{path}.port.number", "a Unix socket has no port")
    if port.target_port:
        report.error(f"{path}.port.targetPort", "has no effect on gateways")
    if not port.name:
        report.error(f"{path}.port.name", "required")
    protocol = protocol_of(port.protocol)
    tls = server.tls
    if protocol is None:
        report.error(f"{path}.port.protocol", f"unknown protocol {port.protocol!r}")
    elif tls is None:
        if protocol.is_tls:
            report.error(f"{path}.tls", f"required for {protocol}")
    elif not protocol.is_tls:
        passes = tls.mode in (ServerTLSMode.PASSTHROUGH, ServerTLSMode.AUTO_PASSTHROUGH)
        files = tls.ca_certificates or tls.private_key or tls.server_certificate
        if not protocol.is_http or not passes or files:
            report.error(f"{path}.tls", f"cannot be set for {protocol}")
    if tls is not None and tls.https_redirect and not (protocol and protocol.is_http):
        report.warn(f"{path}.tls.httpsRedirect", "has an effect on HTTP servers only")


def _selectors(config: Config) -> tuple[Labels, ...]:
    spec: Gateway = config.spec
    return (labels_of(spec.selector),) if spec.selector else ()


KIND: Final = KindSpec(
    kind="Gateway",
    plural="gateways",
    group=NETWORKING_GROUP,
    versions=NETWORKING_VERSIONS,
    spec=Gateway,
    validate=_validate,
    short_names=("gw",),
    selectors=_selectors,
)
