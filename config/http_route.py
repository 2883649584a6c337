"""VirtualService's HTTP part: what to do with requests that match."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import ClassVar, Final

from config.check import (
    Report,
    check_duration,
    check_header_value,
    check_non_negative,
    check_pattern,
    check_percent,
    check_port,
    is_header_name,
)
from config.destination import (
    Destination,
    Percent,
    check_destination,
    check_share,
    check_weights,
)
from config.documents import field_path
from config.duration import Duration
from config.http_match import (
    HTTPMatchRequest,
    StringMatch,
    check_http_match,
    check_string_match,
)
from config.message import Int32, Message, UInt32

_Bytes = bytes


class HeaderOperations(Message, frozen=True):
    """Changes to a request's or response's headers."""

    set: Mapping[str, str] = {}
    add: Mapping[str, str] = {}
    remove: tuple[str, ...] = ()


class Headers(Message, frozen=True):
    """Changes to both directions' headers."""

    request: HeaderOperations | None = None
    response: HeaderOperations | None = None


class HTTPRouteDestination(Message, frozen=True):
    """A weighted destination with header changes of its own."""

    NEEDS: ClassVar = ("destination",)

    destination: Destination = Destination()
    weight: Int32 = 0
    headers: Headers | None = None


class RedirectPortSelection(StrEnum):
    """Where a redirect takes its port from."""

    FROM_PROTOCOL_DEFAULT = "FROM_PROTOCOL_DEFAULT"
    FROM_REQUEST_PORT = "FROM_REQUEST_PORT"


class HTTPRedirect(Message, frozen=True):
    """Answer with a redirect."""

    ONE_OF: ClassVar = (("port", "derivePort"),)

    uri: str = ""
    authority: str = ""
    port: UInt32 | None = None
    derive_port: RedirectPortSelection | None = None
    scheme: str = ""
    redirect_code: UInt32 = 0
    prefix_rewrite: str = ""


class HTTPBody(Message, frozen=True):
    """A body as text, or as bytes (base64 on the outside)."""

    ONE_OF: ClassVar = (("string", "bytes"),)

    string: str | None = None
    bytes: _Bytes | None = None


class HTTPDirectResponse(Message, frozen=True):
    """Answer at once."""

    status: UInt32 = 0
    body: HTTPBody | None = None


class Delegate(Message, frozen=True):
    """The VirtualService without hosts that has the routes."""

    name: str = ""
    namespace: str = ""


class RegexRewrite(Message, frozen=True):
    """Rewrite the part of the path that an RE2 expression matches."""

    match: str = ""
    rewrite: str = ""


class HTTPRewrite(Message, frozen=True):
    """Changes to path and authority before sending on."""

    uri: str = ""
    authority: str = ""
    uri_regex_rewrite: RegexRewrite | None = None


class HTTPRetry(Message, frozen=True):
    """When and how often to try again."""

    attempts: Int32 = 0
    per_try_timeout: Duration | None = None
    retry_on: str = ""
    retry_remote_localities: bool | None = None
    retry_ignore_previous_hosts: bool | None = None
    backoff: Duration | None = None


class UnmatchedPreflights(StrEnum):
    """What happens to preflight requests whose origin does not match."""

    UNSPECIFIED = "UNSPECIFIED"
    FORWARD = "FORWARD"
    IGNORE = "IGNORE"


