"""Runs the adapters: starts, restarts after a back-off, replaces and ends them as settings change.

The only place that waits before a registry is asked again. Knows nothing of any platform.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import structlog
from msgspec import Struct
from msgspec.structs import replace
from structlog.typing import FilteringBoundLogger

from aggregator.model.discovery import load_adapter
from aggregator.model.errors import (
    AdapterError,
    AdapterRejectedError,
    AdapterUnavailableError,
    ConfigError,
    MeshError,
    Origin,
    Problem,
)
from aggregator.model.registry import AdapterSpec, AnnouncedRegistry, RegistrySink
from aggregator.registry.aggregate import Aggregate
from aggregator.registry.archive import Recalled
from aggregator.registry.backoff import wait_after
from aggregator.registry.settings import RegistrySettings
from aggregator.registry.status import HeldLoss, Reason, RegistryState, RegistryStatus

TICK: Final = 0.25
LONGEST_WAIT: Final = 60.0
ALARM: Final = 300.0
"""Seconds out of sync after which the log says so once more."""

STEADY: Final = 10.0
"""Seconds in sync after which a failure is a new one: a registry that breaks off after each listing
must not be listed twice a second.
"""

LoadAdapter = Callable[[str, Origin], AdapterSpec]
InThread = Callable[[LoadAdapter, str, Origin], Awaitable[AdapterSpec]]
Recall = Callable[[str, str], Awaitable[Recalled]]
"""What an earlier process saved of a registry, by its name and type."""

DecodeAnnounced = Callable[[AnnouncedRegistry, RegistrySettings], RegistrySettings]
"""Settings of an announced registry, given those of the registry that announces it."""


class _Refusal(Struct, frozen=True):
    """A registry that was announced and is not run, or not as announced, and why."""

    announcer: str
    name: str
    problems: tuple[Problem, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


class _Wanted(Struct, frozen=True):
    """A registry to run. For one that is `remembered` no adapter runs: what was saved is served."""

    settings: RegistrySettings
    announced_by: str = ""
    remembered: bool = False


class _Runner:
    """One adapter kept running with unchanging settings."""

    def __init__(
        self, settings: RegistrySettings, announced_by: str, now: float, *, replacing: bool
    ) -> None:
        self.settings = settings
        self.announced_by = announced_by
        self.replacing = replacing
        self.remembered = False
        self.state = RegistryState.STARTING
        self.started = now
        self.recalled = False
        self.warm = False
        self.state_fault = ""
        self.synced = False
        self.synced_at = now
        self.late = False
        self.alarmed = False
        self.stale_since = now
        self.failures = 0
        self.reconnects = 0
        self.last_error = ""
        self.reason: Reason | None = None
        self.retry_at: float | None = None
        self.ended = False
        self.task: asyncio.Task[None] | None = None

    @property
    def settled(self) -> bool:
        """Whether there is something to serve of it, or it was waited for long enough."""
        return self.synced or self.warm or self.late

    def end(self) -> None:
        """Stop for good."""
        self.ended = True
        if self.task is not None:
            self.task.cancel()


class Supervisor:
    """Keeps one run going for each registry of the settings, and for each that these announce."""

    def __init__(
        self,
        aggregate: Aggregate,
        *,
        load_adapter: LoadAdapter = load_adapter,
        decode_announced: DecodeAnnounced | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
        in_thread: InThread = asyncio.to_thread,
        recall: Recall | None = None,
        log: FilteringBoundLogger | None = None,
    ) -> None:
        self._aggregate = aggregate
        self._load = load_adapter
        self._decode_announced = decode_announced
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._in_thread = in_thread
        self._recall = recall
        self._log: FilteringBoundLogger = log or structlog.get_logger(__name__)
        self._declared: tuple[RegistrySettings, ...] = ()
        self._leaving: tuple[RegistrySettings, ...] = ()
        self._runners: dict[str, _Runner] = {}
        self._replacements: dict[str, _Runner] = {}
        self._refused: tuple[_Refusal, ...] = ()
        self._group: asyncio.TaskGroup | None = None
        self._ready = asyncio.Event()
        self._reconciling = False
        self._outdated = False
        self.crash_total = 0
        aggregate.watch_announced(self._reconcile)

    # What the daemon calls

    def apply(self, registries: Sequence[RegistrySettings]) -> None:
        """Install settings: start what is new, purge what is gone, replace what differs.

        Unchanged registries are not disturbed. What differs is replaced once its successor is in
        sync, and is served until then. So is what is gone while others come, because services may
        be moving from one to another.
        """
        names = {settings.name for settings in registries}
        self._leaving = tuple(
            settings
            for settings in (*self._declared, *self._leaving)
            if settings.name not in names
            and (runner := self._runners.get(settings.name))
            and runner.synced
        )
        self._declared = tuple(registries)
        self._let_go()
        self._reconcile()

    async def run(self) -> None:
        """Run the adapters until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for runner in (*self._runners.values(), *self._replacements.values()):
                    self._start(runner)
                while True:
                    await self._sleep(TICK)
                    self.tick()
            finally:
                self._group = None

    def tick(self) -> None:
        """Do what time alone brings about."""
        self._aggregate.release_due()
        if self._let_go():
            self._reconcile()
        now = self._clock()
        for runner in self._runners.values():
            late = now - runner.started >= runner.settings.sync_timeout
            if late and not runner.settled:
                runner.late = True
                logger = self._about(runner)
                log = logger.error if runner.settings.required else logger.warning
                log(
                    "registry_late",
                    waited=runner.settings.sync_timeout,
                    error=runner.last_error,
                )
            age = now - runner.stale_since
            if runner.state is not RegistryState.SYNCED and age >= ALARM and not runner.alarmed:
                runner.alarmed = True
                self._about(runner).error("registry_stale", age=round(age), error=runner.last_error)
        self._update_ready()

    def ready(self) -> bool:
        """Whether each required registry is in, or was waited for long enough; and whether what was
        saved of any is served, for its absence would look like a deletion.
        """
        return all(
            runner.recalled and (runner.settled or not runner.settings.required)
            for runner in self._runners.values()
        )

    async def wait_ready(self) -> None:
        """Return once `ready` is true."""
        await self._ready.wait()

    def status(self) -> list[RegistryStatus]:
        """Every registry, in the order of precedence, with replacements that are being prepared."""
        statuses = []
        for name, runner in self._runners.items():
            statuses.append(self._status_of(name, runner))
            if name in self._replacements:
                statuses.append(self._status_of(name, self._replacements[name]))
        statuses += (
            RegistryStatus(
                name=name,
                type="",
                state=RegistryState.FAILED,
                required=False,
                announced_by=refusal.announcer,
                last_error=str(refusal),
            )
            for name, refusal in {each.name: each for each in reversed(self._refused)}.items()
            if name not in self._runners
        )
        return statuses

    # Settings

    def _let_go(self) -> bool:
        """Wait no longer with what is leaving, once all that came is in or has had its time."""
        runners = [self._runners.get(settings.name) for settings in self._declared]
        if not self._leaving or any(each is None or not each.settled for each in runners):
            return False
        self._leaving = ()
        return True

    def _reconcile(self) -> None:
        """Bring the runners in line with the settings and with what is announced.

        What this ends may have announced others, hence again until nothing more comes up.
        """
        self._outdated = True
        if self._reconciling:
            return
        self._reconciling = True
        try:
            while self._outdated:
                self._outdated = False
                self._reconcile_once()
        finally:
            self._reconciling = False

    def _reconcile_once(self) -> None:
        wanted = self._wanted()
        for name in [name for name in self._runners if name not in wanted]:
            self._end(name)
        for name, each in wanted.items():
            self._want(name, each)
        self._runners = {name: self._runners[name] for name in wanted}
        self._aggregate.set_precedence(list(wanted))
        self._update_ready()

    def _wanted(self) -> dict[str, _Wanted]:
        """All registries to run with who announced them, in the order of precedence.

        An announced one comes right after its announcer.
        """
        announced = self._aggregate.announced()
        declared = (*self._declared, *self._leaving)
        wanted: dict[str, _Wanted] = {}
        refused: list[_Refusal] = []

        def want(each: _Wanted) -> None:
            settings = each.settings
            wanted[settings.name] = each
            for item in announced.get(settings.name, ()):
                decoded = self._decode(item, settings, refused)
                others = (*declared, *(other.settings for other in wanted.values()))
                rival = decoded and _rival(decoded, others)
                if rival and not item.remembered:
                    refused.append(_Refusal(settings.name, item.name, (_taken(item, rival),)))
                elif decoded and not rival:
                    want(_Wanted(decoded, settings.name, item.remembered))

        for settings in declared:
            want(_Wanted(settings))
        self._refuse(tuple(refused))
        return wanted

    def _refuse(self, refused: tuple[_Refusal, ...]) -> None:
        """Show what is refused now, and log what was not before."""
        problems: dict[str, tuple[Problem, ...]] = {}
        for each in refused:
            problems[each.announcer] = (*problems.get(each.announcer, ()), *each.problems)
            if each not in self._refused:
                self._log.error("registry_refused", adapter=each.name, error=str(each))
        self._refused = refused
        self._aggregate.refuse_announced(problems)

    def _decode(
        self, item: AnnouncedRegistry, announcer: RegistrySettings, refused: list[_Refusal]
    ) -> RegistrySettings | None:
        """Settings of an announced registry; while they cannot be read, those that it runs with."""
        problems: tuple[Problem, ...]
        if self._decode_announced is not None:
            try:
                return self._decode_announced(item, announcer)
            except ConfigError as error:
                problems = error.problems
        else:
            problems = (Problem(item.origin, "", "announced registries are not served here"),)
        subject = f"registry {item.name}"
        problems = tuple(
            each if each.subject else replace(each, subject=subject) for each in problems
        )
        refused.append(_Refusal(announcer.name, item.name, problems))
        running = self._runners.get(item.name)
        return running.settings if running else None

    def _want(self, name: str, wanted: _Wanted) -> None:
        settings = wanted.settings
        self._aggregate.configure(name, settings.handling)
        runner, replacement = self._runners.get(name), self._replacements.get(name)
        if runner is None:
            self._runners[name] = self._prepare(wanted)
        elif runner.remembered:
            if not wanted.remembered:
                self._runners[name] = self._prepare(wanted, remembered=runner)
        elif runner.settings.runs_like(settings):
            runner.settings = settings
            if replacement is not None:
                self._replacements.pop(name).end()
                self._aggregate.abandon_swap(name)
        elif replacement is not None and replacement.settings.runs_like(settings):
            replacement.settings = settings
        else:
            if replacement is not None:
                self._replacements.pop(name).end()
                self._aggregate.abandon_swap(name)
            self._about(runner).info("registry_replacing")
            self._replacements[name] = self._prepare(wanted, replacing=True)

    def _prepare(
        self, wanted: _Wanted, *, replacing: bool = False, remembered: _Runner | None = None
    ) -> _Runner:
        """A runner; it goes on with what was *remembered*, if anything was."""
        runner = _Runner(wanted.settings, wanted.announced_by, self._clock(), replacing=replacing)
        runner.recalled = replacing or self._recall is None
        if wanted.remembered:
            runner.remembered = True
            runner.last_error = f"{wanted.announced_by} has not announced it again yet"
        if remembered is not None:
            remembered.end()
            runner.recalled = remembered.recalled
            runner.warm, runner.state = remembered.warm, remembered.state
            runner.stale_since = remembered.stale_since
            runner.state_fault = remembered.state_fault
        self._start(runner)
        return runner

    def _start(self, runner: _Runner) -> None:
        if self._group is not None and runner.task is None:
            name = f"registry {runner.settings.name}"
            runner.task = self._group.create_task(self._keep_running(runner), name=name)

    def _end(self, name: str) -> None:
        self._about(self._runners[name]).info("registry_ended")
        self._runners.pop(name).end()
        if name in self._replacements:
            self._replacements.pop(name).end()
        self._aggregate.remove_registry(name)

    # Running

    async def _keep_running(self, runner: _Runner) -> None:
        if self._recall is not None and not runner.recalled:
            settings = runner.settings
            self._recalled(runner, await self._recall(settings.name, settings.type))
        while not runner.remembered:
            longest = LONGEST_WAIT
            try:
                # Importing a platform's library takes up to a second.
                spec = await self._in_thread(
                    self._load, runner.settings.type, runner.settings.context.origin
                )
                longest = spec.longest_wait
                adapter = spec.create(runner.settings.context, runner.settings.adapter)
                await adapter.run(self._sink(runner))
            except Exception as caught:  # noqa: BLE001 - one registry's bug must not end the others
                error = _cause(caught)
            else:
                error = AdapterUnavailableError("the adapter ended by itself")
            if runner.ended or self._group is None:
                return
            _forget_cancelling()
            wait = self._failed(runner, error, longest)
            runner.retry_at = self._clock() + wait
            await self._sleep(wait)
            runner.retry_at = None
            runner.reconnects += 1

    def _recalled(self, runner: _Runner, recalled: Recalled) -> None:
        """Serve what was saved of a registry while it is being read."""
        runner.recalled = True
        runner.state_fault = recalled.fault
        if recalled.state is not None:
            settings = runner.settings
            self._aggregate.restore(settings.name, settings.context, recalled.state.shards)
            runner.warm = True
            runner.state = RegistryState.STALE
            runner.stale_since = self._clock() - recalled.age
            self._about(runner).info("registry_restored", age=round(recalled.age, 1))
        self._update_ready()

    def _about(self, runner: _Runner) -> FilteringBoundLogger:
        settings = runner.settings
        return self._log.bind(adapter=settings.name, cluster_id=settings.context.cluster_id)

    def _sink(self, runner: _Runner) -> RegistrySink:
        name, context = runner.settings.name, runner.settings.context
        if runner.replacing:
            return self._aggregate.swap(name, context, lambda: self._swapped(runner))
        return self._aggregate.sink(name, context, lambda: self._synced(runner))

    def _synced(self, runner: _Runner) -> None:
        if runner.state is not RegistryState.SYNCED:
            self._about(runner).info("registry_synced")
        runner.state = RegistryState.SYNCED
        runner.synced = True
        runner.synced_at = self._clock()
        runner.alarmed = False
        runner.last_error = ""
        runner.reason = None
        self._update_ready()

    def _swapped(self, runner: _Runner) -> None:
        name = runner.settings.name
        self._runners[name].end()
        self._runners[name] = self._replacements.pop(name)
        runner.replacing = False
        self._synced(runner)

    def _failed(self, runner: _Runner, error: Exception, longest: float) -> float:
        """Note a failure; how long to wait before the next try."""
        now = self._clock()
        if runner.state is RegistryState.SYNCED:
            runner.stale_since = now
            if now - runner.synced_at >= STEADY:
                runner.failures = 0
        if runner.synced:
            runner.state = RegistryState.DEGRADED
        elif not runner.warm:
            runner.state = RegistryState.FAILED
        runner.failures += 1
        runner.reason = _reason(error)
        refused = isinstance(error, AdapterRejectedError | ConfigError)
        wait = longest if refused else wait_after(runner.failures, longest, self._jitter)
        text = str(error) or type(error).__name__
        if not isinstance(error, MeshError):
            self.crash_total += 1
            text = f"{type(error).__name__}: {text}"
        log = self._about(runner).bind(wait=round(wait, 3))
        if text == runner.last_error:
            log.debug("registry_failed_again", error=text)
        elif isinstance(error, MeshError):
            log.warning("registry_failed", error=text)
        else:
            log.error("registry_crashed", error=text, exc_info=error)
        runner.last_error = text
        return wait

    def _update_ready(self) -> None:
        if self.ready():
            self._ready.set()
        else:
            self._ready.clear()

    def _status_of(self, name: str, runner: _Runner) -> RegistryStatus:
        summary = self._aggregate.summary(name, staged=runner.replacing)
        now = self._clock()
        return RegistryStatus(
            name=name,
            type=runner.settings.type,
            state=runner.state,
            required=runner.settings.required,
            cluster_id=runner.settings.context.cluster_id,
            origin=str(runner.settings.context.origin),
            announced_by=runner.announced_by,
            replacing=runner.replacing,
            last_success=summary.last_success,
            last_error=runner.last_error,
            reason=runner.reason,
            retry_in=None if runner.retry_at is None else max(0.0, runner.retry_at - now),
            age=0.0 if runner.state is RegistryState.SYNCED else now - runner.stale_since,
            services=summary.counts.services,
            endpoints=summary.counts.endpoints,
            configs=summary.counts.configs,
            workloads=summary.counts.workloads,
            scopes=summary.scopes,
            problems=summary.problems,
            skipped=summary.skipped,
            excluded=summary.excluded,
            lingering=summary.lingering,
            held=tuple(
                HeldLoss(
                    listing,
                    hold.before,
                    hold.after,
                    now - hold.since,
                    max(0.0, runner.settings.handling.guard.hold - (now - hold.since)),
                )
                for listing, hold in sorted(summary.held.items())
            ),
            reconnects=runner.reconnects,
            revision=summary.revision,
            state_fault=runner.state_fault,
        )


