"""ServiceEntry: services that no platform lists."""

from enum import StrEnum
from typing import ClassVar, Final

from aggregator.model.config import Config
from aggregator.model.errors import Problem
from aggregator.model.service import Protocol, Resolution
from config.check import (
    Report,
    check_export_to,
    check_host,
    check_port,
    check_port_name,
    check_protocol,
    check_subnet,
    check_workload_labels,
    duplicates,
    host_fault,
    is_partial_wildcard,
    protocol_of,
)
from config.kind import NETWORKING_GROUP, NETWORKING_VERSIONS, KindSpec
from config.kinds.workload_entry import UNIX, WorkloadEntry, check_workload_entry
from config.message import Message, Rule, UInt32
from config.selector import WorkloadSelector


class Location(StrEnum):
    """Whether the service is thought of as part of the mesh."""

    MESH_EXTERNAL = "MESH_EXTERNAL"
    MESH_INTERNAL = "MESH_INTERNAL"


class ServicePort(Message, frozen=True):
    """A port; `target_port` is where its endpoints listen unless they say otherwise."""

    NEEDS: ClassVar = ("number", "name")

    number: UInt32 = 0
    protocol: str = ""
    name: str = ""
    target_port: UInt32 = 0


class ServiceEntry(Message, frozen=True):
    """One or more hosts with the same ports and endpoints."""

    NEEDS: ClassVar = ("hosts",)
    RULES: ClassVar = (
        Rule(
            "!has(self.endpoints) || size(self.endpoints) == 0 || !has(self.workloadSelector)",
            "expected only one of endpoints and workloadSelector",
        ),
        Rule(
            "!has(self.endpoints) || size(self.endpoints) == 0 || (has(self.resolution)"
            " && self.resolution in ['STATIC', 'DNS', 'DNS_ROUND_ROBIN'])",
            "endpoints need resolution STATIC, DNS or DNS_ROUND_ROBIN",
        ),
        Rule(
            "!has(self.resolution) || self.resolution != 'DNS_ROUND_ROBIN'"
            " || !has(self.endpoints) || size(self.endpoints) <= 1",
            "expected at most one endpoint with resolution DNS_ROUND_ROBIN",
        ),
    )

    hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    location: Location = Location.MESH_EXTERNAL
    resolution: Resolution = Resolution.NONE
    endpoints: tuple[WorkloadEntry, ...] = ()
    workload_selector: WorkloadSelector | None = None
    export_to: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()


_BY_NAME: Final = frozenset({Resolution.DNS, Resolution.DNS_ROUND_ROBIN})
_FORWARDED: Final = frozenset({Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC, Protocol.TLS})


def _validate(config: Config) -> list[Problem]:
    spec: ServiceEntry = config.spec
    report = Report.of(config)
    if spec.workload_selector is not None:
        where = "spec.workloadSelector.labels"
        check_workload_labels(report, where, spec.workload_selector.labels, whom="workloads")
        if spec.endpoints:
            report.error("spec", "expected only one of endpoints and workloadSelector")
    _check_hosts(report, spec)
    _check_addresses(report, spec)
    _check_ports(report, spec)
    _check_resolution(report, spec)
    check_export_to(report, "spec.exportTo", spec.export_to, config.namespace, none=True)
    return report.problems


def _check_hosts(report: Report, spec: ServiceEntry) -> None:
    if not spec.hosts:
        report.error("spec.hosts", "expected at least one host")
    for index, host in enumerate(spec.hosts):
        where = f"spec.hosts[{index}]"
        if host == "*":
            report.error(where, "'*' is not allowed; it would stand for every host")
            continue
        check_host(report, where, host, wildcard=True)
        if is_partial_wildcard(host) and spec.resolution is not Resolution.DYNAMIC_DNS:
            report.warn(where, f"expected '*' to be a whole part of the name, found {host!r}")


def _check_addresses(report: Report, spec: ServiceEntry) -> None:
    for index, address in enumerate(spec.addresses):
        check_subnet(report, f"spec.addresses[{index}]", address)
        if "/" in address and spec.resolution not in (Resolution.NONE, Resolution.STATIC):
            message = f"ranges are possible with resolution NONE or STATIC, not {spec.resolution}"
            report.error(f"spec.addresses[{index}]", message)


