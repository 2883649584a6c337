"""WorkloadEntry: one workload outside Kubernetes, as ServiceEntry's endpoints are too."""

from collections.abc import Mapping
from typing import Final

from aggregator.model.config import Config
from aggregator.model.errors import Problem
from config.check import (
    Report,
    check_labels,
    check_port,
    check_port_name,
    check_unix_address,
    host_fault,
    is_ip,
)
from config.documents import field_path
from config.kind import NETWORKING_GROUP, NETWORKING_VERSIONS, KindSpec
from config.message import Message, Rule, UInt32

UNIX: Final = "unix://"
"""Begins the address of a Unix socket."""


class WorkloadEntry(Message, frozen=True):
    """An address (IP, host name or ``unix:///path``) with its labels and place.

    `ports` maps port names to numbers. `weight` 0 means that none was given.
    """

    address: str = ""
    ports: Mapping[str, UInt32] = {}
    labels: Mapping[str, str] = {}
    network: str = ""
    locality: str = ""
    weight: UInt32 = 0
    service_account: str = ""


def check_workload_entry(
    report: Report,
    path: str,
    entry: WorkloadEntry,
    *,
    port_names: frozenset[str] | None = None,
    ip_only: bool = False,
) -> None:
    """Demand an address that can be reached; *port_names* are the service's, where it is known."""
    _check_address(report, f"{path}.address", entry, ip_only=ip_only)
    if entry.address.startswith(UNIX):
        if entry.ports:
            report.error(f"{path}.ports", "a Unix socket has no ports")
        if port_names is not None and len(port_names) != 1:
            report.error(f"{path}.address", "a Unix socket fits services of one port only")
    for name, number in entry.ports.items():
        where = field_path(f"{path}.ports", name)
        if port_names is not None and name not in port_names:
            report.error(where, f"the service has no port named {name!r}")
        check_port_name(report, where, name)
        check_port(report, where, number)
    check_labels(report, f"{path}.labels", entry.labels)


def _check_address(report: Report, path: str, entry: WorkloadEntry, *, ip_only: bool) -> None:
    if not entry.address and entry.network:
        report.warn(path, "not set: reached through the network's gateway only")
    elif not entry.address:
        report.error(path, "required")
    elif entry.address.startswith(UNIX):
        check_unix_address(report, path, entry.address.removeprefix(UNIX))
    elif is_ip(entry.address):
        return
    elif ip_only:
        report.error(path, f"expected an IP address or unix:///path, found {entry.address!r}")
    elif fault := host_fault(entry.address):
        report.error(path, fault)


def _validate(config: Config) -> list[Problem]:
    report = Report.of(config)
    check_workload_entry(report, "spec", config.spec)
    return report.problems


_RULES: Final = (
    Rule(
        "(has(self.address) && self.address != '') || (has(self.network) && self.network != '')",
        "expected an address, or the network whose gateway leads there",
    ),
    Rule(
        "!has(self.address) || !self.address.startsWith('unix://')"
        " || !has(self.ports) || size(self.ports) == 0",
        "a Unix socket has no ports",
    ),
)
"""A template in a WorkloadGroup may lack its address, so these are the kind's."""

KIND: Final = KindSpec(
    kind="WorkloadEntry",
    plural="workloadentries",
    group=NETWORKING_GROUP,
    versions=NETWORKING_VERSIONS,
    spec=WorkloadEntry,
    validate=_validate,
    short_names=("we",),
    columns={"Address": ".spec.address"},
    rules=_RULES,
)
