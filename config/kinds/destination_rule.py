"""DestinationRule: how clients treat a service's endpoints, and its subsets."""

from collections.abc import Mapping
from typing import ClassVar, Final

from aggregator.model.config import Config
from aggregator.model.errors import Problem
from aggregator.model.service import Labels, labels_of
from config.check import (
    Report,
    check_export_to,
    check_host,
    check_labels,
    check_workload_labels,
    duplicates,
    is_dns_label,
)
from config.host import resolve_host
from config.kind import NETWORKING_GROUP, NETWORKING_VERSIONS, KindSpec
from config.message import Message
from config.selector import MatchLabelsSelector
from config.traffic_policy import TrafficPolicy, check_traffic_policy, failover_labels


class Subset(Message, frozen=True):
    """Endpoints with all these labels, under a name, with a policy that overrides the rule's."""

    NEEDS: ClassVar = ("name",)

    name: str = ""
    labels: Mapping[str, str] = {}
    traffic_policy: TrafficPolicy | None = None


class DestinationRule(Message, frozen=True):
    """Policy of a host (exact or wildcard)."""

    NEEDS: ClassVar = ("host",)

    host: str = ""
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: tuple[str, ...] = ()
    workload_selector: MatchLabelsSelector | None = None


def _validate(config: Config) -> list[Problem]:
    spec: DestinationRule = config.spec
    report = Report.of(config)
    check_host(report, "spec.host", spec.host, wildcard=True)
    check_traffic_policy(report, "spec.trafficPolicy", spec.traffic_policy)
    for index, name in duplicates(subset.name for subset in spec.subsets):
        report.error(f"spec.subsets[{index}].name", f"the subset {name!r} is there already")
    for index, subset in enumerate(spec.subsets):
        where = f"spec.subsets[{index}]"
        if not is_dns_label(subset.name):
            report.error(f"{where}.name", f"expected a subset's name, found {subset.name!r}")
        check_labels(report, f"{where}.labels", subset.labels)
        check_traffic_policy(report, f"{where}.trafficPolicy", subset.traffic_policy)
    check_export_to(report, "spec.exportTo", spec.export_to, config.namespace)
    if spec.workload_selector is not None:
        check_workload_labels(
            report, "spec.workloadSelector.matchLabels", spec.workload_selector.match_labels
        )
        if any(to not in (".", config.namespace) for to in spec.export_to):
            report.error("spec.exportTo", "with workloadSelector only '.' is possible")
    return report.problems


def _hosts(config: Config, domain: str) -> tuple[str, ...]:
    spec: DestinationRule = config.spec
    return (resolve_host(spec.host, config.namespace, domain),)


def _selectors(config: Config) -> tuple[Labels, ...]:
    spec: DestinationRule = config.spec
    if spec.workload_selector is None or not spec.workload_selector.match_labels:
        return ()
    return (labels_of(spec.workload_selector.match_labels),)


def _proxy_labels(config: Config) -> frozenset[str]:
    spec: DestinationRule = config.spec
    policies = (spec.traffic_policy, *(subset.traffic_policy for subset in spec.subsets))
    return frozenset[str]().union(*(failover_labels(policy) for policy in policies))


def _export_to(config: Config) -> tuple[str, ...]:
    spec: DestinationRule = config.spec
    return spec.export_to


KIND: Final = KindSpec(
    kind="DestinationRule",
    plural="destinationrules",
    group=NETWORKING_GROUP,
    versions=NETWORKING_VERSIONS,
    spec=DestinationRule,
    validate=_validate,
    short_names=("dr",),
    columns={"Host": ".spec.host"},
    hosts=_hosts,
    selectors=_selectors,
    proxy_labels=_proxy_labels,
    export_to=_export_to,
)
