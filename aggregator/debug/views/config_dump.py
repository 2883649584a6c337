"""`config_dump`: what a proxy was sent, in the form of Envoy's own config dump."""

from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import Any, Final

from google.protobuf import descriptor_pool, json_format, message_factory
from msgspec import Struct

from aggregator.debug.proxies import PARAMETERS, selected
from aggregator.debug.sources import Sources
from aggregator.debug.spec import Query, QueryError, ViewSpec
from aggregator.generators.spec import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    TYPE_PREFIX,
    VIRTUAL_HOST,
    Resource,
    ResourceType,
)
from aggregator.push.state import ViewState
from aggregator.xds.session import Session

_Json = dict[str, Any]
_Resources = dict[str, tuple[Resource, ...]]

_REDACTED: Final = "[redacted]"
_REDACTED_BYTES: Final = b64encode(_REDACTED.encode()).decode()
_SECRET_FIELDS: Final = frozenset(
    {"private_key", "password", "session_ticket_keys", "generic_secret", "client_secret"}
)
_SECRET_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})
_SHOWN: Final = (CLUSTER, ENDPOINT, LISTENER, ROUTE)
_TYPES: Final = frozenset(kind.short for kind in _SHOWN)
_DUMP: Final = TYPE_PREFIX + "envoy.admin.v3."


class _Content(Struct, frozen=True):
    resources: Mapping[str, tuple[Resource, ...]]
    types: frozenset[str]


def _read(sources: Sources, query: Query) -> _Content:
    if "proxyID" not in query:
        raise QueryError(400, "say which proxy: ?proxyID=<node id>, as /debug/adsz lists them")
    types = frozenset(each for each in query.get("types", "").upper().split(",") if each)
    for each in sorted(types - _TYPES):
        message = f"unknown type {each!r}; known are {', '.join(sorted(_TYPES))}"
        raise QueryError(400, message)
    resources: _Resources = {}
    # A proxy may have several streams, one for each type; of two with one type the newer counts.
    for _, stream in selected(sources, query):
        resources |= _sent(stream.session)
    return _Content(resources, types)


def _sent(session: Session) -> _Resources:
    return {
        type_url: tuple(
            _with_bytes(session.view, type_url, resource)
            for _, resource in sorted(subscription.known.resources.items())
        )
        for type_url, subscription in session.subscriptions.items()
    }


def _with_bytes(view: ViewState | None, type_url: str, resource: Resource) -> Resource:
    """Of what a proxy brought along over a reconnect, only the version is known."""
    if resource.any_field or view is None:
        return resource
    present = view.resource(type_url, resource.name)
    return present if present and present.version == resource.version else resource


def _render(content: _Content) -> object:
    kinds = [kind for kind in _SHOWN if not content.types or kind.short in content.types]
    return {"configs": [_dump(kind, content.resources) for kind in kinds]}


def _dump(kind: ResourceType, sent: Mapping[str, tuple[Resource, ...]]) -> _Json:
    resources = sent.get(kind.type_url, ())
    if kind is CLUSTER:
        return _each(kind, resources, "Clusters", "dynamic_active_clusters", "cluster")
    if kind is ENDPOINT:
        return _each(kind, resources, "Endpoints", "dynamic_endpoint_configs", "endpoint_config")
    if kind is LISTENER:
        return _listeners(resources)
    return _routes(resources, sent.get(VIRTUAL_HOST.type_url, ()))


def _each(
    kind: ResourceType, resources: Iterable[Resource], dump: str, listed: str, field: str
) -> _Json:
    entries = [{"version_info": each.version, field: _message(kind, each)} for each in resources]
    return {"@type": f"{_DUMP}{dump}ConfigDump", listed: entries}


def _listeners(resources: Iterable[Resource]) -> _Json:
    entries = [
        {
            "name": each.name,
            "active_state": {
                "version_info": each.version,
                "listener": _message(LISTENER, each),
            },
        }
        for each in resources
    ]
    return {"@type": f"{_DUMP}ListenersConfigDump", "dynamic_listeners": entries}


def _routes(resources: Iterable[Resource], hosts: Iterable[Resource]) -> _Json:
    """Route configurations, each with the virtual hosts that were sent one by one."""
    by_route: dict[str, list[_Json]] = {}
    for host in hosts:
        body = _message(VIRTUAL_HOST, host)
        body.pop("@type", None)
        by_route.setdefault(host.name.rpartition("/")[0], []).append(body)
    dump = _each(ROUTE, resources, "Routes", "dynamic_route_configs", "route_config")
    for entry in dump["dynamic_route_configs"]:
        route: _Json = entry["route_config"]
        found = by_route.get(str(route.get("name")), [])
        if found:
            route["virtual_hosts"] = [*route.get("virtual_hosts", []), *found]
    return dump


def _message(kind: ResourceType, resource: Resource) -> _Json:
    """The message as JSON with Envoy's field names; without its bytes only what is known."""
    if not resource.any_field:
        return {"@type": kind.type_url, "name": resource.name}
    name = kind.type_url.removeprefix(TYPE_PREFIX)
    descriptor = descriptor_pool.Default().FindMessageTypeByName(name)
    message = message_factory.GetMessageClass(descriptor)()
    message.MergeFromString(resource.body)
    fields = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return {"@type": kind.type_url, **_redact(fields)}


def _redact(value: Any) -> Any:
    if isinstance(value, list):
        return [_redact(each) for each in value]
    if not isinstance(value, dict):
        return value
    if str(value.get("key", "")).lower() in _SECRET_HEADERS and "value" in value:
        return value | {"value": _REDACTED}
    return {
        key: _blank(each) if key in _SECRET_FIELDS else _redact(each) for key, each in value.items()
    }


def _blank(value: Any) -> Any:
    """As Envoy hides it: the message keeps its form, so that tools can still read the dump."""
    if isinstance(value, dict):
        return {
            key: _REDACTED_BYTES if key == "inline_bytes" else _blank(each)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [_blank(each) for each in value]
    return _REDACTED if isinstance(value, str) else value


VIEW: Final = ViewSpec(
    "config_dump",
    "What one proxy was sent, in the form of Envoy's config dump; credentials are left out.",
    _read,
    _render,
    {
        **PARAMETERS,
        "proxyID": "which proxy, always to be given: its node id, or <name>.<namespace>",
        "types": "only these, of CDS, EDS, LDS and RDS, with commas between",
    },
)
