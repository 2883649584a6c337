"""VirtualService's HTTP part: what to do with requests that match."""

from collections.abc import Mapping
from enum import StrEnum

from config.destination import Destination, Percent
from config.duration import Duration
from config.http_match import HTTPMatchRequest, StringMatch
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

    destination: Destination = Destination()
    weight: Int32 = 0
    headers: Headers | None = None


class RedirectPortSelection(StrEnum):
    """Where a redirect takes its port from."""

    FROM_PROTOCOL_DEFAULT = "FROM_PROTOCOL_DEFAULT"
    FROM_REQUEST_PORT = "FROM_REQUEST_PORT"


class HTTPRedirect(Message, frozen=True):
    """Answer with a redirect."""

    uri: str = ""
    authority: str = ""
    port: UInt32 | None = None
    derive_port: RedirectPortSelection | None = None
    scheme: str = ""
    redirect_code: UInt32 = 0
    prefix_rewrite: str = ""


class HTTPBody(Message, frozen=True):
    """A body as text, or as bytes (base64 on the outside)."""

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

    percent: Int32 = 0
    fixed_delay: Duration | None = None
    exponential_delay: Duration | None = None
    percentage: Percent | None = None


class Abort(Message, frozen=True):
    """Fail a share of the requests."""

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

    destination: Destination = Destination()
    percentage: Percent | None = None


class HTTPRoute(Message, frozen=True):
    """One HTTP rule; the first one that matches decides.

    `mirror_percent` is the older form of `mirror_percentage`.
    """

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
