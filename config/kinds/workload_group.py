"""WorkloadGroup: the template from which WorkloadEntries of one kind are made."""

import re
from collections.abc import Mapping
from typing import ClassVar, Final

from aggregator.model.config import Config
from aggregator.model.errors import Problem
from config.check import Report, check_labels, check_non_negative, check_port
from config.kind import NETWORKING_GROUP, NETWORKING_VERSIONS, KindSpec
from config.kinds.workload_entry import WorkloadEntry
from config.message import Int32, Message, Rule, UInt32


class WorkloadGroupMetadata(Message, frozen=True):
    """Labels and annotations that entries get."""

    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}


class HTTPHeader(Message, frozen=True):
    """A header of a probe."""

    name: str = ""
    value: str = ""


class HTTPHealthCheckConfig(Message, frozen=True):
    """Probe by a GET."""

    NEEDS: ClassVar = ("port",)

    path: str = ""
    port: UInt32 = 0
    host: str = ""
    scheme: str = ""
    http_headers: tuple[HTTPHeader, ...] = ()


class TCPHealthCheckConfig(Message, frozen=True):
    """Probe by connecting."""

    NEEDS: ClassVar = ("port",)

    host: str = ""
    port: UInt32 = 0


class ExecHealthCheckConfig(Message, frozen=True):
    """Probe by a command's exit code."""

    NEEDS: ClassVar = ("command",)

    command: tuple[str, ...] = ()


class GrpcHealthCheckConfig(Message, frozen=True):
    """Probe by gRPC's health service."""

    NEEDS: ClassVar = ("port",)

    port: UInt32 = 0
    service: str = ""


class ReadinessProbe(Message, frozen=True):
    """How a workload's health is found out: one of the four methods."""

    ONE_OF: ClassVar = (("httpGet", "tcpSocket", "exec", "grpc"),)
    RULES: ClassVar = (
        Rule(
            "has(self.httpGet) || has(self.tcpSocket) || has(self.exec) || has(self.grpc)",
            "expected one of httpGet, tcpSocket, exec and grpc",
        ),
    )

    initial_delay_seconds: Int32 = 0
    timeout_seconds: Int32 = 0
    period_seconds: Int32 = 0
    success_threshold: Int32 = 0
    failure_threshold: Int32 = 0
    http_get: HTTPHealthCheckConfig | None = None
    tcp_socket: TCPHealthCheckConfig | None = None
    exec: ExecHealthCheckConfig | None = None
    grpc: GrpcHealthCheckConfig | None = None


class WorkloadGroup(Message, frozen=True):
    """Template and probe."""

    NEEDS: ClassVar = ("template",)

    metadata: WorkloadGroupMetadata | None = None
    template: WorkloadEntry | None = None
    probe: ReadinessProbe | None = None


_PROBE_HEADER: Final = re.compile(r"[-A-Za-z0-9]+")


def _validate(config: Config) -> list[Problem]:
    spec: WorkloadGroup = config.spec
    report = Report.of(config)
    if spec.template is None:
        report.error("spec.template", "required")
    if spec.metadata is not None:
        check_labels(report, "spec.metadata.labels", spec.metadata.labels)
    if spec.probe is not None:
        _check_probe(report, "spec.probe", spec.probe)
    return report.problems


def _check_probe(report: Report, path: str, probe: ReadinessProbe) -> None:
    for name, number in (
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ):
        check_non_negative(report, f"{path}.{name}", number)
    methods = (probe.http_get, probe.tcp_socket, probe.exec, probe.grpc)
    if sum(method is not None for method in methods) != 1:
        report.error(path, "expected one of httpGet, tcpSocket, exec and grpc")
    if probe.http_get is not None:
        _check_http_probe(report, f"{path}.httpGet", probe.http_get)
    if probe.tcp_socket is not None:
        check_port(report, f"{path}.tcpSocket.port", probe.tcp_socket.port)
    if probe.exec is not None and not probe.exec.command:
        report.error(f"{path}.exec.command", "required")
    if probe.grpc is not None:
        check_port(report, f"{path}.grpc.port", probe.grpc.port)


def _check_http_probe(report: Report, path: str, probe: HTTPHealthCheckConfig) -> None:
    check_port(report, f"{path}.port", probe.port)
    if probe.scheme not in ("", "HTTP", "HTTPS"):
        report.error(f"{path}.scheme", f"expected HTTP or HTTPS, found {probe.scheme!r}")
    for index, header in enumerate(probe.http_headers):
        if not _PROBE_HEADER.fullmatch(header.name):
            where = f"{path}.httpHeaders[{index}].name"
            report.error(where, f"expected a header's name, found {header.name!r}")


KIND: Final = KindSpec(
    kind="WorkloadGroup",
    plural="workloadgroups",
    group=NETWORKING_GROUP,
    versions=NETWORKING_VERSIONS,
    spec=WorkloadGroup,
    validate=_validate,
    short_names=("wg",),
)