def _rival(
    settings: RegistrySettings, others: Iterable[RegistrySettings]
) -> RegistrySettings | None:
    """The registry that has the name already, or the cluster."""
    cluster = settings.context.cluster_id
    for other in others:
        same_cluster = other.type == settings.type and other.context.cluster_id == cluster
        if other.name == settings.name or (cluster and same_cluster):
            return other
    return None


def _taken(item: AnnouncedRegistry, rival: RegistrySettings) -> Problem:
    where = f" at {rival.context.origin}" if rival.context.origin.source else ""
    what = "name" if rival.name == item.name else "cluster"
    message = f"left out: the registry {rival.name!r}{where} has that {what} already"
    return Problem(item.origin, "", message, subject=f"registry {item.name}")


def _reason(error: Exception) -> Reason:
    match error:
        case AdapterRejectedError():
            return Reason.REJECTED
        case ConfigError():
            return Reason.SETTINGS
        case MeshError():
            return Reason.UNAVAILABLE
        case _:
            return Reason.CRASHED


def _forget_cancelling() -> None:
    """Undo what task groups of Python 3.11 leave behind: one whose task failed while it waited for
    the others has cancelled us, and not taken that back.
    """
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()


def _cause(error: Exception) -> Exception:
    """The adapter's own error, if a task group wrapped nothing but such."""
    if isinstance(error, ExceptionGroup):
        leaves = _leaves(error)
        if all(isinstance(leaf, AdapterError) for leaf in leaves):
            rejected = [leaf for leaf in leaves if isinstance(leaf, AdapterRejectedError)]
            return rejected[0] if rejected else leaves[0]
    return error


def _leaves(group: ExceptionGroup[Exception]) -> list[Exception]:
    leaves: list[Exception] = []
    for each in group.exceptions:
        leaves += _leaves(each) if isinstance(each, ExceptionGroup) else [each]
    return leaves