class CorsPolicy(Message, frozen=True):
    """Cross-origin resource sharing; `allow_origin` is the older form of exact `allow_origins`."""

    allow_origin: tuple[str, ...] = ()
    allow_origins: tuple[StringMatch, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: Duration | None = None
    allow_credentials: bool | None = None
    unmatched_preflights: UnmatchedPreflights = UnmatchedPreflights.UNSPECIFIED


class Delay(Message, frozen=True):
    """Hold a share of the requests; `percent` is the older form of `percentage`."""

    ONE_OF: ClassVar = (("fixedDelay", "exponentialDelay"),)

    percent: Int32 = 0
    fixed_delay: Duration | None = None
    exponential_delay: Duration | None = None
    percentage: Percent | None = None


class Abort(Message, frozen=True):
    """Fail a share of the requests."""

    ONE_OF: ClassVar = (("httpStatus", "grpcStatus", "http2Error"),)

    http_status: Int32 | None = None
    grpc_status: str | None = None
    http2_error: str | None = None
    percentage: Percent | None = None


class HTTPFaultInjection(Message, frozen=True):
    """Faults for testing the clients."""

    delay: Delay | None = None
    abort: Abort | None = None


class HTTPMirrorPolicy(Message, frozen=True):
    """Send a copy to another destination and ignore its answer."""

    NEEDS: ClassVar = ("destination",)

    destination: Destination = Destination()
    percentage: Percent | None = None


class HTTPRoute(Message, frozen=True):
    """One HTTP rule; the first one that matches decides.

    `mirror_percent` is the older form of `mirror_percentage`.
    """

    ONE_OF: ClassVar = (("redirect", "directResponse"),)

    name: str = ""
    match: tuple[HTTPMatchRequest, ...] = ()
    route: tuple[HTTPRouteDestination, ...] = ()
    redirect: HTTPRedirect | None = None
    direct_response: HTTPDirectResponse | None = None
    delegate: Delegate | None = None
    rewrite: HTTPRewrite | None = None
    timeout: Duration | None = None
    retries: HTTPRetry | None = None
    fault: HTTPFaultInjection | None = None
    mirror: Destination | None = None
    mirrors: tuple[HTTPMirrorPolicy, ...] = ()
    mirror_percent: UInt32 | None = None
    mirror_percentage: Percent | None = None
    cors_policy: CorsPolicy | None = None
    headers: Headers | None = None


GRPC_STATUSES: Final = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""gRPC's status names; the index of each is its code."""

RETRY_ON: Final = frozenset(
    {
        "5xx",
        "cancelled",
        "connect-failure",
        "deadline-exceeded",
        "envoy-ratelimited",
        "gateway-error",
        "http3-post-connect-failure",
        "internal",
        "refused-stream",
        "reset",
        "reset-before-request",
        "resource-exhausted",
        "retriable-4xx",
        "retriable-headers",
        "retriable-status-codes",
        "unavailable",
    }
)
"""What `HTTPRetry.retry_on` may list beside HTTP status codes."""

_CORS_METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"}
)
_STATUSES: Final = frozenset(str(status.value) for status in HTTPStatus)
_LARGE_BODY: Final = 100 * 1024
_LARGEST_BODY: Final = 1024 * 1024


def check_http_route(report: Report, path: str, route: HTTPRoute, *, is_delegate: bool) -> None:
    """Demand one thing to do, and that each part of it is sound."""
    _check_one_action(report, path, route, is_delegate=is_delegate)
    for index, match in enumerate(route.match):
        check_http_match(report, f"{path}.match[{index}]", match)
    for index, target in enumerate(route.route):
        check_destination(report, f"{path}.route[{index}].destination", target.destination)
        _check_headers(report, f"{path}.route[{index}].headers", target.headers)
    check_weights(report, f"{path}.route", [target.weight for target in route.route])
    _check_headers(report, f"{path}.headers", route.headers)
    _check_authority(report, path, route)
    _check_redirect(report, f"{path}.redirect", route)
    _check_direct_response(report, f"{path}.directResponse", route.direct_response)
    _check_rewrite(report, f"{path}.rewrite", route.rewrite)
    check_duration(report, f"{path}.timeout", route.timeout)
    check_retry(report, f"{path}.retries", route.retries)
    _check_fault(report, f"{path}.fault", route.fault)
    _check_mirrors(report, path, route)
    _check_cors(report, f"{path}.corsPolicy", route.cors_policy)


def _check_one_action(report: Report, path: str, route: HTTPRoute, *, is_delegate: bool) -> None:
    if route.delegate is not None and not is_delegate:
        if route.redirect is not None or route.route:
            report.error(path, "a rule with delegate cannot have route or redirect")
        return
    if route.delegate is not None:
        report.error(f"{path}.delegate", "a delegate cannot delegate further")
    action = "redirect" if route.redirect is not None else "directResponse"
    if route.redirect is None and route.direct_response is None:
        if not route.route:
            report.error(path, "expected one of route, redirect and directResponse")
    else:
        others = {
            "route": bool(route.route),
            "fault": route.fault is not None,
            "rewrite": route.rewrite is not None,
            "directResponse": route.direct_response is not None and action == "redirect",
        }
        for other, present in others.items():
            if present:
                report.error(path, f"a rule with {action} cannot have {other}")


