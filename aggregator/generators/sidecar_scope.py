"""What a proxy's Sidecar lets it reach: outbound listeners, what each imports, and their routes.

Listeners and routes both come from here, so that a listener never names a route that is not made.
"""

from collections.abc import Callable
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import replace

from aggregator.generators.spec import View
from aggregator.model.config import Config
from aggregator.model.service import Protocol, Service
from config.destination import Destination
from config.host import host_matches, resolve_host
from config.kinds.sidecar import CaptureMode, IstioEgressListener, Sidecar

HTTP_PROXY_ROUTE = "http_proxy"
UNIX = "unix://"
EVERYTHING = ("*/*",)


class Imports(Struct, frozen=True):
    """The hosts of one listener as (namespace, host pattern).

    ``*`` is any namespace, ``.`` the proxy's own.
    """

    exact: frozenset[tuple[str, str]] = frozenset()
    patterns: tuple[tuple[str, str], ...] = ()
    excluded: tuple[tuple[str, str], ...] = ()
    own: bool = False


class EgressListener(Struct, frozen=True):
    """One outbound listener of the scope.

    The catch-all has `port` 0 and no socket to bind: it stands for one listener on each port of
    its services, and its routes are named by these ports. `route` is empty too where no HTTP is
    spoken. `protocol` is None where it follows the services. `every_port` says that requests for
    all ports of the services come in here, so that the port in the authority tells them apart.
    """

    route: str
    port: int
    bind: str
    protocol: Protocol | None
    capture_mode: CaptureMode
    every_port: bool
    imports: Imports

    @property
    def catch_all(self) -> bool:
        """Whether it stands for all ports that no other listener names."""
        return not self.route and not self.port and not self.bind.startswith(UNIX)


class OutboundScope(Struct, frozen=True):
    """All outbound listeners: the explicit ones, the catch-all, the mesh's HTTP proxy port."""

    explicit: tuple[EgressListener, ...]
    default: EgressListener | None
    http_proxy: EgressListener | None = None

    def owner(self, route: str) -> EgressListener | None:
        """The explicit listener that has that route; routes without one are the catch-all's."""
        return next((each for each in self.explicit if each.route == route), None)


def outbound_scope(view: View) -> OutboundScope:
    """The scope of these proxies; unless a Sidecar says more, one catch-all imports everything."""
    egress: tuple[IstioEgressListener, ...] = ()
    config = view.sidecar()
    if config is not None:
        spec: Sidecar = config.spec
        egress = spec.egress
    listeners = [_resolve(each) for each in egress or (IstioEgressListener(hosts=EVERYTHING),)]
    default = next((each for each in listeners if each.catch_all), None)
    return OutboundScope(
        tuple(each for each in listeners if not each.catch_all),
        default,
        _http_proxy(view, default),
    )


def _http_proxy(view: View, default: EgressListener | None) -> EgressListener | None:
    port = view.mesh.proxy_http_port
    if not port or default is None:
        return None
    return EgressListener(
        HTTP_PROXY_ROUTE,
        port,
        "",
        Protocol.HTTP_PROXY,
        CaptureMode.NONE,
        every_port=True,
        imports=default.imports,
    )


def _resolve(listener: IstioEgressListener) -> EgressListener:
    port = listener.port.number if listener.port else 0
    protocol = Protocol.parse(listener.port.protocol) or Protocol.TCP if listener.port else None
    unix = listener.bind.startswith(UNIX)
    every_port = unix or protocol == Protocol.HTTP_PROXY
    route = ""
    if protocol is not None and protocol.is_http:
        route = listener.bind if unix else str(port)
    return EgressListener(
        route,
        0 if unix else port,
        listener.bind,
        protocol,
        listener.capture_mode,
        every_port,
        _read_hosts(listener.hosts),
    )


def is_captured(view: View, listener: EgressListener) -> bool:
    """Whether connections are redirected here, so that they know where they wanted to go."""
    if listener.bind.startswith(UNIX) or listener.capture_mode == CaptureMode.NONE:
        return False
    return view.interception_mode != "NONE"


@lru_cache(maxsize=1024)
def _read_hosts(hosts: tuple[str, ...]) -> Imports:
    """Sort ``namespace/host`` entries; ``~namespace/host`` and ``~/host`` leave hosts out."""
    exact: set[tuple[str, str]] = set()
    patterns: list[tuple[str, str]] = []
    excluded: list[tuple[str, str]] = []
    for each in hosts:
        namespace, _, host = each.partition("/")
        if namespace.startswith("~"):
            excluded.append((namespace[1:] or "*", host))
        elif host.startswith("*") or namespace == "*":
            patterns.append((namespace, host))
        else:
            exact.add((namespace, host))
    own = any(namespace == "." for namespace, _ in (*exact, *patterns, *excluded))
    return Imports(frozenset(exact), tuple(patterns), tuple(excluded), own)


