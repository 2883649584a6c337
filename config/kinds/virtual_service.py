"""VirtualService: which requests and connections go where."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

import msgspec
from msgspec import Struct, structs

from aggregator.model.config import Config
from aggregator.model.errors import Problem
from aggregator.model.service import Labels, labels_of
from config.check import (
    Report,
    check_export_to,
    check_labels,
    check_port,
    check_subnet,
    host_fault,
    is_ip,
)
from config.destination import RouteDestination, check_route_destinations
from config.documents import field_path
from config.host import host_matches, hosts_overlap, resolve_host
from config.http_match import check_gateways, is_claim
from config.http_route import HTTPRoute, check_http_route
from config.kind import NETWORKING_GROUP, NETWORKING_VERSIONS, KindSpec
from config.message import Message, Rule, UInt32


class L4MatchAttributes(Message, frozen=True):
    """Conditions on TCP connections."""

    destination_subnets: tuple[str, ...] = ()
    port: UInt32 = 0
    source_subnet: str = ""
    source_labels: Mapping[str, str] = {}
    gateways: tuple[str, ...] = ()
    source_namespace: str = ""


class TCPRoute(Message, frozen=True):
    """One TCP rule."""

    match: tuple[L4MatchAttributes, ...] = ()
    route: tuple[RouteDestination, ...] = ()


class TLSMatchAttributes(Message, frozen=True):
    """Conditions on TLS connections that pass through."""

    sni_hosts: tuple[str, ...] = ()
    destination_subnets: tuple[str, ...] = ()
    port: UInt32 = 0
    source_labels: Mapping[str, str] = {}
    gateways: tuple[str, ...] = ()
    source_namespace: str = ""


class TLSRoute(Message, frozen=True):
    """One TLS rule."""

    match: tuple[TLSMatchAttributes, ...] = ()
    route: tuple[RouteDestination, ...] = ()


class VirtualService(Message, frozen=True):
    """Rules of some hosts; without hosts it is the delegate of others."""

    RULES: ClassVar = (
        Rule(
            "(has(self.http) && size(self.http) > 0) || (has(self.tls) && size(self.tls) > 0)"
            " || (has(self.tcp) && size(self.tcp) > 0)",
            "expected rules in http, tls or tcp",
        ),
    )

    hosts: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    http: tuple[HTTPRoute, ...] = ()
    tls: tuple[TLSRoute, ...] = ()
    tcp: tuple[TCPRoute, ...] = ()
    export_to: tuple[str, ...] = ()


MESH_GATEWAY: Final = "mesh"
"""Stands for all sidecars in `gateways`, and is meant where the list is empty."""

_OWN_SNI: Final = "outbound_"  # Names that sidecars put into SNI for gateways between networks.


def _validate(config: Config) -> list[Problem]:
    spec: VirtualService = config.spec
    report = Report.of(config)
    if not spec.hosts:
        for field, present in (("gateways", spec.gateways), ("tls", spec.tls), ("tcp", spec.tcp)):
            if present:
                report.error(f"spec.{field}", "cannot be set without hosts, in a delegate")
    if not spec.http and not spec.tls and not spec.tcp:
        report.error("spec", "expected rules in http, tls or tcp")
    check_gateways(report, "spec.gateways", spec.gateways)
    _check_hosts(report, spec)
    for index, http in enumerate(spec.http):
        check_http_route(report, f"spec.http[{index}]", http, is_delegate=not spec.hosts)
        if _on_sidecars(spec):
            _check_no_claims(report, f"spec.http[{index}]", http)
    for index, tls in enumerate(spec.tls):
        _check_tls_route(report, f"spec.tls[{index}]", tls, spec)
    for index, tcp in enumerate(spec.tcp):
        _check_tcp_route(report, f"spec.tcp[{index}]", tcp)
    check_export_to(report, "spec.exportTo", spec.export_to, config.namespace)
    for field, rules in (("http", spec.http), ("tls", spec.tls), ("tcp", spec.tcp)):
        _warn_unreachable(report, f"spec.{field}", rules)
    _warn_covered(report, "spec.http", spec.http)
    return report.problems


def _on_sidecars(spec: VirtualService) -> bool:
    return not spec.gateways or MESH_GATEWAY in spec.gateways


def _check_hosts(report: Report, spec: VirtualService) -> None:
    has_sni = any(match.sni_hosts for tls in spec.tls for match in tls.match)
    valid = True
    for index, host in enumerate(spec.hosts):
        fault = host_fault(host, wildcard=True)
        if not _on_sidecars(spec) and has_sni and host.startswith(_OWN_SNI):
            fault = ""
        if not fault and host == "*" and _on_sidecars(spec):
            fault = "'*' is not allowed for sidecars, only for gateways"
        if fault and not is_ip(host):
            report.error(f"spec.hosts[{index}]", fault)
            valid = False
    for index, host in enumerate(spec.hosts if valid else ()):
        for other in spec.hosts[:index]:
            if hosts_overlap(host, other):
                report.error(f"spec.hosts[{index}]", f"{host!r} is covered with {other!r} already")


def _check_no_claims(report: Report, path: str, route: HTTPRoute) -> None:
    for index, match in enumerate(route.match):
        for field, names in (
            ("headers", match.headers),
            ("withoutHeaders", match.without_headers),
        ):
            for name in names:
                if is_claim(name):
                    where = field_path(f"{path}.match[{index}].{field}", name)
                    report.error(where, "claims can be matched at gateways only")


def _check_tls_route(report: Report, path: str, route: TLSRoute, spec: VirtualService) -> None:
    if not route.match:
        report.error(f"{path}.match", "expected at least one match")
    for index, match in enumerate(route.match):
        where = f"{path}.match[{index}]"
        if not match.sni_hosts:
            report.error(f"{where}.sniHosts", "expected at least one host")
        for number, host in enumerate(match.sni_hosts):
            _check_sni(report, f"{where}.sniHosts[{number}]", host, spec)
        _check_connection(report, where, match)
    check_route_destinations(report, f"{path}.route", route.route)


def _check_sni(report: Report, path: str, host: str, spec: VirtualService) -> None:
    if MESH_GATEWAY not in spec.gateways and host.startswith(_OWN_SNI):
        fault = ""
    else:
        fault = host_fault(host, wildcard=True)
    if fault and is_ip(host):
        report.warn(path, "an IP address as SNI is against the standard; few clients send it")
    elif fault:
        report.error(path, fault)
    elif not any(host_matches(covering, host) for covering in spec.hosts):
        report.error(path, f"expected one of the hosts or a part of one, found {host!r}")


def _check_tcp_route(report: Report, path: str, route: TCPRoute) -> None:
    for index, match in enumerate(route.match):
        _check_connection(report, f"{path}.match[{index}]", match)
    check_route_destinations(report, f"{path}.route", route.route)


def _check_connection(
    report: Report, path: str, match: L4MatchAttributes | TLSMatchAttributes
) -> None:
    for index, subnet in enumerate(match.destination_subnets):
        check_subnet(report, f"{path}.destinationSubnets[{index}]", subnet)
    if match.port:
        check_port(report, f"{path}.port", match.port)
    check_labels(report, f"{path}.sourceLabels", match.source_labels)
    check_gateways(report, f"{path}.gateways", match.gateways)


def _warn_unreachable(
    report: Report, path: str, rules: Sequence[HTTPRoute | TLSRoute | TCPRoute]
) -> None:
    """The first rule that matches decides: what comes after its like is never reached."""
    unconditional = -1
    seen: dict[bytes, int] = {}
    for index, rule in enumerate(rules):
        where = f"{path}[{index}]"
        if unconditional >= 0:
            report.warn(where, f"never reached: {path}[{unconditional}] matches everything")
        elif not rule.match:
            unconditional = index
        for number, match in enumerate(rule.match):
            condition = _condition(match)
            if condition in seen:
                first = f"{path}[{seen[condition]}]"
                report.warn(f"{where}.match[{number}]", f"never reached: the same as in {first}")
            seen.setdefault(condition, index)


def _warn_covered(report: Report, path: str, rules: Sequence[HTTPRoute]) -> None:
    """A prefix never matches what a shorter one before it, with the same other conditions, took."""
    shorter: dict[bytes, list[tuple[str, str]]] = {}
    for index, rule in enumerate(rules):
        for number, match in enumerate(rule.match):
            if match.uri is None or not match.uri.prefix:
                continue
            where, prefix = f"{path}[{index}].match[{number}]", match.uri.prefix
            before = shorter.setdefault(_condition(match, "uri"), [])
            for first, other in before:
                if prefix != other and prefix.startswith(other):
                    report.warn(where, f"never reached: {first} takes everything under {other!r}")
                    break
            before.append((where, prefix))


def _condition(match: Struct, *but: str) -> bytes:
    fields = structs.asdict(match)
    for name in ("name", *but):
        fields.pop(name, None)
    return msgspec.json.encode(fields, order="deterministic")


def _hosts(config: Config, domain: str) -> tuple[str, ...]:
    spec: VirtualService = config.spec
    return tuple(resolve_host(host, config.namespace, domain) for host in spec.hosts)


def _selectors(config: Config) -> tuple[Labels, ...]:
    spec: VirtualService = config.spec
    rules: tuple[HTTPRoute | TLSRoute | TCPRoute, ...] = (*spec.http, *spec.tls, *spec.tcp)
    wanted = (match.source_labels for rule in rules for match in rule.match)
    return tuple(dict.fromkeys(labels_of(labels) for labels in wanted if labels))


def _export_to(config: Config) -> tuple[str, ...]:
    spec: VirtualService = config.spec
    return spec.export_to


def _destinations(config: Config, domain: str) -> frozenset[str]:
    spec: VirtualService = config.spec
    rules: tuple[HTTPRoute | TLSRoute | TCPRoute, ...] = (*spec.http, *spec.tls, *spec.tcp)
    hosts = {each.destination.host for rule in rules for each in rule.route}
    for rule in spec.http:
        hosts.update(mirror.destination.host for mirror in rule.mirrors)
        if rule.mirror is not None:
            hosts.add(rule.mirror.host)
    return frozenset(resolve_host(host, config.namespace, domain) for host in hosts if host)


KIND: Final = KindSpec(
    kind="VirtualService",
    plural="virtualservices",
    group=NETWORKING_GROUP,
    versions=NETWORKING_VERSIONS,
    spec=VirtualService,
    validate=_validate,
    short_names=("vs",),
    columns={"Gateways": ".spec.gateways", "Hosts": ".spec.hosts"},
    hosts=_hosts,
    selectors=_selectors,
    export_to=_export_to,
    destinations=_destinations,
)
