"""Merges what all registries say into one state, and tells what changed in it.

Keeps the last good state of every shard over errors and restarts, prepares replacements beside what
is served, and asks the loss guard before it believes that much is gone. Synchronous, without I/O.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

import structlog
from msgspec import Struct, field
from msgspec.structs import replace
from structlog.typing import FilteringBoundLogger

from aggregator.model.change import Change, PlaceChanged
from aggregator.model.config import Config, ConfigKey
from aggregator.model.errors import Origin, Problem, Severity
from aggregator.model.policy import MergePolicy
from aggregator.model.registry import (
    AnnouncedRegistry,
    Content,
    Item,
    Namespace,
    NetworkGateway,
    OnSecrets,
    RegistryContext,
    RegistrySink,
    ShardKey,
)
from aggregator.model.service import Endpoint, Locality, Service, ServiceKey
from aggregator.registry.guard import Hold, LossGuard
from aggregator.registry.intake import Intake
from aggregator.registry.mapping import Mapper
from aggregator.registry.merge import NOTHING
from aggregator.registry.secrets import Follower
from aggregator.registry.settings import Handling
from aggregator.registry.shard import Counts, Difference, Generation, weight_of
from aggregator.registry.sharing import MergeRule
from aggregator.registry.state import Outcome, State
from config.mesh import MeshConfig, Network

SWAP: Final = "swap"
ANNOUNCED: Final = "announced"
"""The scope of problems with what a registry announces, which its adapter does not know."""


class Contribution(Struct, frozen=True):
    """What one scope gives to one service: the provenance that people are shown."""

    registry: str
    scope: str
    key: str
    defines: bool
    endpoints: int
    picked: int
    origin: Origin


class Summary(Struct, frozen=True):
    """How much of one registry is in the merged state.

    `skipped` counts objects that are left out for an error, `lingering` services that were absent
    from a listing and wait for their end without endpoints, `excluded` items that mapping rules
    leave out.
    """

    counts: Counts = field(default_factory=Counts)
    problems: int = 0
    skipped: int = 0
    excluded: int = 0
    scopes: int = 0
    revision: str = ""
    held: Mapping[str, Hold] = {}
    lingering: int = 0
    last_success: float | None = None


class Said(Struct, frozen=True):
    """All that a registry has said, and how often that has changed."""

    shards: Mapping[ShardKey, Mapping[str, Item]]
    revision: str
    version: int


class _Registry:
    """One registry by name: what is served of it, and what prepares to replace that."""

    def __init__(self, context: RegistryContext, intake: Intake) -> None:
        self.name = context.name
        self.context = context
        self.intake = intake
        self.staged: Generation | None = None
        self.staged_context = context
        self.sinks: list[_Sink] = []
        self.refused: tuple[Problem, ...] = ()
        self.swap_due: Callable[[], None] | None = None
        self.complete = False
        self.last_success: float | None = None

    @property
    def live(self) -> Generation:
        """What is served."""
        return self.intake.live


class Aggregate:
    """The merged state of all registries. Everything is called from the event loop's thread.

    *on_changes* is called at the end of whatever changed the state, and must not feed a sink;
    `told_by` says meanwhile which registry's word it was, "" for the settings'.
    """

    def __init__(
        self,
        on_changes: Callable[[Sequence[Change]], None],
        *,
        clock: Callable[[], float],
        domain: str = "cluster.local",
        mesh: MeshConfig | None = None,
        precedence: Sequence[str] = (),
        guard: LossGuard | None = None,
        log: FilteringBoundLogger | None = None,
    ) -> None:
        self.told_by = ""
        self._on_changes = on_changes
        self._clock = clock
        self._guard = guard or LossGuard()
        self._log: FilteringBoundLogger = log or structlog.get_logger(__name__)
        self._registries: dict[str, _Registry] = {}
        self._handlings: dict[str, Handling] = {}
        self._on_announced: Callable[[], None] | None = None
        self._on_places: Callable[[], None] | None = None
        self._followers: dict[str, list[Follower]] = {}
        self._state = State(
            self._context_of, domain, mesh or MeshConfig(), precedence, self._items_of
        )

    # What others read

    def service(self, key: ServiceKey) -> Service | None:
        """The merged service, without its endpoints."""
        return self._state.merged.get(key, NOTHING).service

    def endpoints(self, key: ServiceKey) -> tuple[Endpoint, ...]:
        """The united endpoints in a stable order; none while nobody defines the service."""
        return self._state.merged.get(key, NOTHING).endpoints

    def policy(self, key: ServiceKey) -> MergePolicy:
        """How the registries that serve it share its traffic."""
        return self._state.merged.get(key, NOTHING).policy

    def config(self, key: ConfigKey) -> Config | None:
        """The object of that name that counts."""
        return self._state.configs.get(key)

    def service_keys(self) -> Collection[ServiceKey]:
        """All defined services."""
        return self._state.merged.keys()

    def config_keys(self) -> Collection[ConfigKey]:
        """All rules."""
        return self._state.configs.keys()

    def namespace(self, name: str) -> Namespace | None:
        """A namespace as the first registry that knows it tells."""
        return self._state.namespace(name)

    def gateways(self, network: str) -> tuple[NetworkGateway, ...]:
        """All ways into a network, sorted."""
        return self._state.gateways(network)

    def gateway_names(self) -> frozenset[str]:
        """The host names among the addresses of gateways, as they were told."""
        return self._state.gateway_names()

    def networks(self) -> Collection[str]:
        """All networks that have gateways, or are in the settings."""
        return self._state.networks()

    def place_of(self, namespace: str, cluster_id: str, addresses: Iterable[str]) -> Locality:
        """Where the workload is that a proxy of this namespace and cluster, with these addresses,
        is beside; `NOWHERE` if no registry tells.
        """
        return self._state.place_of(namespace, cluster_id, addresses)

    def unclaimed(self) -> tuple[ServiceKey, ...]:
        """Hosts with endpoints that nobody has defined as services yet."""
        return tuple(sorted(self._state.unclaimed))

    def contributions(self, key: ServiceKey) -> tuple[Contribution, ...]:
        """Who gives what to a service, in the order of precedence."""
        return tuple(
            Contribution(
                part.registry,
                part.key[2],
                part.key[3],
                part.item.service is not None,
                len(part.item.endpoints),
                len(part.picked),
                part.item.service.origin if part.item.service else Origin(),
            )
            for part in self._state.parts(key)
        )

    def problems(self) -> dict[tuple[str, str], tuple[Problem, ...]]:
        """What adapters report, and what mapping rules could not use, by registry and scope."""
        return {
            (name, scope): problems
            for name, registry in self._registries.items()
            for scope, problems in (
                *registry.live.all_problems().items(),
                (ANNOUNCED, registry.refused),
            )
            if problems
        }

    def conflicts(self) -> tuple[Problem, ...]:
        """Where registries contradict each other."""
        services = (
            problem for merged in self._state.merged.values() for problem in merged.problems
        )
        rules = (problem for each in self._state.losers.values() for problem in each)
        return tuple(sorted({*services, *rules}))

    def announced(self) -> dict[str, tuple[AnnouncedRegistry, ...]]:
        """The registries that each registry announces, by name; of several with one name the oldest
        first, then by scope, and last what is only remembered.
        """
        found = {}
        for name, registry in self._registries.items():
            items = [
                item
                for shard in sorted(registry.live.announcing)
                for item in registry.live.shards[shard].values()
                if isinstance(item, AnnouncedRegistry)
            ]
            if items:
                found[name] = tuple(
                    sorted(items, key=lambda each: (each.name, each.remembered, each.created))
                )
        return found

    def refuse_announced(self, problems: Mapping[str, tuple[Problem, ...]]) -> None:
        """Note, by announcer, what is wrong with announcements, in place of what was before."""
        for name, registry in self._registries.items():
            registry.refused = problems.get(name, ())

    def summary(self, name: str, *, staged: bool = False) -> Summary:
        """How much one registry gives, or what is prepared to replace it would give."""
        registry = self._registries.get(name)
        if registry is None:
            return Summary()
        generation = registry.staged if staged else registry.live
        if generation is None:
            return Summary()
        reported = [each for scope in generation.all_problems().values() for each in scope]
        problems = reported if staged else [*reported, *registry.refused]
        errors = (each for each in problems if each.severity is Severity.ERROR)
        return Summary(
            counts=replace(generation.counts),
            problems=len(problems),
            skipped=len({(each.origin, each.subject) for each in errors}),
            excluded=generation.excluded,
            scopes=len({shard.scope for shard in generation.shards}),
            revision=generation.revision,
            held={
                listing: hold
                for listing, hold in self._guard.held(name).items()
                if (listing == SWAP) is staged
            },
            lingering=0 if staged else len(registry.intake.grace),
            last_success=registry.last_success,
        )

    def version(self, name: str) -> int | None:
        """How often what a registry said has changed; None before its first complete listing."""
        registry = self._registries.get(name)
        return registry.live.version if registry is not None and registry.complete else None

    def said(self, name: str) -> Said | None:
        """All that a registry has said, as it was told; None before its first complete listing."""
        registry = self._registries.get(name)
        if registry is None or not registry.complete:
            return None
        live = registry.live
        shards = {shard: dict(live.said(shard)) for shard in live.shards}
        return Said(shards, live.revision, live.version)

    def served(self, name: str) -> Mapping[ShardKey, Mapping[str, Item]]:
        """What is served of a registry's words, before it is merged with what others say."""
        registry = self._registries.get(name)
        return registry.live.shards if registry is not None else {}

    @property
    def merge_total(self) -> int:
        """How many times a service was merged."""
        return self._state.merge_total

    # What the supervisor calls

    def watch_places(self, on_places: Callable[[], None]) -> None:
        """Have *on_places* called whenever a network's gateways or a namespace may be others."""
        self._on_places = on_places

    def watch_announced(self, on_announced: Callable[[], None]) -> None:
        """Have *on_announced* called whenever some registry announces others than before."""
        self._on_announced = on_announced

    def configure(self, name: str, handling: Handling) -> None:
        """Handle what a registry says so from now on, whether it runs already or not."""
        self._handlings[name] = handling
        self._guard.configure(name, handling.guard)
        registry = self._registries.get(name)
        if registry is None:
            return
        registry.intake.grace.seconds = handling.deletion_grace
        if registry.live.mapper.rules != handling.mapping:
            if registry.staged is not None:
                registry.staged.remap(Mapper(handling.mapping, registry.staged_context))
            self._apply(registry.live.remap(Mapper(handling.mapping, registry.context)))

    def restore(
        self, name: str, context: RegistryContext, shards: Mapping[ShardKey, Mapping[str, Item]]
    ) -> None:
        """Serve what a registry said in another life, until it says otherwise itself.

        Its first listings are judged by this as they would be after a mere outage.
        """
        registry = self._known(name, context)
        differences = [
            each for shard in shards for each in registry.live.replace(shard, shards[shard])
        ]
        self._apply(differences)

    def sink(
        self,
        name: str,
        context: RegistryContext | None = None,
        on_synced: Callable[[], None] | None = None,
    ) -> RegistrySink:
        """Begin a run of a registry's adapter. Earlier sinks of it are dead from now on."""
        context = context or RegistryContext(name=name, cluster_id=name)
        registry = self._known(name, context)
        registry.context = context
        for sink in registry.sinks:
            sink.alive = sink.generation is registry.staged and sink.alive
        return self._begin(registry, registry.live, on_synced)

    def swap(
        self,
        name: str,
        context: RegistryContext | None = None,
        on_swapped: Callable[[], None] | None = None,
    ) -> RegistrySink:
        """Begin a run that prepares to replace a registry, which is served as before meanwhile.

        Once the new run is synced, and the loss guard agrees, it takes the old one's place at once.
        A later run of the same replacement, after an error, goes on with what that had.
        """
        context = context or RegistryContext(name=name, cluster_id=name)
        registry = self._known(name, context)
        if registry.staged is None or registry.staged_context != context:
            handling = self._handlings.get(name, Handling())
            registry.staged = Generation(name, Mapper(handling.mapping, context))
            registry.staged_context = context
            registry.swap_due = None
        for sink in registry.sinks:
            sink.alive = sink.generation is registry.live and sink.alive
        return self._begin(registry, registry.staged, on_swapped)

    def abandon_swap(self, name: str) -> None:
        """What was prepared is not wanted any more."""
        registry = self._registries.get(name)
        if registry is None:
            return
        for sink in registry.sinks:
            sink.alive = sink.generation is registry.live and sink.alive
        registry.staged = registry.swap_due = None
        self._guard.release(name, SWAP)

    def remove_registry(self, name: str) -> None:
        """Purge all that a registry gave, at once: it is out of the settings."""
        registry = self._registries.pop(name, None)
        self._handlings.pop(name, None)
        self._guard.configure(name, None)
        if registry is None:
            return
        for sink in registry.sinks:
            sink.alive = False
        self._guard.forget(name)
        self._apply(registry.live.differences_to(Generation(name)))

    def set_precedence(self, names: Sequence[str]) -> None:
        """Order the registries; what several of them define is merged again."""
        self._tell(self._state.set_precedence(names))

    def set_mesh(self, mesh: MeshConfig) -> None:
        """Install mesh settings: rules without `exportTo` of their own depend on them, and which
        namespaces count.
        """
        self._tell(self._state.set_mesh(mesh))

    def set_merge_rules(self, rules: Sequence[MergeRule]) -> None:
        """Install which registries share which hosts how."""
        self._tell(self._state.set_rules(rules))

    def set_gateway_addresses(self, known: Mapping[str, tuple[str, ...]]) -> None:
        """Install the addresses of gateways that have names."""
        self._tell(self._state.set_gateway_addresses(known))

    def set_networks(self, networks: Mapping[str, Network]) -> None:
        """Install which networks there are."""
        self._tell(self._state.set_networks(networks))

    def release_due(self) -> None:
        """Let through what the loss guard has held for long enough, and end what lingered for long
        enough. Called now and then.
        """
        for name, listing in self._guard.due(self._clock()):
            registry = self._registries.get(name)
            if registry is None:
                continue  # Gone with what announced it, a moment ago.
            self._log.warning("loss_believed", adapter=name, listing=listing)
            if listing == SWAP:
                self._guard.release(name, listing)
                self._swap_now(registry)
            else:
                self._apply(registry.intake.believe(listing))
                self._tell_secrets(registry)
        for registry in list(self._registries.values()):
            ended = registry.intake.end_grace()
            if ended:
                self._apply(ended)

    # What sinks call

    def _begin(
        self, registry: _Registry, generation: Generation, on_synced: Callable[[], None] | None
    ) -> "_Sink":
        generation.mentioned = set()
        sink = _Sink(self, registry, generation, on_synced)
        registry.sinks = [each for each in registry.sinks if each.alive]
        registry.sinks.append(sink)
        return sink

    def take_listing(
        self,
        sink: "_Sink",
        shard: ShardKey,
        items: Mapping[str, Item],
        *,
        revision: str,
        explicit: bool,
    ) -> None:
        """A shard's full listing."""
        registry, generation = sink.registry, sink.generation
        self._touch(registry)
        generation.mentioned.add(shard.scope)
        generation.revision = revision or generation.revision
        if generation is not registry.live:
            generation.replace(shard, items)
            return
        differences = registry.intake.take_listing(shard, items, explicit=explicit)
        self._apply(differences)
        if shard.content is Content.SECRETS:
            self._tell_secrets(registry, differences if explicit else ())

    def take_item(
        self, sink: "_Sink", shard: ShardKey, key: str, item: Item | None, *, expired: bool
    ) -> None:
        """One item, explicitly unless it expired."""
        registry, generation = sink.registry, sink.generation
        self._touch(registry)
        generation.mentioned.add(shard.scope)
        if generation is not registry.live:
            generation.put(shard, key, item)
            return
        differences = registry.intake.take_item(shard, key, item, expired=expired)
        self._apply(differences)
        if shard.content is Content.SECRETS:
            self._tell_secrets(registry, differences)

    def take_drop(self, sink: "_Sink", shard: ShardKey) -> None:
        """A whole scope's content, explicitly deleted."""
        registry, generation = sink.registry, sink.generation
        self._touch(registry)
        if generation is not registry.live:
            generation.drop([shard])
            return
        differences = registry.intake.take_drop(shard)
        self._apply(differences)
        if shard.content is Content.SECRETS:
            self._tell_secrets(registry, differences)

    def take_follower(self, sink: "_Sink", name: str, on_secrets: OnSecrets) -> None:
        """Somebody who wants to know the secrets that a registry tells."""
        follower = Follower(lambda: sink.alive, on_secrets)
        alive = [each for each in self._followers.get(name, ()) if each.alive()]
        self._followers[name] = [*alive, follower]
        registry = self._registries.get(name)
        if registry is not None:
            follower.tell(registry.live.shards)

    def take_scopes(self, sink: "_Sink", scopes: Collection[str]) -> None:
        """A full listing of scopes."""
        registry, generation = sink.registry, sink.generation
        self._touch(registry)
        above = tuple(scope for scope in scopes if scope.endswith("/"))

        def kept(scope: str) -> bool:
            return scope in scopes or scope.startswith(above)

        gone = [shard for shard in generation.shards if not kept(shard.scope)]
        for scope in [scope for scope in generation.problems if not kept(scope)]:
            del generation.problems[scope]
        if generation is not registry.live:
            generation.drop(gone)
            return
        self._apply(registry.intake.take_scopes(gone))
        self._tell_secrets(registry)

    def take_problems(self, sink: "_Sink", scope: str, problems: Sequence[Problem]) -> None:
        """A scope's present problems."""
        generation = sink.generation
        known = generation.problems.get(scope, ())
        if problems:
            generation.mentioned.add(scope)
            generation.problems[scope] = tuple(problems)
        else:
            self._touch(sink.registry)
            generation.problems.pop(scope, None)
        for problem in problems:
            if problem not in known:
                self._log_problem(sink.registry.name, problem)

    def take_sync(self, sink: "_Sink") -> None:
        """The end of the first listing of a run."""
        registry, generation = sink.registry, sink.generation
        self.take_scopes(sink, frozenset(generation.mentioned))
        if generation is registry.live:
            registry.complete = True
            if sink.on_synced:
                sink.on_synced()
            return
        registry.swap_due = sink.on_synced
        before, after = registry.intake.weight(), self._intake(generation, 0.0).weight()
        if after >= before or registry.intake.admits(SWAP, before, after):
            self._guard.release(registry.name, SWAP)
            self._swap_now(registry)

    # Inside

    def _known(self, name: str, context: RegistryContext) -> _Registry:
        """The registry of that name, which may be new."""
        registry = self._registries.get(name)
        if registry is None:
            handling = self._handlings.get(name, Handling())
            live = Generation(name, Mapper(handling.mapping, context))
            registry = _Registry(context, self._intake(live, handling.deletion_grace))
            self._registries[name] = registry
        return registry

    def _intake(self, live: Generation, deletion_grace: float) -> Intake:
        return Intake(
            live,
            deletion_grace,
            self._guard,
            clock=self._clock,
            weigh=self._weigh,
            owned=lambda key: self._owned(live.registry, key),
            log=self._log,
        )

    def _weigh(self, items: Iterable[Item]) -> int:
        """How many endpoints go with items; an announced registry has all of its own."""
        total = 0
        for item in items:
            if isinstance(item, AnnouncedRegistry):
                announced = self._registries.get(item.name)
                total += announced.live.weight if announced else 0
            else:
                total += weight_of(item)
        return total

    def _owned(self, name: str, key: ServiceKey) -> int:
        """How many endpoints a service has that only the registry *name* defines."""
        merged = self._state.merged.get(key, NOTHING)
        alone = merged.service is not None and merged.service.registries == (name,)
        return len(merged.endpoints) if alone else 0

    def _touch(self, registry: _Registry) -> None:
        registry.last_success = self._clock()

    def _swap_now(self, registry: _Registry) -> None:
        new = registry.staged
        if new is None:
            return
        old = registry.live
        registry.intake = self._intake(new, registry.intake.grace.seconds)
        registry.staged = None
        registry.complete = True
        same_context = registry.context == registry.staged_context
        registry.context = registry.staged_context
        self._guard.forget(registry.name)
        for sink in registry.sinks:
            sink.alive = sink.generation is new and sink.alive
        self._apply(old.differences_to(new))
        if not same_context:
            self._tell(self._state.set_context(registry.name))
        self._tell_secrets(registry)
        on_swapped, registry.swap_due = registry.swap_due, None
        if on_swapped:
            on_swapped()

    def _context_of(self, name: str) -> RegistryContext:
        return self._registries[name].context

    def _items_of(self, name: str) -> Iterable[tuple[ShardKey, str, Item]]:
        registry = self._registries.get(name)
        if registry is not None:
            for shard, items in registry.live.shards.items():
                for key, item in items.items():
                    yield shard, key, item

    def _apply(self, differences: Iterable[Difference]) -> None:
        known = differences if isinstance(differences, Sequence) else tuple(differences)
        self.told_by = known[0].shard.registry if known else ""
        self._tell(self._state.apply(known))
        self.told_by = ""

    def _tell(self, outcome: Outcome) -> None:
        for problem in outcome.problems:
            self._log_problem("", problem)
        if outcome.changes:
            self._on_changes(outcome.changes)
        if outcome.announced and self._on_announced is not None:
            self._on_announced()
        if self._on_places is not None and any(
            isinstance(change, PlaceChanged) for change in outcome.changes
        ):
            self._on_places()

    def _tell_secrets(self, registry: _Registry, explicit: Iterable[Difference] = ()) -> None:
        """Tell followers what secrets there are now; *explicit* is what the registry itself said to
        have changed.
        """
        for follower in self._followers.get(registry.name, ()):
            follower.tell(registry.live.shards, explicit)

    def _log_problem(self, registry: str, problem: Problem) -> None:
        log = self._log.error if problem.severity is Severity.ERROR else self._log.warning
        log("problem", adapter=registry, problem=str(problem))


