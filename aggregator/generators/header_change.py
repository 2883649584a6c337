"""Changes to headers that a rule or a destination asks for, as Envoy's lists."""

from collections.abc import Mapping

from envoy.config.core.v3 import base_pb2
from msgspec import Struct

from config.http_route import HeaderOperations, Headers

_NOTHING = HeaderOperations()


class HeaderChange(Struct, frozen=True):
    """`authority` is set apart, because Envoy rewrites it by other means; "" leaves it."""

    request_add: tuple[base_pb2.HeaderValueOption, ...] = ()
    request_remove: tuple[str, ...] = ()
    response_add: tuple[base_pb2.HeaderValueOption, ...] = ()
    response_remove: tuple[str, ...] = ()
    authority: str = ""


NO_CHANGE = HeaderChange()


def build_header_change(headers: Headers | None) -> HeaderChange:
    """What is set replaces, what is added appends; sorted by name."""
    if headers is None:
        return NO_CHANGE
    request = headers.request or _NOTHING
    response = headers.response or _NOTHING
    return HeaderChange(
        request_add=_build_values(request),
        request_remove=_removable(request),
        response_add=_build_values(response),
        response_remove=_removable(response),
        authority=_authority(request.set) or _authority(request.add),
    )


def _build_values(operations: HeaderOperations) -> tuple[base_pb2.HeaderValueOption, ...]:
    option = base_pb2.HeaderValueOption
    return tuple(
        option(
            header=base_pb2.HeaderValue(key=name, value=value),
            append_action=action,
            keep_empty_value=not value,
        )
        for values, action in (
            (operations.set, option.OVERWRITE_IF_EXISTS_OR_ADD),
            (operations.add, option.APPEND_IF_EXISTS_OR_ADD),
        )
        for name, value in sorted(values.items())
        if not _is_internal(name)
    )


def _removable(operations: HeaderOperations) -> tuple[str, ...]:
    return tuple(name for name in operations.remove if not _is_internal(name))


def _is_internal(name: str) -> bool:
    """Envoy rejects changes to pseudo headers and to the host."""
    return name.startswith(":") or name.lower() == "host"


def _authority(values: Mapping[str, str]) -> str:
    return next(
        (value for name, value in sorted(values.items()) if name.lower() in (":authority", "host")),
        "",
    )
