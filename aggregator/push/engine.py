"""The push engine: takes changes in, moves the world on, rebuilds the units that the changes touch,
and tells the streams.

Everything happens on the event loop's thread. A push works on one state of the world; what changes
meanwhile waits for the next.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Final

import structlog
from msgspec import Struct
from msgspec.structs import replace

from aggregator.generators.spec import GeneratorSpec, GeneratorTable, Unit
from aggregator.model.change import Change, MeshChanged, WorkloadMoved
from aggregator.model.errors import Problem
from aggregator.model.proxy import Proxy
from aggregator.model.service import NOWHERE
from aggregator.push.debounce import Debounce
from aggregator.push.metrics import Metrics
from aggregator.push.state import Cause, Subscriber, ViewDiff, ViewState
from aggregator.push.turn import Turn
from aggregator.push.unit import Built, UnitStore
from aggregator.push.view import ViewKey, key_of
from aggregator.push.world import Touched, World, WorldSource
from config.kind import KindSpec
from config.mesh import MeshConfig

log = structlog.get_logger()

IDLE_VIEW_SECONDS: Final = 300.0
"""How long a view without proxies is kept up to date, so that reconnecting ones find it."""


Task = tuple[ViewState, GeneratorSpec, Unit]
"""One unit to build for one view."""

NOTHING_PUSHED: Final[Mapping[Task, Built | None]] = {}


class PushSettings(Struct, frozen=True, kw_only=True):
    """Bounds of the push engine and the streams, in seconds and bytes."""

    debounce_max: float = 0.2
    write_timeout: float = 30.0
    in_flight: int = 48 * 1024 * 1024
    warm_wait: float = 15.0
    separate_wait: float = 1.0
    chunk: int = 256 * 1024


class _Member(Struct, eq=False):
    """A connected stream's place among the views."""

    proxy: Proxy
    vhds: bool
    view: ViewState


