"""Answers where a request goes by generated route tables, as Envoy would judge it.

Knows as much of Envoy's matching as the generated tables use.
"""

from collections.abc import Mapping

import re2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.type.matcher.v3 import string_pb2
from msgspec import Struct

from aggregator.generators import route, virtual_host
from aggregator.generators.spec import Root
from tests.support.view import FakeView, generate


class Request(Struct, frozen=True):
    """What routes look at; `query` is decoded."""

    authority: str
    path: str = "/"
    method: str = "GET"
    scheme: str = "http"
    headers: Mapping[str, str] = {}
    query: Mapping[str, str] = {}


def virtual_hosts(view: FakeView, *hosts: str) -> dict[str, route_components_pb2.VirtualHost]:
    """The virtual hosts of *hosts*, by resource name."""
    found = {}
    for host in hosts:
        for name, resource in generate(virtual_host.GENERATOR, view, Root.ROUTE_HOST, host).items():
            found[name] = route_components_pb2.VirtualHost.FromString(resource.body)
    return found


def route_table(view: FakeView, name: str, *hosts: str) -> route_pb2.RouteConfiguration:
    """A head with the virtual hosts of *hosts* joined, as clients without VHDS get it."""
    root, key = (Root.PORT, name) if name.isdecimal() else (Root.VIEW, "")
    heads = generate(route.GENERATOR, view, root, key)
    if name not in heads:
        heads = generate(route.GENERATOR, view, Root.VIEW)
    table = route_pb2.RouteConfiguration.FromString(heads[name].body)
    for resource, found in virtual_hosts(view, *hosts).items():
        if resource.rpartition("/")[0] == name:
            table.virtual_hosts.append(found)
    return table


def find_route(
    table: route_pb2.RouteConfiguration, request: Request
) -> route_components_pb2.Route | None:
    """The route that takes the request; None is a 404."""
    host = _find_host(table, request.authority)
    if host is None:
        return None
    return next((each for each in host.routes if _matches(each.match, request)), None)


def find_cluster(table: route_pb2.RouteConfiguration, request: Request) -> str:
    """The one cluster that gets the request; "" if none or several do."""
    found = find_route(table, request)
    return found.route.cluster if found is not None else ""


def _find_host(
    table: route_pb2.RouteConfiguration, authority: str
) -> route_components_pb2.VirtualHost | None:
    name = authority.lower()
    if table.ignore_port_in_host_matching:
        before, colon, port = name.rpartition(":")
        name = before if colon and port.isdecimal() else name
    owners = {domain: host for host in table.virtual_hosts for domain in host.domains}
    if name in owners:
        return owners[name]
    wildcards = [each for each in owners if each.startswith("*") and name.endswith(each[1:])]
    return owners[max(wildcards, key=len)] if wildcards else None


def _matches(match: route_components_pb2.RouteMatch, request: Request) -> bool:
    headers = {name.lower(): value for name, value in request.headers.items()} | {
        ":authority": request.authority,
        ":method": request.method,
        ":scheme": request.scheme,
    }
    return (
        _path_matches(match, request.path)
        and all(_header_matches(each, headers) for each in match.headers)
        and all(_parameter_matches(each, request.query) for each in match.query_parameters)
    )


def _path_matches(match: route_components_pb2.RouteMatch, path: str) -> bool:
    if match.HasField("safe_regex"):
        return re2.fullmatch(match.safe_regex.regex, path) is not None
    wanted = match.path or match.prefix
    if match.HasField("case_sensitive") and not match.case_sensitive.value:
        wanted, path = wanted.lower(), path.lower()
    return path == wanted if match.path else path.startswith(wanted)


def _header_matches(match: route_components_pb2.HeaderMatcher, headers: Mapping[str, str]) -> bool:
    value = headers.get(match.name.lower())
    if match.HasField("present_match"):
        return (value is not None) is not match.invert_match
    if value is None:
        if not match.treat_missing_header_as_empty:
            return False
        value = ""
    return _text_matches(match.string_match, value) is not match.invert_match


def _parameter_matches(
    match: route_components_pb2.QueryParameterMatcher, query: Mapping[str, str]
) -> bool:
    value = query.get(match.name)
    if match.HasField("present_match"):
        return value is not None
    return value is not None and _text_matches(match.string_match, value)


def _text_matches(match: string_pb2.StringMatcher, value: str) -> bool:
    if match.HasField("prefix"):
        return value.startswith(match.prefix)
    if match.HasField("safe_regex"):
        return re2.fullmatch(match.safe_regex.regex, value) is not None
    return value == match.exact
