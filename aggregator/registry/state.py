"""The merged state of the mesh: services, rules and places out of all registries' items.

Takes differences and says what changed. Knows nothing of runs, generations or guards. The cost of a
change follows the change: nothing walks over all services, except when precedence changes.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from msgspec import Struct, structs
from msgspec.structs import replace

from aggregator.model.change import (
    Change,
    ConfigChanged,
    EndpointsChanged,
    PlaceChanged,
    ServiceChanged,
    WorkloadMoved,
)
from aggregator.model.config import Config, ConfigKey
from aggregator.model.errors import Origin, Problem, Severity
from aggregator.model.policy import MergePolicy
from aggregator.model.registry import (
    AnnouncedRegistry,
    Item,
    Namespace,
    NetworkGateway,
    RegistryContext,
    ServiceItem,
    ShardKey,
)
from aggregator.model.secret import Secret
from aggregator.model.service import NOWHERE, Locality, Service, ServiceKey, Workload
from aggregator.registry.merge import NOTHING, Merged, Part, PartKey, is_address, merge_parts
from aggregator.registry.network import NetworkMap
from aggregator.registry.selection import NamespaceSelection
from aggregator.registry.shard import Difference
from aggregator.registry.sharing import MergeRule, resolve_policy
from aggregator.registry.workload import Candidate, WorkloadId, WorkloadIndex
from config.derive import derive_services, derive_workload
from config.mesh import MeshConfig, Network

K = TypeVar("K")
S = TypeVar("S")
V = TypeVar("V")
Source = tuple[str, str, str]
"""Registry, scope, and the adapter's own key: where one object comes from."""


class Outcome(Struct, frozen=True):
    """What came of a batch of differences."""

    changes: tuple[Change, ...] = ()
    problems: tuple[Problem, ...] = ()
    announced: bool = False


class _Touched:
    """What a batch may have changed, in the order in which it came up, and what was found wrong."""

    def __init__(self) -> None:
        self.services: dict[ServiceKey, None] = {}
        self.rules: dict[ConfigKey, None] = {}
        self.places: dict[str, None] = {}
        self.workloads: dict[str, list[object]] = {}
        self.problems: list[Problem] = []
        self.announced = False


class _Derived(Struct, frozen=True):
    """What was made of a ServiceEntry or WorkloadEntry, and from what."""

    source: Source
    config: Config
    services: tuple[ServiceKey, ...] = ()