class Engine:
    """Keeps a view for each class of connected proxies."""

    def __init__(
        self,
        source: WorldSource,
        generators: GeneratorTable,
        kinds: Mapping[str, KindSpec],
        *,
        mesh: MeshConfig,
        domain: str,
        settings: PushSettings,
        metrics: Metrics,
        clock: Callable[[], float],
        on_first_view: Callable[[], None] = lambda: None,
    ) -> None:
        self.settings: Final = settings
        self.metrics: Final = metrics
        self.clock: Final = clock
        self.turn: Final = Turn(clock)
        self.world: Final = World(mesh, domain, kinds)
        self.units: Final = UnitStore(self.world)
        self.views: Final[dict[ViewKey, ViewState]] = {}
        self.pushes: int = 0
        self._source: Final = source
        self._on_first_view: Callable[[], None] | None = on_first_view
        self._specs: Final = tuple(spec for specs in generators.values() for spec in specs)
        self._attributes: Final = frozenset[str]().union(*(spec.attributes for spec in self._specs))
        self._members: Final[dict[Subscriber, _Member]] = {}
        self._addresses: Final[Counter[str]] = Counter()
        self._pending: Final[dict[Change, None]] = {}
        self._told_by: Final[set[str]] = set()
        self._mesh: MeshConfig | None = None
        self._debounce: Final = Debounce(settings.debounce_max)
        self._wake: Final = asyncio.Event()
        self._busy: Final = asyncio.Lock()
        self._unflushed: Final[set[Subscriber]] = set()
        self._laggards: Final[set[Subscriber]] = set()
        self._flushed: Final = asyncio.Event()
        self._reported: set[Problem] = set()

    @property
    def idle(self) -> bool:
        """Whether nobody waits for anything: no change, no push, no view that is being built."""
        return not (self._debounce.waiting or self._busy.locked() or self._unflushed)

    @property
    def waiting_changes(self) -> int:
        """Changes that the next push will take along."""
        return len(self._pending)

    @property
    def streams_behind(self) -> int:
        """Streams that have not yet written what they were told of."""
        return len(self._unflushed | self._laggards)

    # Input

    def submit(self, changes: Iterable[Change], registry: str = "") -> None:
        """Take note of changes that *registry* told of, if one did; they are read from the source
        when the push begins.
        """
        known = [
            change
            for change in changes
            # The place of a workload matters to its own proxy alone.
            if not isinstance(change, WorkloadMoved) or change.address in self._addresses
        ]
        self._pending.update(dict.fromkeys(known))
        if registry and known:
            self._told_by.add(registry)
        self._note()

    def set_mesh(self, mesh: MeshConfig) -> None:
        """Install other mesh settings with the next push."""
        self._mesh = mesh
        self._pending[MeshChanged()] = None
        self._note()

    def _note(self) -> None:
        if self._pending:
            self._debounce.changed(self.clock())
            self._wake.set()

    # Streams

    async def attach(self, subscriber: Subscriber, proxy: Proxy, *, vhds: bool) -> ViewState:
        """Put a stream into its view, which is built now if it is the first of its class."""
        async with self._busy:
            self._load_pending_if_first()
            key = self._key(proxy, vhds=vhds)
            view = self.views.get(key) or await self._build_view(key)
            self._join(subscriber, _Member(proxy, vhds, view))
            self._addresses.update(proxy.addresses)
        if self._key(proxy, vhds=vhds) != key:
            # It was told where the workload is while the view was built.
            self.submit(WorkloadMoved(address) for address in proxy.addresses)
        self._report()
        return view

    def detach(self, subscriber: Subscriber) -> None:
        """The stream ended."""
        member = self._members.pop(subscriber, None)
        if member is not None:
            self._leave(subscriber, member.view)
            for address in member.proxy.addresses:
                self._addresses[address] -= 1
                if not self._addresses[address]:
                    del self._addresses[address]
        self.flushed(subscriber)

    def flushed(self, subscriber: Subscriber) -> None:
        """The stream has written all that it could."""
        self._laggards.discard(subscriber)
        self._unflushed.discard(subscriber)
        if not self._unflushed:
            self._flushed.set()

    def _join(self, subscriber: Subscriber, member: _Member) -> None:
        self._members[subscriber] = member
        member.view.subscribers.add(subscriber)
        member.view.idle_since = None

    def _leave(self, subscriber: Subscriber, view: ViewState) -> None:
        view.subscribers.discard(subscriber)
        if not view.subscribers:
            view.idle_since = self.clock()

    def _key(self, proxy: Proxy, *, vhds: bool) -> ViewKey:
        place = self._source.place_of(proxy.namespace, proxy.cluster_id, proxy.addresses)
        if place != NOWHERE:
            # Registries know better, for they can look at nodes.
            proxy = replace(proxy, locality=place)
        return key_of(proxy, self.world, vhds=vhds, attributes=self._attributes)

    def _load_pending_if_first(self) -> None:
        """Before there is any view a push is only the world moving on, so it need not wait for its
        turn.
        """
        if not self.views and self._pending:
            self._move_world()

    # Pushing

    async def run(self) -> None:
        """Push what changes, until cancelled."""
        while True:
            due = self._debounce.due()
            if due is None:
                self._wake.clear()
                await self._wait_for_change()
                continue
            delay = due - self.clock()
            if delay > 0:
                await asyncio.sleep(delay)
            started = self.clock()
            await self.push()
            await self._wait_flushed(self.settings.debounce_max)
            waited = self._debounce.pushed(started, self.clock())
            self.metrics.debounce_time.observe(waited)
            self.drop_idle_views()
            self._note()

    async def _wait_for_change(self) -> None:
        """Wait for work; views that nobody came back to go though nothing changes."""
        try:
            async with asyncio.timeout(IDLE_VIEW_SECONDS / 2):
                await self._wake.wait()
        except TimeoutError:
            self.drop_idle_views()

    async def push(self) -> None:
        """Bring every view up to the present state and tell its streams what differs."""
        async with self._busy:
            started = self.clock()
            cause = Cause(self._debounce.since(started), frozenset(self._told_by))
            touched = self._move_world()
            built: dict[Task, Built | None] = {}
            await self._build(self._work(touched), built)
            moves = await self._moves(built) if touched.views_move else []
            # From here on nothing waits, so that no stream sees half a push.
            diffs = self._install(built)
            for subscriber, member in moves:
                self._move(subscriber, member)
            for view, diff in diffs.items():
                self._unflushed.update(view.subscribers - self._laggards)
                for subscriber in view.subscribers:
                    subscriber.view_changed(diff, cause)
            self.pushes += 1
            self.metrics.push_time.observe(self.clock() - started)
        self._report()

    async def _wait_flushed(self, longest: float) -> None:
        """Wait for the streams to write, to know what the push cost; one that lags behind is waited
        for only once.
        """
        if self._unflushed:
            self._flushed.clear()
            try:
                async with asyncio.timeout(longest):
                    await self._flushed.wait()
            except TimeoutError:
                self._laggards.update(self._unflushed)
            self._unflushed.clear()

    def _move_world(self) -> Touched:
        changes = list(self._pending)
        self._pending.clear()
        self._told_by.clear()
        touched = self.world.apply(changes, self._source)
        if self._mesh is not None:
            by_mesh = self.world.set_mesh(self._mesh)
            self._mesh = None
            touched.facts |= by_mesh.facts
            touched.views_move |= by_mesh.views_move
        return touched

    def _work(self, touched: Touched) -> set[Task]:
        """What must be built: units that read a touched fact, in each view that has them, and those
        that came into being or went away.
        """
        work: set[Task] = set()
        for stale in self.units.invalidate(touched.facts):
            work.update((view, stale.spec, stale.unit) for view in stale.views)
        for unit in touched.units():
            exists = self.world.has_root(unit)
            for view in self.views.values():
                for spec in view.specs:
                    if unit.root in spec.roots and ((spec, unit) in view.units) is not exists:
                        work.add((view, spec, unit))
        return work

    async def _build(
        self, work: Iterable[Task], built: dict[Task, Built | None], *, anew: bool = False
    ) -> None:
        """Build what is to be built into *built*; *anew* for views that had nothing before."""
        for task in work:
            view, spec, unit = task
            await self.turn.breathe()
            if self.world.has_root(unit):
                old = None if anew else view.units.get((spec, unit))
                built[task] = self.units.obtain(spec, unit, view.key, old)
            else:
                built[task] = None

    def _install(self, built: Mapping[Task, Built | None]) -> dict[ViewState, ViewDiff]:
        views: set[ViewState] = set()
        for (view, spec, unit), new in built.items():
            self._put(view, spec, unit, new)
            views.add(view)
        diffs = {view: view.finish() for view in views}
        return {view: diff for view, diff in diffs.items() if diff}

    def _put(self, view: ViewState, spec: GeneratorSpec, unit: Unit, new: Built | None) -> None:
        old = view.install(spec, unit, new)
        if old is not None and old is not new:
            self.units.release(old, view)

    async def _build_view(
        self, key: ViewKey, pushed: Mapping[Task, Built | None] = NOTHING_PUSHED
    ) -> ViewState:
        """Make the view of *key*; *pushed* is what was built and is not in its views yet."""
        nearest = self._nearest(key)
        if nearest is None:
            view = ViewState(key, tuple(spec for spec in self._specs if key.client in spec.clients))
            work = [
                (view, spec, Unit(root, name))
                for spec in view.specs
                for root in spec.roots
                for name in self.world.roots(root)
            ]
        else:
            view = nearest.branch(key)
            news = {(spec, unit): new for (of, spec, unit), new in pushed.items() if of is nearest}
            differing = key.differing(nearest.key)
            work = []
            for (spec, unit), each in (nearest.units | news).items():
                if each is not None and each.asks(differing) and not each.serves(key):
                    work.append((view, spec, unit))
                elif (spec, unit) in news:
                    self._put(view, spec, unit, each)
        built: dict[Task, Built | None] = {}
        try:
            await self._build(work, built, anew=True)
        except asyncio.CancelledError:
            # Its client is gone: what nobody else uses must not stay behind.
            for each in (*built.values(), *view.units.values()):
                if each is not None:
                    self.units.release(each, view)
            raise
        self._install(built)
        view.finish()
        view.idle_since = self.clock()
        self.views[key] = view
        if self._on_first_view is not None:
            # Other views share most of what was built: now nearly all is in memory that ever will.
            self._on_first_view()
            self._on_first_view = None
        return view

    def _nearest(self, key: ViewKey) -> ViewState | None:
        """The view that has most in common with one of *key*; None if none is of the same form."""
        alike = (
            (len(key.differing(other)), view)
            for other, view in self.views.items()
            if (other.client, other.vhds) == (key.client, key.vhds)
        )
        return min(alike, key=itemgetter(0), default=(0, None))[1]

    async def _moves(self, pushed: Mapping[Task, Built | None]) -> list[tuple[Subscriber, _Member]]:
        """Selectors or Sidecars changed: which streams belong to another view now, which is built
        if need be.
        """
        moves: list[tuple[Subscriber, _Member]] = []
        for subscriber, member in tuple(self._members.items()):
            await self.turn.breathe()
            key = self._key(member.proxy, vhds=member.vhds)
            if key != member.view.key:
                view = self.views.get(key) or await self._build_view(key, pushed)
                moves.append((subscriber, _Member(member.proxy, member.vhds, view)))
        return moves

    def _move(self, subscriber: Subscriber, member: _Member) -> None:
        before = self._members.get(subscriber)
        if before is None:
            return  # it disconnected while its new view was built
        self._leave(subscriber, before.view)
        self._join(subscriber, member)
        subscriber.view_moved(member.view)

    def drop_idle_views(self) -> None:
        """Forget views that have had no proxy for `IDLE_VIEW_SECONDS`."""
        now = self.clock()
        for key, view in tuple(self.views.items()):
            if view.idle_since is not None and now - view.idle_since >= IDLE_VIEW_SECONDS:
                del self.views[key]
                for built in view.units.values():
                    self.units.release(built, view)

    # What is wrong

    def problems(self) -> list[Problem]:
        """What generators report of the units as they stand, each once."""
        return sorted(self.units.problems)

    def _report(self) -> None:
        """Log each problem once, when it appears."""
        for problem in sorted(self.units.take_problem_changes()):
            if problem not in self.units.problems:
                self._reported.discard(problem)
            elif problem not in self._reported:
                self._reported.add(problem)
                log.warning(
                    "problem",
                    subject=problem.subject,
                    source=str(problem.origin),
                    path=problem.path,
                    problem=problem.message,
                )
