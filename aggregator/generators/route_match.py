"""Conditions of a VirtualService's HTTP rule as Envoy's route match."""

from typing import Final

from envoy.config.route.v3 import route_components_pb2 as route_pb2
from envoy.type.matcher.v3 import regex_pb2, string_pb2

from config.http_match import HTTPMatchRequest, StringMatch

CLAIM_PREFIX: Final = "@request.auth.claims"
PRESENT: Final = "*"
"""Not an expression: as a value of `regex` it means that the header or parameter is there."""


def build_match(match: HTTPMatchRequest | None) -> route_pb2.RouteMatch:
    """None matches everything. Headers are sorted, so that equal rules give equal bytes."""
    built = route_pb2.RouteMatch()
    if match is None:
        built.prefix = "/"
        return built
    _set_path(built, match)
    if match.ignore_uri_case:
        built.case_sensitive.value = False
    for name, text in sorted(match.headers.items()):
        built.headers.append(_build_header(name, text))
    for name, text in sorted(match.without_headers.items()):
        header = _build_header(name, text)
        header.invert_match = True
        if not _is_presence(text):
            # A request that lacks the header does not have the value either.
            header.treat_missing_header_as_empty = True
        built.headers.append(header)
    for pseudo, condition in (
        (":method", match.method),
        (":authority", match.authority),
        (":scheme", match.scheme),
    ):
        if condition is not None:
            built.headers.append(_build_header(pseudo, condition))
    for name, text in sorted(match.query_params.items()):
        built.query_parameters.append(_build_parameter(name, text))
    return built


def asks_for_claims(match: HTTPMatchRequest | None) -> bool:
    """Whether a condition is on claims of a token, which nothing here verifies."""
    return match is not None and any(
        name.lower().startswith(CLAIM_PREFIX) for name in (*match.headers, *match.without_headers)
    )


def matches_everything(match: route_pb2.RouteMatch) -> bool:
    """Whether no request gets past it."""
    everywhere = match.prefix == "/" or match.safe_regex.regex == ".*"
    return everywhere and not match.headers and not match.query_parameters


def build_string_match(text: StringMatch) -> string_pb2.StringMatcher:
    """Exact, prefix, or an expression for the whole."""
    if text.exact is not None:
        return string_pb2.StringMatcher(exact=text.exact)
    if text.prefix is not None:
        return string_pb2.StringMatcher(prefix=text.prefix)
    return string_pb2.StringMatcher(safe_regex=regex_pb2.RegexMatcher(regex=text.regex or ""))


def _set_path(built: route_pb2.RouteMatch, match: HTTPMatchRequest) -> None:
    uri = match.uri
    if uri is not None and uri.exact is not None:
        built.path = uri.exact
    elif uri is not None and uri.regex is not None:
        built.safe_regex.regex = uri.regex
    else:
        built.prefix = uri.prefix if uri is not None and uri.prefix is not None else "/"


def _is_presence(text: StringMatch) -> bool:
    return text.regex == PRESENT or (text.exact is None and text.prefix is None and not text.regex)


def _build_header(name: str, text: StringMatch) -> route_pb2.HeaderMatcher:
    if _is_presence(text):
        return route_pb2.HeaderMatcher(name=name, present_match=True)
    return route_pb2.HeaderMatcher(name=name, string_match=build_string_match(text))


def _build_parameter(name: str, text: StringMatch) -> route_pb2.QueryParameterMatcher:
    if _is_presence(text):
        return route_pb2.QueryParameterMatcher(name=name, present_match=True)
    return route_pb2.QueryParameterMatcher(name=name, string_match=build_string_match(text))
