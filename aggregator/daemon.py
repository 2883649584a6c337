"""Composes the running daemon out of the settings, and keeps it going: signals, reloads, readiness.

The only place that knows all parts; each part knows only what it is given.
"""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog
from prometheus_client import CollectorRegistry

from aggregator import collector, logs
from aggregator.collector import Collector
from aggregator.debug.http import HttpServer, build_app
from aggregator.debug.metrics import StateCollector
from aggregator.debug.sources import SettingsStatus, Sources
from aggregator.follow import follow
from aggregator.generators.spec import GeneratorSpec, GeneratorTable
from aggregator.model.discovery import find
from aggregator.model.errors import ConfigError, MeshError
from aggregator.notify import Notifier
from aggregator.push.engine import Engine, PushSettings
from aggregator.push.metrics import Metrics
from aggregator.quantity import Address
from aggregator.registry.aggregate import Aggregate
from aggregator.registry.archive import Archive
from aggregator.registry.keeper import Keeper
from aggregator.registry.resolver import GatewayResolver
from aggregator.registry.supervisor import Supervisor
from aggregator.settings import Push, Settings, State, TlsListen, decode_announced
from aggregator.xds.server import TlsFiles, XdsServer
from config.kind_table import kinds

logger = structlog.get_logger(__name__)

T = TypeVar("T")

GRACE_SECONDS: Final = 1.0
LAG_INTERVAL: Final = 0.25
"""How long streams may take to end once we stop."""


class ListenError(MeshError):
    """An address cannot be listened on."""


