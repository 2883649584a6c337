"""The merged services and rules with their indexes: one consistent state, moved forward only
between pushes.

Each index is a set of facts, (index, key). Applying changes tells which facts are touched; what
read them must be built anew.
"""

from bisect import insort
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Final, TypeVar
from typing import Protocol as Interface

from aggregator.generators.bind import is_address
from aggregator.generators.spec import NODE_LABEL, Root, Unit
from aggregator.model.change import (
    Change,
    ConfigChanged,
    EndpointsChanged,
    MeshChanged,
    PlaceChanged,
    ServiceChanged,
    WorkloadMoved,
)
from aggregator.model.config import Config, ConfigKey
from aggregator.model.policy import UNION, MergePolicy
from aggregator.model.proxy import Proxy
from aggregator.model.registry import NetworkGateway
from aggregator.model.service import (
    Endpoint,
    Labels,
    Locality,
    Protocol,
    Resolution,
    Service,
    ServiceKey,
    TrafficDistribution,
    labels_match,
)
from config.kind import KindSpec
from config.mesh import MeshConfig

T = TypeVar("T", bound=Hashable)
Fact = tuple[str, Hashable]

HOST: Final = "host"
ENDPOINTS: Final = "endpoints"
POLICY: Final = "policy"
GATEWAYS: Final = "gateways"
HTTP_PORT: Final = "http_port"
TCP_PORT: Final = "tcp_port"
OPEN_TCP_PORT: Final = "open_tcp_port"
HTTP_PORTS: Final = "http_ports"
ADDRESS: Final = "address"
UNDER: Final = "under"
DYNAMIC: Final = "dynamic"
CONFIG: Final = "config"
CONFIG_HOST: Final = "config_host"
DESTINATION: Final = "destination"
MESH: Final = "mesh"


class WorldSource(Interface):
    """Where the world reads what changed: the registry layer's merged state."""

    def service(self, key: ServiceKey) -> Service | None:
        """The merged service, without endpoints."""

    def endpoints(self, key: ServiceKey) -> tuple[Endpoint, ...]:
        """Its united endpoints, in a stable order."""

    def policy(self, key: ServiceKey) -> MergePolicy:
        """How the registries that serve it share its traffic."""

    def gateways(self, network: str) -> tuple[NetworkGateway, ...]:
        """All ways into a network, sorted."""

    def networks(self) -> Iterable[str]:
        """All networks that have gateways."""

    def place_of(self, namespace: str, cluster_id: str, addresses: Iterable[str]) -> Locality:
        """Where a workload is, `NOWHERE` if no registry tells."""

    def config(self, key: ConfigKey) -> Config | None:
        """The winning object of that name."""

    def service_keys(self) -> Iterable[ServiceKey]:
        """All services."""

    def config_keys(self) -> Iterable[ConfigKey]:
        """All rules."""


class Touched:
    """What a batch of changes touched: facts, and whether proxies may have moved between views."""

    __slots__ = ("facts", "views_move")

    def __init__(self) -> None:
        self.facts: set[Fact] = set()
        self.views_move = False

    def units(self) -> set[Unit]:
        """The units that may have come into being with these facts."""
        units: set[Unit] = set()
        for index, key in self.facts:
            if index == HOST:
                units.add(Unit(Root.HOST, str(key)))
                units.add(Unit(Root.ROUTE_HOST, str(key)))
            elif index in (HTTP_PORT, TCP_PORT):
                units.add(Unit(Root.PORT, str(key)))
            elif index == ADDRESS and is_address(str(key)):
                units.add(Unit(Root.ADDRESS, str(key)))
            elif index == CONFIG_HOST and isinstance(key, tuple) and key[0] == "VirtualService":
                units.add(Unit(Root.ROUTE_HOST, str(key[1])))
        return units


def _service_age(service: Service) -> tuple[float, str]:
    return (service.created or float("inf"), service.namespace)


def suffixes(host: str) -> Iterable[str]:
    """The parents of a host name: ``b.c`` and ``c`` for ``a.b.c``."""
    _, dot, rest = host.partition(".")
    while dot:
        yield rest
        _, dot, rest = rest.partition(".")


