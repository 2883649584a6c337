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
)
from aggregator.generators.spec import View
from aggregator.generators.virtual_service import mesh_rules
from aggregator.model.service import Service
from config.host import host_patterns, resolve_host

HTTP_PORT: Final = 80
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


def resolve_places(view: View, scope: OutboundScope, host: str) -> tuple[Place, ...]:
    """Every virtual host that *host* has."""
    if not is_host(host):
        return ()
    listeners = [each for each in (scope.default, scope.http_proxy) if each is not None]
    explicit = [each for each in scope.explicit if each.route and scope.owner(each.route) is each]
    return tuple(
        place
        for listener in (*listeners, *explicit)
        for place in _places_at(view, scope, listener, host)
    )


def resolve_domains(view: View, scope: OutboundScope, place: Place, host: str) -> tuple[str, ...]:
    """The domains of one virtual host, none of which another one of its route has."""
    domains = dict.fromkeys(place.domains(host))
    if not _is_address(host):
        # The form that is not completed by a resolver's search list.
        domains.update(dict.fromkeys(place.domains(host + ".")))
    for alias in short_names(view, host):
        taken = _domains_of(view, scope, place.route, alias)
        domains.update(dict.fromkeys(each for each in place.domains(alias) if each not in taken))
    for address in place.service.addresses if place.service else ():
        if _owns_address(view, scope, place, host, address):
            domains.update(dict.fromkeys(place.domains(address)))
    return tuple(domains)


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
    # "a.b.svc" is short for a service b in a namespace a before it is for one in "b.svc".
    names = [f"{rest}.svc"] if deep and rest.endswith(".svc") else [rest, f"{rest}.svc"]
    if not deep and not name.startswith("*") and view.in_namespace(namespace):
        names.insert(0, name)
    return tuple(names)


def _places_at(
    view: View, scope: OutboundScope, listener: EgressListener, host: str
) -> Iterator[Place]:
    service = imported_service(view, listener, host)
    ports = _http_ports(service) if service else _ports_of_rules(view, listener, host)
    if listener.every_port:
        for port in ports:
            alone = listener.bind.startswith(UNIX) and len(ports) == 1
            yield Place(listener, listener.route, port, service, bare=alone or port == HTTP_PORT)
    elif not listener.catch_all:
        if listener.port in ports:
            yield Place(listener, listener.route, listener.port, service)
    else:
        for port in ports:
            if scope.owner(str(port)) is None and (service or view.http_on_port(port)):
                yield Place(listener, str(port), port, service)


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


def _domains_of(view: View, scope: OutboundScope, route: str, name: str) -> frozenset[str]:
    """The domains that *name* has in a route as a host of its own."""
    return frozenset(
        domain
        for place in resolve_places(view, scope, name)
        if place.route == route
        for domain in place.domains(name)
    )


def _owns_address(view: View, scope: OutboundScope, place: Place, host: str, address: str) -> bool:
    """Whether requests to a virtual IP in this route are for this service."""
    wanted = set(place.domains(address))
    if not _is_address(address) or ip_address(address).is_unspecified:
        return False
    if wanted & _domains_of(view, scope, place.route, address):
        return False
    for key in view.services_at(address):
        if place.service is not None and key == place.service.key:
            return True
        for other in resolve_places(view, scope, key.host):
            if (
                other.route == place.route
                and other.service is not None
                and other.service.key == key
                and wanted & set(other.domains(address))
            ):
                view.report(
                    place.service.origin if place.service else other.service.origin,
                    host,
                    f"requests to {address} on port {place.port} go to {key}, which is older",
                )
                return False
    return True


def _is_address(text: str) -> bool:
    """Whether it is an IP address in its one canonical form."""
    try:
        return str(ip_address(text)) == text
    except ValueError:
        return False