class Daemon:
    """One control plane, from start to stop. `load` reads the settings again for a reload.

    Making one imports and reads files, so it happens before the event loop runs.
    """

    def __init__(
        self, settings: Settings, load: Callable[[], Settings], notifier: Notifier
    ) -> None:
        self._settings = settings
        self._load: Final = load
        self._notifier: Final = notifier
        self._stop: Final = asyncio.Event()
        self._reload: Final = asyncio.Event()
        self._metrics: Final = CollectorRegistry()
        self._ready: Final = asyncio.Event()
        archive = _archive(settings.state, os.environ)
        self._sources: Final = _compose(settings, self._metrics, self._ready, archive)
        self._keeper: Final = self._sources.keeper
        self._resolver: Final = GatewayResolver(
            self._sources.aggregate, refresh=lambda: self._settings.mesh.dns_refresh_rate
        )
        self._app: Final = build_app(self._sources, self._metrics)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises ListenError if an address is taken."""
        collector.expect_growth()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_asked)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        async with AsyncExitStack() as stack:
            await self._listen(stack)
            self._loaded(self._settings)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(each) for each in self._long_lived()]
                await self._stop.wait()
                logger.info("daemon_stopping")
                self._notifier.stopping()
                await self._sources.server.aclose(GRACE_SECONDS)
                if self._keeper is not None:
                    await self._keeper.flush()
                for task in tasks:
                    task.cancel()
        logger.info("daemon_stopped")

    def _long_lived(self) -> tuple[Coroutine[Any, Any, None], ...]:
        return (
            self._sources.supervisor.run(),
            self._sources.engine.run(),
            self._resolver.run(),
            self._become_ready(),
            self._watch_file(),
            self._follow_reloads(),
            self._stay_alive(),
            self._measure_lag(),
            *((self._keeper.run(),) if self._keeper is not None else ()),
            Collector(lambda: self._sources.engine.idle, lambda: self._sources.server.ended).run(),
        )

    async def _listen(self, stack: AsyncExitStack) -> None:
        """Take the addresses before anything else, so that a second daemon stops at once."""
        listen = self._settings.listen
        http = HttpServer(self._app, listen.http)
        stack.push_async_callback(http.aclose)
        bound = await _bind(listen.http, http.start())
        logger.info("http_listening", address=bound)
        tls = _tls_files(listen.grpc_tls) if listen.grpc_tls else None
        stack.push_async_callback(self._sources.server.aclose, 0.0)
        await self._listen_xds(listen.grpc, None)
        if listen.grpc_tls:
            await self._listen_xds(listen.grpc_tls.address, tls)

    async def _listen_xds(self, address: Address, tls: TlsFiles | None) -> None:
        _check_free(address)
        port = await self._sources.server.listen(address, tls)
        logger.info("xds_listening", address=f"{address.rpartition(':')[0]}:{port}", tls=bool(tls))

    # Readiness and life

    async def _measure_lag(self) -> None:
        """Show how long whoever waits for the event loop waits."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_INTERVAL
            await asyncio.sleep(LAG_INTERVAL)
            self._sources.engine.metrics.loop_lag.observe(max(0.0, loop.time() - due))

    async def _become_ready(self) -> None:
        """Tell the manager once every required registry is in, or has had its time."""
        await self._sources.supervisor.wait_ready()
        self._ready.set()
        logger.info("daemon_ready")
        self._notifier.ready(self._summary())

    async def _stay_alive(self) -> None:
        """Show the manager that the event loop turns."""
        interval = self._notifier.watchdog_interval
        while interval is not None:
            self._notifier.alive()
            await asyncio.sleep(interval)

    def _summary(self) -> str:
        registries = len(self._settings.registries)
        services = len(self._sources.aggregate.service_keys())
        return f"{services} services from {registries} registries"

    # Reloading

    async def _watch_file(self) -> None:
        """Ask for a reload when the content of the settings file changes."""
        if self._settings.file is None:
            return
        async for _ in follow(self._settings.file):
            self._reload.set()

    async def _follow_reloads(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            if not self._ready.is_set():
                # The end of a reload would tell the manager that the start is complete.
                await self._reload_once()
                continue
            self._notifier.reloading()
            await self._reload_once()
            self._notifier.ready(self._summary())

    async def _reload_once(self) -> None:
        """Take the settings as the file has them now; a file that is wrong changes nothing."""
        status = self._sources.settings
        try:
            settings = await asyncio.to_thread(self._load)
        except ConfigError as error:
            if status.error != str(error):
                logger.error(
                    "settings_rejected", problems=[str(problem) for problem in error.problems]
                )
            status.error = str(error)
            return
        for what in _needs_restart(self._settings, settings):
            logger.warning("settings_restart_needed", setting=what)
        self._sources.supervisor.apply(settings.registries)
        self._sources.aggregate.set_mesh(settings.mesh)
        self._sources.aggregate.set_networks(settings.networks)
        self._sources.aggregate.set_merge_rules(settings.merge)
        self._sources.engine.set_mesh(settings.mesh)
        logs.configure(settings.log.level, settings.log.format)
        status.reloads += 1
        self._loaded(settings)
        logger.info("settings_reloaded", registries=[each.name for each in settings.registries])

    def _loaded(self, settings: Settings) -> None:
        known = self._sources.settings.warnings
        self._settings = settings
        self._sources.settings.loaded = time.time()
        self._sources.settings.error = ""
        self._sources.settings.warnings = tuple(str(each) for each in settings.warnings)
        for warning in self._sources.settings.warnings:
            if warning not in known:
                logger.warning("settings_warning", problem=warning)

    def _stop_asked(self) -> None:
        if self._stop.is_set():
            logger.warning("daemon_killed")
            os._exit(130)
        self._stop.set()


def _compose(
    settings: Settings,
    metrics: CollectorRegistry,
    ready: asyncio.Event,
    archive: Archive | None,
) -> Sources:
    """Make the parts and join them; nothing runs yet."""
    aggregate = Aggregate(
        lambda changes: engine.submit(changes, aggregate.told_by),
        clock=time.monotonic,
        domain=settings.domain,
        mesh=settings.mesh,
    )
    generators = _generators()
    engine = Engine(
        aggregate,
        generators,
        kinds(),
        mesh=settings.mesh,
        domain=settings.domain,
        settings=_push_settings(settings.push),
        metrics=Metrics(metrics),
        clock=time.monotonic,
        on_first_view=collector.settle,
    )
    aggregate.set_networks(settings.networks)
    aggregate.set_merge_rules(settings.merge)
    supervisor = Supervisor(
        aggregate,
        decode_announced=decode_announced,
        recall=archive.recall if archive is not None else None,
    )
    supervisor.apply(settings.registries)
    types = {type_url: specs[0].kind for type_url, specs in generators.items()}
    server = XdsServer(engine, types, ready=ready)
    status = SettingsStatus(file=str(settings.file or ""))
    keeper = Keeper(aggregate, archive, supervisor.status) if archive is not None else None
    sources = Sources(aggregate, supervisor, engine, server, status, keeper)
    metrics.register(StateCollector(sources))
    return sources


def _archive(state: State, environ: Mapping[str, str]) -> Archive | None:
    """Where state is kept; the service manager may name several folders, of which the first is
    ours.
    """
    folder = state.dir or environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Archive(Path(folder), state.max_age) if folder else None


def _generators() -> GeneratorTable:
    """Every generator, by the type that it makes."""
    table: dict[str, tuple[GeneratorSpec, ...]] = {}
    for spec in find("aggregator.generators", "GENERATOR", GeneratorSpec).values():
        table[spec.kind.type_url] = (*table.get(spec.kind.type_url, ()), spec)
    return table


def _push_settings(push: Push) -> PushSettings:
    return PushSettings(
        debounce_max=push.debounce.max,
        write_timeout=push.write_timeout,
        in_flight=push.in_flight,
        warm_wait=push.warm_wait,
        separate_wait=push.separate_wait,
    )


def _needs_restart(old: Settings, new: Settings) -> list[str]:
    """Sections that differ and are only read at the start."""
    return [
        name
        for name in ("listen", "push", "domain", "state")
        if getattr(old, name) != getattr(new, name)
    ]


def _tls_files(listen: TlsListen) -> TlsFiles:
    return TlsFiles(
        Path(listen.cert),
        Path(listen.key),
        Path(listen.client_ca) if listen.client_ca else None,
        listen.require_client_cert,
    )


def _check_free(address: Address) -> None:
    """Find out why an address cannot be had; gRPC itself does not tell."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address.host, address.port))
    except OSError as error:
        raise ListenError(_refusal(address, error)) from error


def _refusal(address: Address, error: OSError) -> str:
    # asyncio puts words of its own around the system's; names that do not resolve have other codes.
    if isinstance(error, socket.gaierror) or not error.errno:
        return f"cannot listen on {address}: {error.strerror or error}"
    return f"cannot listen on {address}: {os.strerror(error.errno)}"


async def _bind(address: Address, start: Awaitable[T]) -> T:
    """Await *start*; says which address it was that could not be had."""
    try:
        return await start
    except OSError as error:
        raise ListenError(_refusal(address, error)) from error