def _check_headers(report: Report, path: str, headers: Headers | None) -> None:
    if headers is None:
        return
    for where, name, value in _header_changes(f"{path}.request", headers.request):
        if not name:
            report.error(where, "expected a header's name, found nothing")
        elif name.startswith(":") and name.lower() != ":authority":
            report.error(where, f"the header {name!r} cannot be changed")
        check_header_value(report, where, value)
    for where, name, value in _header_changes(f"{path}.response", headers.response):
        _check_changeable(report, where, name)
        check_header_value(report, where, value)
    for side, operations in (("request", headers.request), ("response", headers.response)):
        for index, name in enumerate(operations.remove if operations else ()):
            _check_changeable(report, f"{path}.{side}.remove[{index}]", name)


def _header_changes(
    path: str, operations: HeaderOperations | None
) -> Iterator[tuple[str, str, str]]:
    if operations is not None:
        for verb, pairs in (("set", operations.set), ("add", operations.add)):
            for name, value in pairs.items():
                yield field_path(f"{path}.{verb}", name), name, value


def _check_changeable(report: Report, path: str, name: str) -> None:
    if not name:
        report.error(path, "expected a header's name, found nothing")
    elif name.startswith(":") or name.lower() == "host":
        report.error(path, f"the header {name!r} cannot be changed")


def _check_authority(report: Report, path: str, route: HTTPRoute) -> None:
    """The authority can be set in one place only."""
    request = route.headers.request if route.headers is not None else None
    places = [f"{path}.rewrite.authority"] if route.rewrite and route.rewrite.authority else []
    places += [
        where
        for where, name, _ in _header_changes(f"{path}.headers.request", request)
        if name.lower() in (":authority", "host")
    ]
    for where in places[1:]:
        report.error(where, "the authority is set in another place already")


def _check_redirect(report: Report, path: str, route: HTTPRoute) -> None:
    redirect = route.redirect
    if redirect is None:
        return
    if redirect.uri and redirect.prefix_rewrite:
        report.error(path, "expected only one of uri and prefixRewrite")
    if redirect.prefix_rewrite and any(
        match.uri is not None and match.uri.prefix is None for match in route.match
    ):
        report.error(f"{path}.prefixRewrite", "expected every match on uri to be by prefix")
    if redirect.port is not None and redirect.derive_port is not None:
        report.error(path, "expected only one of port and derivePort")
    if not (
        redirect.uri
        or redirect.prefix_rewrite
        or redirect.authority
        or redirect.scheme
        or redirect.port is not None
        or redirect.derive_port is not None
    ):
        report.error(path, "expected one of uri, prefixRewrite, authority, scheme and port")
    if redirect.redirect_code and not 300 <= redirect.redirect_code <= 399:
        report.error(f"{path}.redirectCode", f"expected 3xx, found {redirect.redirect_code}")
    if redirect.scheme not in ("", "http", "https"):
        report.error(f"{path}.scheme", f"expected http or https, found {redirect.scheme!r}")
    if redirect.port:
        check_port(report, f"{path}.port", redirect.port)


def _check_direct_response(report: Report, path: str, response: HTTPDirectResponse | None) -> None:
    if response is None:
        return
    _check_status(report, f"{path}.status", response.status)
    if response.body is None:
        return
    if response.body.string is not None and response.body.bytes is not None:
        report.error(f"{path}.body", "expected only one of string and bytes")
    size = len((response.body.string or "").encode()) or len(response.body.bytes or b"")
    if size > _LARGEST_BODY:
        report.error(f"{path}.body", f"expected at most 1 MiB, found {size} bytes")
    elif size > _LARGE_BODY:
        report.warn(f"{path}.body", f"{size} bytes go to every proxy; better serve them elsewhere")


def _check_status(report: Report, path: str, status: int) -> None:
    if not 200 <= status <= 600:
        report.error(path, f"expected an HTTP status from 200 to 599, found {status}")


def _check_rewrite(report: Report, path: str, rewrite: HTTPRewrite | None) -> None:
    if rewrite is None:
        return
    regex = rewrite.uri_regex_rewrite
    if rewrite.uri and regex is not None:
        report.error(path, "expected only one of uri and uriRegexRewrite")
    if not rewrite.uri and regex is None and not rewrite.authority:
        report.error(path, "expected one of uri, uriRegexRewrite and authority")
    if regex is not None:
        check_pattern(report, f"{path}.uriRegexRewrite.match", regex.match)
        if not regex.rewrite:
            report.error(f"{path}.uriRegexRewrite.rewrite", "expected a text, found nothing")