class State:
    """All items by what they are about, and what they amount to."""

    def __init__(
        self,
        context_of: Callable[[str], RegistryContext],
        domain: str,
        mesh: MeshConfig,
        precedence: Sequence[str],
        items_of: Callable[[str], Iterable[tuple[ShardKey, str, Item]]] = lambda _registry: (),
    ) -> None:
        self._context_of: Final = context_of
        self._items_of: Final = items_of
        self._domain: Final = domain
        self._mesh = mesh
        self._rank = {name: index for index, name in enumerate(precedence)}
        self._rules: tuple[MergeRule, ...] = ()
        self._networks = NetworkMap({})
        self._selection: Final = NamespaceSelection(mesh.discovery_selectors)
        self._parts: dict[ServiceKey, dict[PartKey, ServiceItem]] = {}
        self._workloads: Final = WorkloadIndex()
        self._sources: dict[ConfigKey, dict[Source, Config]] = {}
        self._derived: dict[ConfigKey, _Derived] = {}
        self._namespaces: dict[str, dict[Source, Namespace]] = {}
        self._gateways: dict[str, dict[Source, NetworkGateway]] = {}
        self._doors: dict[PartKey, list[tuple[str, Source]]] = {}
        self._resolved: dict[str, tuple[str, ...]] = {}

        self.merged: Final[dict[ServiceKey, Merged]] = {}
        self.unclaimed: Final[set[ServiceKey]] = set()
        self.configs: Final[dict[ConfigKey, Config]] = {}
        self.losers: Final[dict[ConfigKey, tuple[Problem, ...]]] = {}
        self.merge_total = 0

    # Questions

    def place_of(self, namespace: str, cluster_id: str, addresses: Iterable[str]) -> Locality:
        """Where a workload is, as `WorkloadIndex` says."""
        return self._workloads.place_of(namespace, cluster_id, addresses)

    def parts(self, key: ServiceKey) -> list[Part]:
        """Who gives what to a service, in the order of precedence."""
        items = self._parts.get(key, {})
        native = {registry for registry, rule, _, _ in items if not rule}
        return [
            Part(part, items[part], self._picked(part, items[part], native), self._cluster_of(part))
            for part in sorted(items, key=lambda part: self._part_order(part, items[part]))
        ]

    def namespace(self, name: str) -> Namespace | None:
        """A namespace as the first registry that knows it tells."""
        sources = self._namespaces.get(name)
        return sources[min(sources, key=self._source_order)] if sources else None

    def gateways(self, network: str) -> tuple[NetworkGateway, ...]:
        """All ways into a network, sorted."""
        found = {
            replace(gateway, address=address)
            for gateway in self._told_gateways(network)
            for address in self._resolved.get(gateway.address, (gateway.address,))
        }
        return tuple(sorted(found, key=structs.astuple))

    def gateway_names(self) -> frozenset[str]:
        """The host names among the addresses of gateways, as they were told."""
        return frozenset(
            gateway.address
            for network in self.networks()
            for gateway in self._told_gateways(network)
            if not is_address(gateway.address)
        )

    def networks(self) -> tuple[str, ...]:
        """All networks that have gateways, or are in the settings."""
        return tuple(sorted({*self._gateways, *self._networks.networks}))

    # Changes

    def apply(self, differences: Iterable[Difference]) -> Outcome:
        """Take in what registries say differently than before."""
        touched = _Touched()
        for each in differences:
            self._index(each, touched)
        self._reselect(touched)
        return self._settle(touched)

    def set_precedence(self, names: Sequence[str]) -> Outcome:
        """Order the registries; what several of them speak of is merged again."""
        rank = {name: index for index, name in enumerate(names)}
        touched = _Touched()
        if rank != self._rank:
            self._rank = rank
            touched.services |= dict.fromkeys(
                key for key, parts in self._parts.items() if len({part[0] for part in parts}) > 1
            )
            touched.services |= self._shared_otherwise()
            touched.rules |= dict.fromkeys(
                rule for rule, sources in self._sources.items() if len(sources) > 1
            )
            touched.places |= dict.fromkeys(
                name for name, sources in self._namespaces.items() if len(sources) > 1
            )
        return self._settle(touched)

    def set_mesh(self, mesh: MeshConfig) -> Outcome:
        """Install mesh settings; entries without `exportTo` of their own depend on them."""
        touched = _Touched()
        same = mesh.default_service_export_to == self._mesh.default_service_export_to
        self._mesh = mesh
        self._selection.set_selectors(mesh.discovery_selectors)
        self._reselect(touched)
        if not same:
            self._derive_again(self._derived, touched)
        return self._settle(touched)

    def set_rules(self, rules: Sequence[MergeRule]) -> Outcome:
        """Install who shares which hosts how; only hosts for which that differs are merged."""
        self._rules = tuple(rules)
        touched = _Touched()
        touched.services |= self._shared_otherwise()
        return self._settle(touched)

    def set_networks(self, networks: Mapping[str, Network]) -> Outcome:
        """Install which networks there are: every endpoint may be in another one."""
        touched = _Touched()
        if networks != self._networks.networks:
            touched.places |= dict.fromkeys((*self._networks.networks, *networks))
            self._networks = NetworkMap(networks)
            for key, parts in self._parts.items():
                touched.services[key] = None
                for part, item in parts.items():
                    self._put_gateways(part, item, touched)
        return self._settle(touched)

    def set_gateway_addresses(self, known: Mapping[str, tuple[str, ...]]) -> Outcome:
        """Install the addresses of gateways that have names; one without any keeps its name."""
        touched = _Touched()
        differing = {
            name
            for name in {*self._resolved, *known}
            if self._resolved.get(name) != known.get(name)
        }
        self._resolved = dict(known)
        for network in self.networks():
            if any(each.address in differing for each in self._told_gateways(network)):
                touched.places[network] = None
        return self._settle(touched)

    def set_context(self, registry: str) -> Outcome:
        """The common settings of a registry changed: its entries are read by them, and what it
        tells belongs to its cluster.
        """
        touched = _Touched()
        mine = [key for key, derived in self._derived.items() if derived.source[0] == registry]
        self._derive_again(mine, touched)
        for key, parts in self._parts.items():
            for part, item in parts.items():
                if part[0] == registry:
                    touched.services[key] = None
                    self._put_gateways(part, item, touched)
        return self._settle(touched)

    # Inside

    def _index(self, difference: Difference, touched: _Touched) -> None:
        """Put one item where its kind is kept, and note what that may change."""
        for item, present in ((difference.old, False), (difference.new, True)):
            if item is not None and self._counts(difference.shard.registry, item):
                self._index_item(difference.shard, difference.key, item, present, touched)

    def _counts(self, registry: str, item: Item) -> bool:
        """Whether its namespace counts, if it is in one."""
        match item:
            case ServiceItem(namespace=name) | Workload(namespace=name) | Config(namespace=name):
                return self._selection.counts(registry, name)
            case _:
                return True

    def _reselect(self, touched: _Touched) -> None:
        """Bring in or take out what is in namespaces that are judged differently now."""
        for registry, flip in self._selection.settle().items():
            for shard, key, item in self._items_of(registry):
                match item:
                    case (
                        ServiceItem(namespace=name)
                        | Workload(namespace=name)
                        | Config(namespace=name)
                    ):
                        counts = flip.of(name)
                        if counts is not None:
                            self._index_item(shard, key, item, counts, touched)
                    case _:
                        pass

    def _index_item(
        self, shard: ShardKey, own: str, item: Item, present: bool, touched: _Touched
    ) -> None:
        source = (shard.registry, shard.scope, own)
        part = (shard.registry, False, shard.scope, own)
        match item:
            case ServiceItem(namespace=namespace, host=host):
                key = ServiceKey(namespace, host)
                self._put_part(key, part, item if present else None)
                self._put_gateways(part, item if present else None, touched)
                touched.services[key] = None
            case Workload():
                self._put_workload(part, item if present else None, touched)
            case Config():
                _put(self._sources, item.key, source, item if present else None)
                touched.rules[item.key] = None
            case Namespace(name=name):
                word = (shard.scope, own)
                self._selection.tell(shard.registry, item, word, present=present)
                _put(self._namespaces, name, source, item if present else None)
                touched.places[name] = None
            case NetworkGateway(network=network):
                _put(self._gateways, network, source, item if present else None)
                touched.places[network] = None
            case AnnouncedRegistry():
                touched.announced = True
            case Secret() | None:
                pass

    def _put_part(self, key: ServiceKey, part: PartKey, item: ServiceItem | None) -> None:
        old = self._parts.get(key, {}).get(part)
        _put(self._parts, key, part, item)
        if old is not None and old.service is not None:
            self._workloads.select(key, old.service.selector, -1)
        if item is not None and item.service is not None:
            self._workloads.select(key, item.service.selector, 1)

    def _told_gateways(self, network: str) -> Iterable[NetworkGateway]:
        yield from self._gateways.get(network, {}).values()
        yield from self._networks.gateways(network)

    def _put_gateways(self, part: PartKey, item: ServiceItem | None, touched: _Touched) -> None:
        """Keep the ways into networks that a service is."""
        registry, rule, scope, own = part
        for network, source in self._doors.pop(part, ()):
            _put(self._gateways, network, source, None)
            touched.places[network] = None
        if item is None or item.service is None or rule or not item.service.external_addresses:
            return
        found = self._networks.gateways_of(item.service, self._cluster_of(part), registry)
        for number, gateway in enumerate(found):
            source = (registry, scope, f"{own}#{number}")
            _put(self._gateways, gateway.network, source, gateway)
            self._doors.setdefault(part, []).append((gateway.network, source))
            touched.places[gateway.network] = None

    def _cluster_of(self, part: PartKey) -> str:
        """The cluster that a part belongs to; what rules say holds everywhere."""
        registry, rule, _, _ = part
        return "" if rule else self._context_of(registry).cluster_id

    def _shared_otherwise(self) -> dict[ServiceKey, None]:
        """The services whose policy is another one by now."""
        return dict.fromkeys(
            key for key, merged in self.merged.items() if merged.policy != self._policy(key.host)
        )

    def _policy(self, host: str) -> MergePolicy:
        return resolve_policy(self._rules, host, tuple(self._rank))

    def _put_workload(self, id_: WorkloadId, workload: Workload | None, touched: _Touched) -> None:
        known = self._workloads.get(id_)
        for each in (known, workload):
            if each is not None and each.endpoint.address not in touched.workloads:
                address = each.endpoint.address
                touched.workloads[address] = self._places_at(address)
        keys = self._workloads.put(id_, workload)
        touched.services |= dict.fromkeys(sorted(keys))

    def _places_at(self, address: str) -> list[object]:
        """All that `place_of` goes by."""
        return [
            (each.id, each.workload.namespace, endpoint.cluster_id, endpoint.locality)
            for each in self._workloads.at(address)
            if (endpoint := each.workload.endpoint).locality != NOWHERE
        ]

    def _settle(self, touched: _Touched) -> Outcome:
        """Merge again what was touched, and tell what came out differently.

        Rules come first: entries among them touch services.
        """
        changes: list[Change] = []
        changes += (ConfigChanged(key) for key in touched.rules if self._choose(key, touched))
        changes += filter(None, (self._merge(key, touched) for key in touched.services))
        changes += (PlaceChanged(name) for name in touched.places)
        changes += (
            WorkloadMoved(address)
            for address, before in touched.workloads.items()
            if self._places_at(address) != before
        )
        return Outcome(tuple(changes), tuple(touched.problems), touched.announced)

    def _merge(self, key: ServiceKey, touched: _Touched) -> Change | None:
        self.merge_total += 1
        old = self.merged.get(key, NOTHING)
        new = merge_parts(self.parts(key), self._policy(key.host), self._networks)
        if new.service is not None:
            self.merged[key] = new
        else:
            self.merged.pop(key, None)
        if new.service is None and key in self._parts:
            self.unclaimed.add(key)
        else:
            self.unclaimed.discard(key)
        touched.problems += (each for each in new.problems if each not in old.problems)
        if not _same(old.service, new.service):
            return ServiceChanged(key)
        same = old.endpoints == new.endpoints and old.policy == new.policy
        return None if same else EndpointsChanged(key)

    def _picked(
        self, part: PartKey, item: ServiceItem, native: Collection[str]
    ) -> tuple[Candidate, ...]:
        """What a definition's selector picks.

        A registry that itself tells of this service has already chosen from its own workloads; and
        a cluster's own services mean its own pods, not those of another cluster.
        """
        if item.service is None or not item.service.selector:
            return ()
        cluster_id = self._cluster_of(part)
        return tuple(
            each
            for each in self._workloads.pick(item.namespace, item.service.selector)
            if each.rule
            or (
                each.registry not in native
                and (not cluster_id or each.workload.endpoint.cluster_id in ("", cluster_id))
            )
        )

    def _choose(self, key: ConfigKey, touched: _Touched) -> bool:
        """Find which object of one name counts; whether it says something else than before."""
        sources = self._sources.get(key, {})
        order = sorted(sources, key=lambda source: self._rule_order(source, sources[source]))
        old = self.configs.get(key)
        new = sources[order[0]] if order else None
        losers = tuple(_outdone(sources[each], sources[order[0]]) for each in order[1:])
        touched.problems += (each for each in losers if each not in self.losers.get(key, ()))
        if losers:
            self.losers[key] = losers
        else:
            self.losers.pop(key, None)
        if new is None:
            self.configs.pop(key, None)
        else:
            self.configs[key] = new
        known = self._derived.get(key)
        if known is not None and (new is None or known.source != order[0] or known.config != new):
            self._underive(key, touched)
            known = None
        if known is None and new is not None:
            self._derive(key, order[0], new, touched)
        return not _same(old, new)

    def _derive(self, key: ConfigKey, source: Source, config: Config, touched: _Touched) -> None:
        """Make services of a ServiceEntry, a workload of a WorkloadEntry."""
        part = _derived_part(key, source)
        context = self._context_of(source[0])
        if key.kind == "WorkloadEntry":
            self._put_workload(part, derive_workload(config, context), touched)
            self._derived[key] = _Derived(source, config)
        elif key.kind == "ServiceEntry":
            services = []
            for item in derive_services(config, context, self._mesh):
                service = ServiceKey(item.namespace, item.host)
                self._put_part(service, part, item)
                touched.services[service] = None
                services.append(service)
            self._derived[key] = _Derived(source, config, tuple(services))

    def _derive_again(self, keys: Iterable[ConfigKey], touched: _Touched) -> None:
        for key in list(keys):
            derived = self._derived[key]
            self._underive(key, touched)
            self._derive(key, derived.source, derived.config, touched)

    def _underive(self, key: ConfigKey, touched: _Touched) -> None:
        derived = self._derived.pop(key)
        part = _derived_part(key, derived.source)
        if key.kind == "WorkloadEntry":
            self._put_workload(part, None, touched)
        for service in derived.services:
            self._put_part(service, part, None)
            touched.services[service] = None

    # Precedence: registries as declared; within one, what it tells itself before rules, the oldest
    # first, then by scope.

    def _registry_order(self, name: str) -> tuple[int, str]:
        return (self._rank.get(name, len(self._rank)), name)

    def _source_order(self, source: Source) -> tuple[object, ...]:
        return (*self._registry_order(source[0]), *source[1:])

    def _part_order(self, part: PartKey, item: ServiceItem) -> tuple[object, ...]:
        registry, rule, scope, own = part
        created = item.service.created if item.service else 0.0
        return (*self._registry_order(registry), rule, created or float("inf"), scope, own)

    def _rule_order(self, source: Source, config: Config) -> tuple[object, ...]:
        registry, scope, own = source
        return (*self._registry_order(registry), config.created or float("inf"), scope, own)


def _put(index: dict[K, dict[S, V]], key: K, source: S, value: V | None) -> None:
    """Keep or remove one source's word on one thing."""
    if value is not None:
        index.setdefault(key, {})[source] = value
    elif key in index:
        index[key].pop(source, None)
        if not index[key]:
            del index[key]


def _derived_part(key: ConfigKey, source: Source) -> PartKey:
    """Named after the rule: an adapter's key may come to mean another one."""
    return (source[0], True, source[1], f"{key.namespace}/{key.name}")


def _same(old: Service | Config | None, new: Service | Config | None) -> bool:
    """Whether the content is equal, wherever in its file it stands."""
    if old is None or new is None:
        return old is new
    return old == new or replace(old, origin=new.origin) == new


def _outdone(loser: Config, winner: Config) -> Problem:
    where = f" at {winner.origin}" if winner.origin != Origin() else ""
    message = f"left out: the one declared first{where} counts"
    return Problem(loser.origin, "", message, Severity.ERROR, str(loser.key))