class _Sink:
    """What one run of an adapter talks to. Dead once the next run began: late words are lost."""

    def __init__(
        self,
        aggregate: Aggregate,
        registry: _Registry,
        generation: Generation,
        on_synced: Callable[[], None] | None,
    ) -> None:
        self.registry = registry
        self.generation = generation
        self.on_synced = on_synced
        self.alive = True
        self._aggregate = aggregate

    def replace(
        self,
        shard: ShardKey,
        items: Mapping[str, Item],
        *,
        revision: str = "",
        explicit: bool = False,
    ) -> None:
        """Install a full listing of the shard."""
        if self.alive:
            self._aggregate.take_listing(self, shard, items, revision=revision, explicit=explicit)

    def update(
        self, shard: ShardKey, key: str, item: Item | None, *, expired: bool = False
    ) -> None:
        """Install or delete one item."""
        if self.alive:
            self._aggregate.take_item(self, shard, key, item, expired=expired)

    def drop(self, shard: ShardKey) -> None:
        """Delete a shard."""
        if self.alive:
            self._aggregate.take_drop(self, shard)

    def retain(self, scopes: Collection[str]) -> None:
        """Install a full listing of scopes."""
        if self.alive:
            self._aggregate.take_scopes(self, scopes)

    def report(self, scope: str, problems: Sequence[Problem]) -> None:
        """Install a scope's problems."""
        if self.alive:
            self._aggregate.take_problems(self, scope, problems)

    def follow_secrets(self, registry: str, on_secrets: OnSecrets) -> None:
        """Follow another registry's secrets until this run ends."""
        if self.alive:
            self._aggregate.take_follower(self, registry, on_secrets)

    def synced(self) -> None:
        """End the first listing."""
        if self.alive:
            self._aggregate.take_sync(self)