def check_retry(report: Report, path: str, retry: HTTPRetry | None) -> None:
    """Demand conditions that Envoy knows, and attempts where anything is set."""
    if retry is None:
        return
    check_non_negative(report, f"{path}.attempts", retry.attempts)
    if retry.attempts == 0 and (
        retry.per_try_timeout is not None
        or retry.retry_on
        or retry.retry_remote_localities is not None
    ):
        report.error(f"{path}.attempts", "0 disables retries, but how to retry is set")
    check_duration(report, f"{path}.perTryTimeout", retry.per_try_timeout)
    check_duration(report, f"{path}.backoff", retry.backoff)
    for condition in retry.retry_on.split(",") if retry.retry_on else ():
        if condition not in RETRY_ON and not _is_status(condition):
            report.error(f"{path}.retryOn", f"{condition!r} is no condition that Envoy knows")


def _is_status(text: str) -> bool:
    return text in _STATUSES


def _check_fault(report: Report, path: str, fault: HTTPFaultInjection | None) -> None:
    if fault is None:
        return
    if fault.abort is None and fault.delay is None:
        report.error(path, "expected abort, delay or both")
    if fault.delay is not None:
        check_share(report, f"{path}.delay.percentage", fault.delay.percentage)
        check_duration(report, f"{path}.delay.fixedDelay", fault.delay.fixed_delay)
        if fault.delay.exponential_delay is not None:
            report.error(f"{path}.delay.exponentialDelay", "exponential delays are not supported")
    if fault.abort is not None:
        _check_abort(report, f"{path}.abort", fault.abort)


def _check_abort(report: Report, path: str, abort: Abort) -> None:
    check_share(report, f"{path}.percentage", abort.percentage)
    given = (abort.http_status, abort.grpc_status, abort.http2_error)
    if sum(each is not None for each in given) > 1:
        report.error(path, "expected only one of httpStatus, grpcStatus and http2Error")
    if abort.http_status is not None:
        _check_status(report, f"{path}.httpStatus", abort.http_status)
    if abort.grpc_status is not None and abort.grpc_status not in GRPC_STATUSES:
        known = ", ".join(GRPC_STATUSES)
        report.error(f"{path}.grpcStatus", f"expected one of {known}, found {abort.grpc_status!r}")
    if abort.http2_error is not None:
        report.error(f"{path}.http2Error", "HTTP/2 errors are not supported")
    if all(each is None for each in given):
        report.warn(path, "expected httpStatus or grpcStatus; nothing is aborted")


def _check_mirrors(report: Report, path: str, route: HTTPRoute) -> None:
    if route.mirror is not None and route.mirrors:
        report.error(path, "expected only one of mirror and mirrors")
    check_destination(report, f"{path}.mirror", route.mirror)
    if route.mirror_percent is not None:
        check_percent(report, f"{path}.mirrorPercent", route.mirror_percent)
        report.warn(f"{path}.mirrorPercent", "deprecated; use mirrorPercentage")
    if route.mirror_percentage is not None:
        check_percent(report, f"{path}.mirrorPercentage.value", route.mirror_percentage.value)
    for index, mirror in enumerate(route.mirrors):
        where = f"{path}.mirrors[{index}]"
        check_destination(report, f"{where}.destination", mirror.destination)
        if mirror.percentage is not None:
            check_percent(report, f"{where}.percentage.value", mirror.percentage.value)


def _check_cors(report: Report, path: str, policy: CorsPolicy | None) -> None:
    if policy is None:
        return
    for index, origin in enumerate(policy.allow_origins):
        where = f"{path}.allowOrigins[{index}]"
        if not (origin.exact or origin.prefix or origin.regex):
            report.error(where, "expected one of exact, prefix and regex, and a text")
        else:
            check_string_match(report, where, origin)
    for index, method in enumerate(policy.allow_methods):
        if method not in _CORS_METHODS:
            report.error(f"{path}.allowMethods[{index}]", f"{method!r} is no HTTP method")
    for field, names in (
        ("allowHeaders", policy.allow_headers),
        ("exposeHeaders", policy.expose_headers),
    ):
        for index, name in enumerate(names):
            if name != "*" and not is_header_name(name):
                report.error(f"{path}.{field}[{index}]", f"{name!r} cannot be a header's name")
    if policy.max_age is not None:
        check_duration(report, f"{path}.maxAge", policy.max_age)
        if policy.max_age % 1:
            report.error(f"{path}.maxAge", "expected whole seconds")