class World:
    """All that generators can learn, with an index for each way of asking."""

    def __init__(self, mesh: MeshConfig, domain: str, kinds: Mapping[str, KindSpec]) -> None:
        self.mesh = mesh
        self.domain: Final = domain
        self.kinds: Final = kinds
        self.services: Final[dict[ServiceKey, Service]] = {}
        self.by_host: Final[dict[str, tuple[Service, ...]]] = {}
        self.endpoints: Final[dict[ServiceKey, tuple[Endpoint, ...]]] = {}
        self.policies: Final[dict[ServiceKey, MergePolicy]] = {}
        self.gateways: Final[dict[str, tuple[NetworkGateway, ...]]] = {}
        self.configs: Final[dict[ConfigKey, Config]] = {}
        self.by_config_host: Final[dict[tuple[str, str], tuple[Config, ...]]] = {}
        self.by_destination: Final[dict[str, tuple[Config, ...]]] = {}
        self.http_ports: Final[dict[int, dict[ServiceKey, Service]]] = {}
        self.tcp_ports: Final[dict[int, dict[ServiceKey, Service]]] = {}
        self.open_tcp_ports: Final[dict[int, dict[ServiceKey, Service]]] = {}
        self.by_address: Final[dict[str, list[tuple[float, ServiceKey]]]] = {}
        self.dynamic: Final[set[ServiceKey]] = set()
        self.bound_to_node: Final[set[ServiceKey]] = set()
        self.under: Final[dict[str, set[str]]] = {}
        self.sidecars: Final[dict[str, dict[str, Config]]] = {}
        self.selectors: Final[Counter[Labels]] = Counter()
        self.proxy_labels: Final[Counter[str]] = Counter()
        self._mesh_labels = self._labels_of_mesh(mesh)

    # Change

    def apply(self, changes: Iterable[Change], source: WorldSource) -> Touched:
        """Take the present content of all that changed; equal content touches nothing."""
        touched = Touched()
        for change in changes:
            match change:
                case ServiceChanged(key):
                    self._set_service(key, source.service(key), touched)
                    self._set_endpoints(key, source.endpoints(key), touched)
                    self._set_policy(key, source.policy(key), touched)
                case EndpointsChanged(key):
                    self._set_endpoints(key, source.endpoints(key), touched)
                    self._set_policy(key, source.policy(key), touched)
                case ConfigChanged(key):
                    self._set_config(key, source.config(key), touched)
                case PlaceChanged(name):
                    self._set_gateways(name, source.gateways(name), touched)
                case WorkloadMoved():
                    touched.views_move = True
                case MeshChanged():
                    pass  # it comes by `set_mesh`
        return touched

    def load(self, source: WorldSource) -> Touched:
        """Take everything, for the first state."""
        return self.apply(
            [
                *(ServiceChanged(key) for key in source.service_keys()),
                *(ConfigChanged(key) for key in source.config_keys()),
                *(PlaceChanged(name) for name in source.networks()),
            ],
            source,
        )

    def set_mesh(self, mesh: MeshConfig) -> Touched:
        """Install mesh settings; only the fields that differ are touched."""
        touched = Touched()
        for field in mesh.__struct_fields__:
            if getattr(mesh, field) != getattr(self.mesh, field):
                touched.facts.add((MESH, field))
        labels = self._labels_of_mesh(mesh)
        touched.views_move = (
            labels != self._mesh_labels or mesh.root_namespace != self.mesh.root_namespace
        )
        self.mesh, self._mesh_labels = mesh, labels
        return touched

    def _set_service(self, key: ServiceKey, new: Service | None, touched: Touched) -> None:
        old = self.services.get(key)
        if old == new:
            return
        facts = touched.facts
        facts.add((HOST, key.host))
        self._index_ports(key, old, new, facts)
        self._index_addresses(key, old, new, facts)
        self._index_dynamic(key, new, facts)
        touched.views_move |= self._index_bound_to_node(key, new)
        if new is None:
            del self.services[key]
        else:
            self.services[key] = new
        others = [
            each for each in self.by_host.get(key.host, ()) if each.namespace != key.namespace
        ]
        if new is not None:
            insort(others, new, key=_service_age)
        if others:
            self.by_host[key.host] = tuple(others)
        else:
            self.by_host.pop(key.host, None)
        for suffix in suffixes(key.host):
            hosts = self.under.setdefault(suffix, set())
            if (old is None) != (new is None):
                facts.add((UNDER, suffix))
            if key.host in self.by_host:
                hosts.add(key.host)
            else:
                hosts.discard(key.host)
                if not hosts:
                    del self.under[suffix]

    def _index_ports(
        self, key: ServiceKey, old: Service | None, new: Service | None, facts: set[Fact]
    ) -> None:
        for index, name, wanted in (
            (self.http_ports, HTTP_PORT, _http_ports),
            (self.tcp_ports, TCP_PORT, _tcp_ports),
            (self.open_tcp_ports, OPEN_TCP_PORT, _open_tcp_ports),
        ):
            before = wanted(old) if old else set()
            after = wanted(new) if new else set()
            # Who speaks HTTP on a port matters only as far as someone visible does.
            same = (
                old is not None
                and new is not None
                and (old.export_to == new.export_to if name == HTTP_PORT else old == new)
            )
            for number in before | after:
                if number in before and number in after and same:
                    if new is not None:
                        index[number][key] = new
                    continue
                facts.add((name, number))
                services = index.setdefault(number, {})
                if new is not None and number in after:
                    if not services and name == HTTP_PORT:
                        facts.add((HTTP_PORTS, ""))
                    services[key] = new
                else:
                    services.pop(key, None)
                    if not services:
                        del index[number]
                        if name == HTTP_PORT:
                            facts.add((HTTP_PORTS, ""))

    def _index_addresses(
        self, key: ServiceKey, old: Service | None, new: Service | None, facts: set[Fact]
    ) -> None:
        before = dict.fromkeys(old.addresses, old.created) if old else {}
        after = dict.fromkeys(new.addresses, new.created) if new else {}
        owners = old.cluster_addresses if old else ()
        if before == after and (new is None or owners == new.cluster_addresses):
            return
        for address, created in before.items():
            facts.add((ADDRESS, address))
            holders = self.by_address[address]
            holders.remove((created or float("inf"), key))
            if not holders:
                del self.by_address[address]
        for address, created in after.items():
            facts.add((ADDRESS, address))
            insort(self.by_address.setdefault(address, []), (created or float("inf"), key))

    def _index_dynamic(self, key: ServiceKey, new: Service | None, facts: set[Fact]) -> None:
        any_before = bool(self.dynamic)
        if new is not None and new.resolution is Resolution.DYNAMIC_DNS:
            self.dynamic.add(key)
        else:
            self.dynamic.discard(key)
        if bool(self.dynamic) != any_before:
            facts.add((DYNAMIC, ""))

    def _index_bound_to_node(self, key: ServiceKey, new: Service | None) -> bool:
        """Whether proxies are told apart by their machines now, or are no more."""
        any_before = bool(self.bound_to_node)
        if new is not None and new.traffic_distribution is TrafficDistribution.PREFER_SAME_NODE:
            self.bound_to_node.add(key)
        else:
            self.bound_to_node.discard(key)
        return bool(self.bound_to_node) != any_before

    def _set_endpoints(self, key: ServiceKey, new: tuple[Endpoint, ...], touched: Touched) -> None:
        if self.endpoints.get(key, ()) == new:
            return
        touched.facts.add((ENDPOINTS, key))
        if new:
            self.endpoints[key] = new
        else:
            del self.endpoints[key]

    def _set_policy(self, key: ServiceKey, new: MergePolicy, touched: Touched) -> None:
        if self.policies.get(key, UNION) == new:
            return
        touched.facts.add((POLICY, key))
        if new == UNION:
            del self.policies[key]
        else:
            self.policies[key] = new

    def _set_gateways(
        self, network: str, new: tuple[NetworkGateway, ...], touched: Touched
    ) -> None:
        if self.gateways.get(network, ()) == new:
            return
        touched.facts.add((GATEWAYS, network))
        if new:
            self.gateways[network] = new
        else:
            del self.gateways[network]

    def _set_config(self, key: ConfigKey, new: Config | None, touched: Touched) -> None:
        old = self.configs.get(key)
        if old == new:
            return
        spec = self.kinds[key.kind]
        touched.facts.add((CONFIG, key))
        old_hosts = spec.hosts(old, self.domain) if old else ()
        new_hosts = spec.hosts(new, self.domain) if new else ()
        for host in {*old_hosts, *new_hosts}:
            index = (key.kind, host)
            touched.facts.add((CONFIG_HOST, index))
            _list_config(self.by_config_host, index, key, new if host in new_hosts else None)
        old_ends = spec.destinations(old, self.domain) if old else frozenset()
        new_ends = spec.destinations(new, self.domain) if new else frozenset()
        old_seen = (old_hosts, spec.export_to(old)) if old else None
        new_seen = (new_hosts, spec.export_to(new)) if new else None
        for host in old_ends | new_ends:
            # Who is sent to matters, from which hosts, and for whom; not the rest of the rule.
            if old_seen != new_seen or (host in old_ends) is not (host in new_ends):
                touched.facts.add((DESTINATION, host))
            _list_config(self.by_destination, host, key, new if host in new_ends else None)
        self._count(spec, old, new, touched)
        if key.kind == "Sidecar":
            touched.views_move = True
            sidecars = self.sidecars.setdefault(key.namespace, {})
            sidecars.pop(key.name, None)
            if new is not None:
                sidecars[key.name] = new
            elif not sidecars:
                del self.sidecars[key.namespace]
        if new is None:
            del self.configs[key]
        else:
            self.configs[key] = new

    def _count(
        self, spec: KindSpec, old: Config | None, new: Config | None, touched: Touched
    ) -> None:
        """Keep the sets of selectors and label names that the keys of views are made of."""
        for counter, ask in (
            (self.selectors, spec.selectors),
            (self.proxy_labels, spec.proxy_labels),
        ):
            counts: Counter[Any] = counter
            before: set[Any] = set(ask(old)) if old else set()
            after: set[Any] = set(ask(new)) if new else set()
            for item in after - before:
                counts[item] += 1
                touched.views_move |= counts[item] == 1
            for item in before - after:
                counts[item] -= 1
                if not counts[item]:
                    del counts[item]
                    touched.views_move = True

    @staticmethod
    def _labels_of_mesh(mesh: MeshConfig) -> frozenset[str]:
        setting = mesh.locality_lb_setting
        names = setting.failover_priority if setting else ()
        return frozenset(name.partition("=")[0] for name in names)

    # Questions about proxies

    def sidecar_for(self, proxy: Proxy) -> ConfigKey | None:
        """The Sidecar that selects a proxy: by labels in its namespace, else its namespace's, else
        the root namespace's.

        Istio's rule; of several the oldest.
        """
        if proxy.kind != "sidecar":
            return None
        own = sorted(self.sidecars.get(proxy.namespace, {}).values(), key=_config_age)
        for selected in (True, False):
            for config in own:
                selectors = self.kinds["Sidecar"].selectors(config)
                if bool(selectors) is selected and all(
                    labels_match(selector, proxy.labels) for selector in selectors
                ):
                    return config.key
        root = self.sidecars.get(self.mesh.root_namespace, {}).values()
        for config in sorted(root, key=_config_age):
            if not self.kinds["Sidecar"].selectors(config):
                return config.key
        return None

    def label_names(self) -> frozenset[str]:
        """Names of proxy labels that failover priorities and services compare."""
        by_node = frozenset({NODE_LABEL} if self.bound_to_node else ())
        return self._mesh_labels | frozenset(self.proxy_labels) | by_node

    def roots(self, root: Root) -> Iterable[str]:
        """The keys of an index that are units of work."""
        match root:
            case Root.VIEW:
                return ("",)
            case Root.HOST:
                return self.by_host.keys()
            case Root.PORT:
                return [str(port) for port in {*self.http_ports, *self.tcp_ports}]
            case Root.ADDRESS:
                return [address for address in self.by_address if is_address(address)]
            case Root.ROUTE_HOST:
                rules = {host for kind, host in self.by_config_host if kind == "VirtualService"}
                return rules | self.by_host.keys()

    def has_root(self, unit: Unit) -> bool:
        """Whether the unit's key is still in its index."""
        match unit.root:
            case Root.VIEW:
                return True
            case Root.HOST:
                return unit.key in self.by_host
            case Root.PORT:
                return int(unit.key) in self.http_ports or int(unit.key) in self.tcp_ports
            case Root.ADDRESS:
                return unit.key in self.by_address
            case Root.ROUTE_HOST:
                return (
                    unit.key in self.by_host or ("VirtualService", unit.key) in self.by_config_host
                )


def _list_config(
    index: dict[T, tuple[Config, ...]], place: T, key: ConfigKey, new: Config | None
) -> None:
    """Replace one object in an index, oldest first."""
    others = [each for each in index.get(place, ()) if each.key != key]
    if new is not None:
        insort(others, new, key=_config_age)
    if others:
        index[place] = tuple(others)
    else:
        index.pop(place, None)


def _config_age(config: Config) -> tuple[float, str, str]:
    return config.age_order


def _http_ports(service: Service) -> set[int]:
    return {port.number for port in service.ports if port.protocol.is_http}


def _tcp_ports(service: Service) -> set[int]:
    return {
        port.number
        for port in service.ports
        if not port.protocol.is_http and port.protocol is not Protocol.UDP
    }


def _open_tcp_ports(service: Service) -> set[int]:
    """The ports on which the dialled address does not tell that this service is meant."""
    told = any(is_address(address) for address in service.addresses)
    ranges = any("/" in address for address in service.addresses)
    return set() if told and not ranges else _tcp_ports(service)
