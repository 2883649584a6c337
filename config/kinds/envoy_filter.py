"""EnvoyFilter: patches of what is generated. The patches' values are kept as written."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

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
