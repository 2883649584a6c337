"""WorkloadGroup: the template from which WorkloadEntries of one kind are made."""

from collections.abc import Mapping

from config.kinds.workload_entry import WorkloadEntry
from config.message import Int32, Message, UInt32


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

    path: str = ""
    port: UInt32 = 0
    host: str = ""
    scheme: str = ""
    http_headers: tuple[HTTPHeader, ...] = ()


class TCPHealthCheckConfig(Message, frozen=True):
    """Probe by connecting."""

    host: str = ""
    port: UInt32 = 0


class ExecHealthCheckConfig(Message, frozen=True):
    """Probe by a command's exit code."""

    command: tuple[str, ...] = ()


class GrpcHealthCheckConfig(Message, frozen=True):
    """Probe by gRPC's health service."""

    port: UInt32 = 0
    service: str = ""


class ReadinessProbe(Message, frozen=True):
    """How a workload's health is found out: one of the four methods."""

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

    metadata: WorkloadGroupMetadata | None = None
    template: WorkloadEntry | None = None
    probe: ReadinessProbe | None = None