def _check_ports(report: Report, spec: ServiceEntry) -> None:
    for index, name in duplicates(port.name for port in spec.ports):
        report.error(f"spec.ports[{index}].name", f"the port {name!r} is there already")
    for index, number in duplicates(str(port.number) for port in spec.ports):
        report.error(f"spec.ports[{index}].number", f"the port {number} is there already")
    for index, port in enumerate(spec.ports):
        where = f"spec.ports[{index}]"
        check_port(report, f"{where}.number", port.number)
        check_port_name(report, f"{where}.name", port.name)
        check_protocol(report, f"{where}.protocol", port.protocol)
        if port.target_port:
            check_port(report, f"{where}.targetPort", port.target_port)
        unaddressed = spec.resolution is Resolution.NONE and not spec.addresses
        if unaddressed and protocol_of(port.protocol) in (None, Protocol.TCP):
            report.warn(where, "without addresses, TCP is told apart by its port alone")
    if spec.resolution is not Resolution.NONE and len(spec.hosts) > 1:
        for index, port in enumerate(spec.ports):
            protocol = protocol_of(port.protocol)
            if protocol is None or not (protocol.is_http or protocol.is_tls):
                where = f"spec.ports[{index}].protocol"
                report.error(where, "several hosts can be told apart with HTTP and TLS only")


def _check_resolution(report: Report, spec: ServiceEntry) -> None:
    if spec.resolution is Resolution.NONE:
        if spec.endpoints:
            report.error("spec.endpoints", "cannot be set with resolution NONE")
        if spec.workload_selector is not None:
            report.warn("spec.workloadSelector", "has no effect with resolution NONE")
    elif spec.resolution is Resolution.DYNAMIC_DNS:
        _check_dynamic(report, spec)
    elif spec.resolution in _BY_NAME:
        _check_resolved(report, spec)
    else:
        names = frozenset(port.name for port in spec.ports)
        for index, endpoint in enumerate(spec.endpoints):
            where = f"spec.endpoints[{index}]"
            check_workload_entry(report, where, endpoint, port_names=names, ip_only=True)


def _check_resolved(report: Report, spec: ServiceEntry) -> None:
    names = frozenset(port.name for port in spec.ports)
    for index, endpoint in enumerate(spec.endpoints):
        where = f"spec.endpoints[{index}]"
        if endpoint.address.startswith(UNIX):
            report.error(f"{where}.address", "expected an IP address or a host name")
        else:
            check_workload_entry(report, where, endpoint, port_names=names)
    if spec.resolution is Resolution.DNS_ROUND_ROBIN and len(spec.endpoints) > 1:
        report.error("spec.endpoints", "expected at most one with resolution DNS_ROUND_ROBIN")
    for index, host in enumerate(spec.hosts if not spec.endpoints else ()):
        if fault := host_fault(host):
            report.error(f"spec.hosts[{index}]", f"without endpoints it is resolved: {fault}")
    if spec.addresses and len(spec.hosts) > 1:
        for index, port in enumerate(spec.ports):
            protocol = protocol_of(port.protocol)
            if protocol is not None and not protocol.is_http and protocol is not Protocol.UDP:
                where = f"spec.ports[{index}].protocol"
                report.warn(where, "several hosts cannot share the addresses of a TCP port")


def _check_dynamic(report: Report, spec: ServiceEntry) -> None:
    for index, host in enumerate(spec.hosts):
        if not host.startswith("*"):
            where = f"spec.hosts[{index}]"
            report.error(where, f"expected a wildcard with resolution DYNAMIC_DNS, found {host!r}")
    for name, present in (("addresses", spec.addresses), ("endpoints", spec.endpoints)):
        if present:
            report.error(f"spec.{name}", "cannot be set with resolution DYNAMIC_DNS")
    for index, port in enumerate(spec.ports):
        if protocol_of(port.protocol) not in _FORWARDED:
            message = f"expected HTTP, HTTP2, GRPC or TLS, found {port.protocol!r}"
            report.error(f"spec.ports[{index}].protocol", message)


def _hosts(config: Config, _domain: str) -> tuple[str, ...]:
    spec: ServiceEntry = config.spec
    return spec.hosts  # The names that its services get, short ones too.


def _export_to(config: Config) -> tuple[str, ...]:
    spec: ServiceEntry = config.spec
    return spec.export_to


KIND: Final = KindSpec(
    kind="ServiceEntry",
    plural="serviceentries",
    group=NETWORKING_GROUP,
    versions=NETWORKING_VERSIONS,
    spec=ServiceEntry,
    validate=_validate,
    short_names=("se",),
    columns={
        "Hosts": ".spec.hosts",
        "Location": ".spec.location",
        "Resolution": ".spec.resolution",
    },
    hosts=_hosts,
    export_to=_export_to,
)
