"""How a VirtualService's rule and the rules of the one that it delegates to become one.

Knows the rules only: no proxy, no Envoy message.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from config.http_match import HTTPMatchRequest, StringMatch
from config.http_route import HTTPRoute

MatchPair = tuple[HTTPMatchRequest, tuple[HTTPMatchRequest, ...]]
"""Merged conditions, and the entries that they were merged from."""

_INHERITED = (
    "rewrite",
    "direct_response",
    "timeout",
    "retries",
    "fault",
    "mirror",
    "mirror_percent",
    "mirror_percentage",
    "cors_policy",
    "headers",
)


def merge_routes(root: HTTPRoute, delegate: HTTPRoute) -> HTTPRoute:
    """The delegate's rule with what it leaves out taken from the root's; `match` is not merged."""
    inherited = {
        name: getattr(root, name) for name in _INHERITED if getattr(delegate, name) is None
    }
    return replace(
        delegate,
        name=_join_names(root.name, delegate.name),
        mirrors=delegate.mirrors or root.mirrors,
        **inherited,
    )


def merge_matches(
    root: tuple[HTTPMatchRequest, ...], delegate: tuple[HTTPMatchRequest, ...]
) -> tuple[MatchPair, ...] | None:
    """Every pair of conditions that can hold together; None if an entry of the delegate fits none.

    No conditions on one side leave those of the other; none on both give an empty tuple.
    """
    if not root or not delegate:
        return tuple((each, (each,)) for each in root or delegate)
    pairs: list[MatchPair] = []
    for inner in delegate:
        outer = [each for each in root if not _conflict(each, inner)]
        if not outer:
            return None
        pairs.extend((_merge_match(each, inner), (each, inner)) for each in outer)
    return tuple(pairs)


def _merge_match(root: HTTPMatchRequest, delegate: HTTPMatchRequest) -> HTTPMatchRequest:
    return replace(
        delegate,
        name=_join_names(root.name, delegate.name),
        uri=delegate.uri or root.uri,
        scheme=delegate.scheme or root.scheme,
        method=delegate.method or root.method,
        authority=delegate.authority or root.authority,
        headers={**root.headers, **delegate.headers},
        without_headers={**root.without_headers, **delegate.without_headers},
        query_params={**root.query_params, **delegate.query_params},
        port=delegate.port or root.port,
        stat_prefix=delegate.stat_prefix or root.stat_prefix,
    )


def _join_names(root: str, delegate: str) -> str:
    return "-".join(name for name in (root, delegate) if name)


def _conflict(root: HTTPMatchRequest, delegate: HTTPMatchRequest) -> bool:
    """Whether the delegate asks for something that the root's conditions rule out or cut across."""
    named = ("uri", "scheme", "method", "authority")
    return (
        any(_texts_conflict(getattr(root, name), getattr(delegate, name)) for name in named)
        or _maps_conflict(root.headers, delegate.headers)
        or _maps_conflict(root.without_headers, delegate.without_headers)
        or _maps_conflict(root.query_params, delegate.query_params)
        or root.ignore_uri_case != delegate.ignore_uri_case
        or len({root.port, delegate.port} - {0}) > 1
        or len({root.source_namespace, delegate.source_namespace} - {""}) > 1
        or any(
            root.source_labels.get(name, value) != value
            for name, value in delegate.source_labels.items()
        )
        or bool(root.gateways and not set(delegate.gateways) <= set(root.gateways))
    )


def _maps_conflict(root: Mapping[str, StringMatch], delegate: Mapping[str, StringMatch]) -> bool:
    return any(_texts_conflict(root.get(name), match) for name, match in delegate.items())


def _texts_conflict(root: StringMatch | None, delegate: StringMatch | None) -> bool:
    """The delegate's text must lie within the root's; expressions cannot be compared."""
    if root is None or delegate is None:
        return False
    if root.regex or delegate.regex:
        return True
    if root.exact:
        return delegate.exact != root.exact
    if root.prefix:
        text = delegate.prefix or delegate.exact
        return not text or not text.startswith(root.prefix)
    return False
