"""Conditions on HTTP requests in VirtualService."""

from collections.abc import Mapping
from typing import ClassVar, Final

from config.check import (
    Report,
    check_host,
    check_labels,
    check_pattern,
    check_port,
    is_dns_label,
    is_header_name,
)
from config.documents import field_path
from config.message import Message, UInt32

_PSEUDO_HEADERS: Final = frozenset({":method", ":scheme", ":authority", ":path", ":status"})
_CLAIMS: Final = "@request.auth.claims"


class StringMatch(Message, frozen=True):
    """One of three ways to compare; `regex` is RE2, matched against the whole."""

    ONE_OF: ClassVar = (("exact", "prefix", "regex"),)

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None


class HTTPMatchRequest(Message, frozen=True):
    """All conditions of one entry must hold."""

    name: str = ""
    uri: StringMatch | None = None
    scheme: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: Mapping[str, StringMatch] = {}
    port: UInt32 = 0
    source_labels: Mapping[str, str] = {}
    gateways: tuple[str, ...] = ()
    query_params: Mapping[str, StringMatch] = {}
    ignore_uri_case: bool = False
    without_headers: Mapping[str, StringMatch] = {}
    source_namespace: str = ""
    stat_prefix: str = ""


def is_claim(header: str) -> bool:
    """Whether a header's name stands for a claim of the request's token instead."""
    return header.lower().startswith((f"{_CLAIMS}.", f"{_CLAIMS}["))


def check_string_match(
    report: Report, path: str, match: StringMatch | None, *, empty_prefix: bool = False
) -> None:
    """Demand at most one way to compare, and a text that can match."""
    if match is None:
        return
    if sum(each is not None for each in (match.exact, match.prefix, match.regex)) > 1:
        report.error(path, "expected only one of exact, prefix and regex")
    if match.prefix == "" and not empty_prefix:
        report.error(f"{path}.prefix", "expected a prefix, found nothing")
    if match.regex is not None:
        check_pattern(report, f"{path}.regex", match.regex)


def check_http_match(report: Report, path: str, match: HTTPMatchRequest) -> None:
    """Demand conditions that a request can be compared with."""
    check_string_match(report, f"{path}.uri", match.uri, empty_prefix=True)
    check_string_match(report, f"{path}.scheme", match.scheme)
    check_string_match(report, f"{path}.method", match.method)
    check_string_match(report, f"{path}.authority", match.authority)
    for name, value in match.headers.items():
        where = field_path(f"{path}.headers", name)
        _check_header_name(report, where, name)
        check_string_match(report, where, value)
    for name, value in match.without_headers.items():
        where = field_path(f"{path}.withoutHeaders", name)
        _check_header_name(report, where, name)
        if value.regex != "*":  # Not RE2: the header must be absent, whatever its value.
            check_string_match(report, where, value)
    for name, value in match.query_params.items():
        check_string_match(report, field_path(f"{path}.queryParams", name), value)
    if match.port:
        check_port(report, f"{path}.port", match.port)
    check_labels(report, f"{path}.sourceLabels", match.source_labels)
    check_gateways(report, f"{path}.gateways", match.gateways)
    if match.source_namespace and not is_dns_label(match.source_namespace):
        report.error(
            f"{path}.sourceNamespace", f"expected a namespace, found {match.source_namespace!r}"
        )


def _check_header_name(report: Report, path: str, name: str) -> None:
    if name not in _PSEUDO_HEADERS and not is_claim(name) and not is_header_name(name):
        report.error(path, f"expected a header's name, found {name!r}")


def check_gateways(report: Report, path: str, gateways: tuple[str, ...]) -> None:
    """Demand ``namespace/name``, ``name`` or "mesh"."""
    for index, gateway in enumerate(gateways):
        where = f"{path}[{index}]"
        namespace, slash, name = gateway.partition("/")
        if not slash:
            if check_host(report, where, gateway) and "." in gateway:
                report.warn(where, f"expected namespace/name, found a host name, {gateway!r}")
            continue
        if not is_dns_label(namespace) or not is_dns_label(name):
            report.error(where, f"expected namespace/name, found {gateway!r}")