def imported(
    sidecar: Config, namespace: str, host: str, own: Callable[[str], bool] | None = None
) -> bool:
    """Whether any outbound listener of *sidecar* imports the service *host* of *namespace*.

    *own* says whether a namespace is the proxy's own; without it that is the Sidecar's, which is
    wrong only for the root namespace's. Asked only where ``.`` is used.
    """
    spec: Sidecar = sidecar.spec
    is_own = own or sidecar.namespace.__eq__
    return not spec.egress or any(
        _imports_host(_read_hosts(each.hosts), namespace, host, is_own) for each in spec.egress
    )


def imports_host(view: View, listener: EgressListener, namespace: str, host: str) -> bool:
    """Whether the listener imports the service *host* of *namespace*."""
    return _imports_host(listener.imports, namespace, host, view.in_namespace)


def _imports_host(imports: Imports, namespace: str, host: str, own: Callable[[str], bool]) -> bool:
    where = _places(imports, namespace, own)
    if _covers(imports.excluded, where, host):
        return False
    if any((each, host) in imports.exact for each in where):
        return True
    return _covers(imports.patterns, where, host)


def imports_http(view: View, listener: EgressListener, port: int) -> bool:
    """Whether HTTP is spoken on *port* by a service that the listener imports.

    What these proxies see beside is reached by rules or other listeners, and opens no port here.
    """

    def wanted(service: Service) -> bool:
        return imports_host(view, listener, service.namespace, service.host)

    return view.http_on_port(port, wanted)


def imports_rule(view: View, listener: EgressListener, namespace: str, host: str) -> bool:
    """Whether the listener imports a rule of *namespace* for *host*.

    The host may be a wildcard that is wider than what is imported.
    """
    imports = listener.imports
    where = _places(imports, namespace, view.in_namespace)
    if _covers(imports.excluded, where, host):
        return False
    if any((each, host) in imports.exact for each in where):
        return True
    wanted = imports.patterns if not host.startswith("*") else (*imports.exact, *imports.patterns)
    return any(
        place in where and (host_matches(pattern, host) or host_matches(host, pattern))
        for place, pattern in wanted
    )


def imported_service(view: View, listener: EgressListener, host: str) -> Service | None:
    """The service of that host which the listener imports: usually the one that the proxy sees.

    Where listeners import the same host from different namespaces, each has its own.
    """
    seen = view.service(host)
    if seen is None or imports_host(view, listener, seen.namespace, host):
        return seen
    named = sorted({place for place, _ in (*listener.imports.exact, *listener.imports.patterns)})
    for namespace in named:
        if namespace in ("*", "."):
            continue
        other = view.service_in(namespace, host)
        if other is not None and imports_host(view, listener, namespace, host):
            return other
    return None


def _places(imports: Imports, namespace: str, own: Callable[[str], bool]) -> tuple[str, ...]:
    """How *namespace* may be listed; asks for the proxy's own only where ``.`` is used."""
    if imports.own and own(namespace):
        return (namespace, "*", ".")
    return (namespace, "*")


def _covers(entries: tuple[tuple[str, str], ...], where: tuple[str, ...], host: str) -> bool:
    return any(place in where and host_matches(pattern, host) for place, pattern in entries)


class OutboundPolicy(Struct, frozen=True):
    """What happens to traffic to unknown hosts; `egress_proxy` replaces where it wanted to go."""

    allow_any: bool
    egress_proxy: Destination | None = None


def outbound_policy(view: View) -> OutboundPolicy:
    """The Sidecar's policy, else the mesh's."""
    config = view.sidecar()
    if config is not None:
        spec: Sidecar = config.spec
        policy = spec.outbound_traffic_policy
        if policy is not None:
            proxy = policy.egress_proxy
            if proxy is not None:
                host = resolve_host(proxy.host, config.namespace, view.domain_suffix)
                proxy = replace(proxy, host=host)
            return OutboundPolicy(policy.mode == "ALLOW_ANY", proxy)
    return OutboundPolicy(view.mesh.outbound_traffic_policy.mode == "ALLOW_ANY")
