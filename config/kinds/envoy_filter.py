"""EnvoyFilter: patches of what is generated. The patches' values are kept as written."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar, Final

from aggregator.model.config import Config
from aggregator.model.errors import Problem
from aggregator.model.service import Labels, labels_of
from config.check import Report, check_pattern, check_workload_labels
from config.kind import NETWORKING_GROUP, KindSpec
from config.message import Int32, Message, UInt32
from config.selector import PolicyTargetReference, WorkloadSelector


class ApplyTo(StrEnum):
    """What is patched."""

    INVALID = "INVALID"
    LISTENER = "LISTENER"
    FILTER_CHAIN = "FILTER_CHAIN"
    NETWORK_FILTER = "NETWORK_FILTER"
    HTTP_FILTER = "HTTP_FILTER"
    ROUTE_CONFIGURATION = "ROUTE_CONFIGURATION"
    VIRTUAL_HOST = "VIRTUAL_HOST"
    HTTP_ROUTE = "HTTP_ROUTE"
    CLUSTER = "CLUSTER"
    EXTENSION_CONFIG = "EXTENSION_CONFIG"
    BOOTSTRAP = "BOOTSTRAP"
    LISTENER_FILTER = "LISTENER_FILTER"


class PatchContext(StrEnum):
    """Which side of which proxy."""

    ANY = "ANY"
    SIDECAR_INBOUND = "SIDECAR_INBOUND"
    SIDECAR_OUTBOUND = "SIDECAR_OUTBOUND"
    GATEWAY = "GATEWAY"
    WAYPOINT = "WAYPOINT"


class Operation(StrEnum):
    """How the value is put in."""

    INVALID = "INVALID"
    MERGE = "MERGE"
    ADD = "ADD"
    REMOVE = "REMOVE"
    INSERT_BEFORE = "INSERT_BEFORE"
    INSERT_AFTER = "INSERT_AFTER"
    INSERT_FIRST = "INSERT_FIRST"
    REPLACE = "REPLACE"
    MERGE_AND_REPLACE_LIST = "MERGE_AND_REPLACE_LIST"


class FilterClass(StrEnum):
    """Where an added filter is placed."""

    UNSPECIFIED = "UNSPECIFIED"
    AUTHN = "AUTHN"
    AUTHZ = "AUTHZ"
    STATS = "STATS"


class RouteAction(StrEnum):
    """What a matched route does."""

    ANY = "ANY"
    ROUTE = "ROUTE"
    REDIRECT = "REDIRECT"
    DIRECT_RESPONSE = "DIRECT_RESPONSE"


class ProxyMatch(Message, frozen=True):
    """Which proxies: `proxy_version` is an RE2 expression."""

    proxy_version: str = ""
    metadata: Mapping[str, str] = {}


class ClusterMatch(Message, frozen=True):
    """Which clusters."""

    port_number: UInt32 = 0
    service: str = ""
    subset: str = ""
    name: str = ""


class RouteMatch(Message, frozen=True):
    """Which routes of a virtual host."""

    name: str = ""
    action: RouteAction = RouteAction.ANY


class VirtualHostMatch(Message, frozen=True):
    """Which virtual hosts."""

    name: str = ""
    domain_name: str = ""
    route: RouteMatch | None = None


class RouteConfigurationMatch(Message, frozen=True):
    """Which route configurations."""

    port_number: UInt32 = 0
    port_name: str = ""
    gateway: str = ""
    vhost: VirtualHostMatch | None = None
    name: str = ""


class SubFilterMatch(Message, frozen=True):
    """Which filter within a network filter."""

    name: str = ""


class FilterMatch(Message, frozen=True):
    """Which network filter."""

    name: str = ""
    sub_filter: SubFilterMatch | None = None


class FilterChainMatch(Message, frozen=True):
    """Which filter chains; `application_protocols` is a comma-separated list."""

    name: str = ""
    sni: str = ""
    transport_protocol: str = ""
    application_protocols: str = ""
    filter: FilterMatch | None = None
    destination_port: UInt32 = 0


class ListenerMatch(Message, frozen=True):
    """Which listeners."""

    port_number: UInt32 = 0
    port_name: str = ""
    filter_chain: FilterChainMatch | None = None
    listener_filter: str = ""
    name: str = ""


class WaypointRouteMatch(Message, frozen=True):
    """Which routes of a waypoint."""

    name: str = ""


class WaypointMatch(Message, frozen=True):
    """Which parts of a waypoint."""

    port_number: UInt32 = 0
    route: WaypointRouteMatch | None = None
    filter: FilterMatch | None = None


class EnvoyConfigObjectMatch(Message, frozen=True):
    """When a patch applies; at most one of the four object types."""

    ONE_OF: ClassVar = (("listener", "routeConfiguration", "cluster", "waypoint"),)

    context: PatchContext = PatchContext.ANY
    proxy: ProxyMatch | None = None
    listener: ListenerMatch | None = None
    route_configuration: RouteConfigurationMatch | None = None
    cluster: ClusterMatch | None = None
    waypoint: WaypointMatch | None = None


class Patch(Message, frozen=True):
    """What is done, with which value."""

    operation: Operation = Operation.INVALID
    value: dict[str, Any] | None = None
    filter_class: FilterClass = FilterClass.UNSPECIFIED


class EnvoyConfigObjectPatch(Message, frozen=True):
    """One patch."""

    apply_to: ApplyTo = ApplyTo.INVALID
    match: EnvoyConfigObjectMatch | None = None
    patch: Patch | None = None


class EnvoyFilter(Message, frozen=True):
    """Patches for the proxies selected, in order of `priority`."""

    workload_selector: WorkloadSelector | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    config_patches: tuple[EnvoyConfigObjectPatch, ...] = ()
    priority: Int32 = 0


_ON_LISTENERS: Final = frozenset(
    {ApplyTo.LISTENER, ApplyTo.FILTER_CHAIN, ApplyTo.NETWORK_FILTER, ApplyTo.HTTP_FILTER}
)
_ON_ROUTES: Final = frozenset(
    {ApplyTo.ROUTE_CONFIGURATION, ApplyTo.VIRTUAL_HOST, ApplyTo.HTTP_ROUTE}
)
_CONNECTION_MANAGERS: Final = frozenset(
    {"envoy.filters.network.http_connection_manager", "envoy.http_connection_manager"}
)


def _validate(config: Config) -> list[Problem]:
    spec: EnvoyFilter = config.spec
    report = Report.of(config)
    report.warn("", "EnvoyFilter is read but not applied yet")
    if spec.workload_selector is not None:
        where = "spec.workloadSelector.labels"
        check_workload_labels(report, where, spec.workload_selector.labels)
    for index, patch in enumerate(spec.config_patches):
        if patch.match is None or patch.match.context is not PatchContext.WAYPOINT:
            _check_patch(report, f"spec.configPatches[{index}]", patch)
    return report.problems


def _check_patch(report: Report, path: str, each: EnvoyConfigObjectPatch) -> None:
    if each.apply_to is ApplyTo.INVALID:
        report.error(f"{path}.applyTo", "required")
    if each.patch is None or each.patch.operation is Operation.INVALID:
        report.error(f"{path}.patch.operation", "required")
    elif each.patch.operation is not Operation.REMOVE and each.patch.value is None:
        report.error(f"{path}.patch.value", f"required for {each.patch.operation}")
    if each.match is not None:
        if each.match.proxy is not None and each.match.proxy.proxy_version:
            where = f"{path}.match.proxy.proxyVersion"
            check_pattern(report, where, each.match.proxy.proxy_version)
        _check_match(report, f"{path}.match", each.apply_to, each.match)


def _check_match(
    report: Report, path: str, apply_to: ApplyTo, match: EnvoyConfigObjectMatch
) -> None:
    types = {
        "listener": match.listener,
        "routeConfiguration": match.route_configuration,
        "cluster": match.cluster,
        "waypoint": match.waypoint,
    }
    given = [name for name, value in types.items() if value is not None]
    if len(given) > 1:
        report.error(path, f"expected only one of {', '.join(types)}")
    fitting = {ApplyTo.CLUSTER: "cluster"}
    fitting |= dict.fromkeys(_ON_LISTENERS, "listener")
    fitting |= dict.fromkeys(_ON_ROUTES, "routeConfiguration")
    wanted = fitting.get(apply_to)
    if wanted is not None and given and wanted not in given:
        report.error(f"{path}.{given[0]}", f"expected {wanted}, which {apply_to} can be matched by")
    chain = match.listener.filter_chain if match.listener is not None else None
    if apply_to in _ON_LISTENERS and chain is not None and chain.filter is not None:
        _check_filter(report, f"{path}.listener.filterChain.filter", apply_to, chain.filter)


def _check_filter(report: Report, path: str, apply_to: ApplyTo, match: FilterMatch) -> None:
    if not match.name:
        report.error(f"{path}.name", "required")
    if match.sub_filter is None:
        return
    if apply_to is not ApplyTo.HTTP_FILTER:
        report.error(f"{path}.subFilter", f"cannot be set for {apply_to}")
    elif match.name not in _CONNECTION_MANAGERS:
        report.error(f"{path}.name", "expected the HTTP connection manager beside subFilter")
    elif not match.sub_filter.name:
        report.error(f"{path}.subFilter.name", "required")


def _selectors(config: Config) -> tuple[Labels, ...]:
    spec: EnvoyFilter = config.spec
    if spec.workload_selector is None or not spec.workload_selector.labels:
        return ()
    return (labels_of(spec.workload_selector.labels),)


KIND: Final = KindSpec(
    kind="EnvoyFilter",
    plural="envoyfilters",
    group=NETWORKING_GROUP,
    versions=("v1alpha3",),
    spec=EnvoyFilter,
    validate=_validate,
    selectors=_selectors,
)
