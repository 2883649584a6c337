"""In which routes a host has a virtual host, and by which domains requests are told to be for it.

Envoy rejects a whole route table in which a domain occurs twice. So each domain has one owner that
every unit finds for itself: a host by its full name before short names, the oldest of services
that share an address.
"""

import re
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

from msgspec import Struct

from aggregator.generators.sidecar_scope import (
    UNIX,
    EgressListener,
    OutboundScope,
    imported_service,
    imports_http,
)
from aggregator.generators.spec import View
from aggregator.generators.virtual_service import mesh_rules
from aggregator.model.service import Service
from config.host import host_patterns, resolve_host

HTTP_PORT: Final = 80
UNSPECIFIED: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104
_OCTET: Final = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4: Final = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}", re.ASCII)
_NAME: Final = re.compile(r"(?:\*|\*?[a-z0-9_-]+)(?:\.[a-z0-9_-]+)*", re.ASCII)


class Place(Struct, frozen=True):
    """A virtual host of a host: its route and the port of the host that it stands for.

    `service` is None where only VirtualServices know the host. `bare` says that an authority
    without a port means this port.
    """

    listener: EgressListener
    route: str
    port: int
    service: Service | None
    bare: bool = True

    def domains(self, name: str) -> tuple[str, ...]:
        """How a request in this route's listener may spell *name*.

        Routes for one port ignore the port that the authority has.
        """
        literal = f"[{name}]" if ":" in name else name
        if not self.listener.every_port:
            return (literal,)
        with_port = f"{literal}:{self.port}"
        return (literal, with_port) if self.bare else (with_port,)


def is_host(host: str) -> bool:
    """Whether *host* can be a domain: an address, or a name in lower case, not "*" alone."""
    if _is_address(host):
        return True
    return host != "*" and _NAME.fullmatch(host) is not None


def short_names(view: View, host: str) -> tuple[str, ...]:
    """How clients with Kubernetes' search list may shorten ``<name>.<namespace>.svc.<domain>``."""
    suffix = f".svc.{view.domain_suffix}"
    if not host.endswith(suffix):
        return ()
    rest = host.removesuffix(suffix)
    name, dot, namespace = rest.partition(".")
    if not dot:
        return ()
    deep = "." in namespace
    # "a.b.svc" is short for a service a in a namespace b before it is for one in "b.svc".
    names = [f"{rest}.svc"] if deep and rest.endswith(".svc") else [rest, f"{rest}.svc"]
    if not deep and not name.startswith("*") and view.in_namespace(namespace):
        names.insert(0, name)
    return tuple(names)


class PlaceResolver:
    """Finds places and domains for one build, asking for each name once."""

    def __init__(self, view: View, scope: OutboundScope) -> None:
        self._view = view
        self._scope = scope
        self._found: dict[str, tuple[Place, ...]] = {}

    def places(self, host: str) -> tuple[Place, ...]:
        """Every virtual host that *host* has."""
        found = self._found.get(host)
        if found is None:
            found = tuple(self._find(host)) if is_host(host) else ()
            self._found[host] = found
        return found

    def domains(self, place: Place, host: str) -> tuple[str, ...]:
        """The domains of one virtual host, none of which another one of its route has."""
        domains = dict.fromkeys(place.domains(host))
        if not _is_address(host):
            # The form that is not completed by a resolver's search list.
            domains.update(dict.fromkeys(place.domains(host + ".")))
        for alias in short_names(self._view, host):
            taken = self._taken(place.route, alias)
            domains.update(
                dict.fromkeys(each for each in place.domains(alias) if each not in taken)
            )
        if place.service is not None:
            for address in place.service.addresses:
                if self._owns_address(place, place.service, address):
                    domains.update(dict.fromkeys(place.domains(address)))
        return tuple(domains)

    def _find(self, host: str) -> Iterator[Place]:
        scope = self._scope
        for listener in (scope.default, scope.http_proxy):
            if listener is not None:
                yield from self._find_at(listener, host)
        for listener in scope.explicit:
            if listener.route and scope.owner(listener.route) is listener:
                yield from self._find_at(listener, host)

    def _find_at(self, listener: EgressListener, host: str) -> Iterator[Place]:
        view = self._view
        service = imported_service(view, listener, host)
        ports = _http_ports(service) if service else _ports_of_rules(view, listener, host)
        if listener.every_port:
            for port in ports:
                alone = listener.bind.startswith(UNIX) and len(ports) == 1
                bare = alone or port == HTTP_PORT
                yield Place(listener, listener.route, port, service, bare=bare)
        elif not listener.catch_all:
            if listener.port in ports:
                yield Place(listener, listener.route, listener.port, service)
        else:
            for port in ports:
                route = str(port)
                if self._scope.owner(route) is not None:
                    continue
                if service is not None or imports_http(view, listener, port):
                    yield Place(listener, route, port, service)

    def _taken(self, route: str, name: str) -> frozenset[str]:
        """The domains that *name* has in a route as a host of its own."""
        return frozenset(
            domain
            for place in self.places(name)
            if place.route == route
            for domain in place.domains(name)
        )

    def _owns_address(self, place: Place, service: Service, address: str) -> bool:
        """Whether requests to a virtual IP in this route are for this service."""
        if not _is_address(address) or address in UNSPECIFIED:
            return False
        wanted = frozenset(place.domains(address))
        if wanted & self._taken(place.route, address):
            return False
        for key in self._view.services_at(address):
            if key == service.key:
                break
            if any(
                other.route == place.route
                and other.service is not None
                and other.service.key == key
                and not wanted.isdisjoint(other.domains(address))
                for other in self.places(key.host)
            ):
                self._view.report(
                    service.origin,
                    str(service.key),
                    f"requests to {address}, port {place.port}, go to {key}, which is older",
                )
                return False
        return True


def _http_ports(service: Service) -> tuple[int, ...]:
    return tuple(dict.fromkeys(port.number for port in service.ports if port.protocol.is_http))


def _ports_of_rules(view: View, listener: EgressListener, host: str) -> tuple[int, ...]:
    """Where a host is reached that no service has: port 80, and as services that stand beside it.

    These are the other hosts of its VirtualService, and a wildcard service that takes it in.
    """
    rules = mesh_rules(view, listener, host)
    if not rules:
        return ()
    hosts = [
        resolve_host(each, config.namespace, view.domain_suffix)
        for config in rules
        for each in config.spec.hosts
    ]
    services = [
        service
        for each in (*hosts, *host_patterns(host)[1:])
        if (service := imported_service(view, listener, each)) is not None
    ]
    found = {port for service in services for port in _http_ports(service)}
    return tuple(sorted({HTTP_PORT, *found}))


def _is_address(text: str) -> bool:
    """Whether it is an IP address in its one canonical form."""
    if ":" not in text:
        return _IPV4.fullmatch(text) is not None
    try:
        return str(ip_address(text)) == text
    except ValueError:
        return False
