"""Metrics of the registries and the settings, read from the state when they are asked for."""

import time
from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from aggregator.debug.release import DISTRIBUTION, components
from aggregator.debug.sources import Sources
from aggregator.registry.keeper import Keeper
from aggregator.registry.status import Reason, RegistryState, RegistryStatus

_GAUGES: Final[tuple[tuple[str, str, Callable[[RegistryStatus], float]], ...]] = (
    ("services", "Services that a registry gives.", lambda each: each.services),
    ("endpoints", "Endpoints that a registry gives.", lambda each: each.endpoints),
    ("configs", "Traffic rules that a registry gives.", lambda each: each.configs),
    ("workloads", "Workloads that a registry gives.", lambda each: each.workloads),
    ("skipped", "Objects of a registry that are left out for an error.", lambda each: each.skipped),
    (
        "lingering",
        "Services without endpoints that wait for the end of their deletion grace.",
        lambda each: each.lingering,
    ),
    ("problems", "Problems in what a registry gives.", lambda each: each.problems),
    ("held", "Losses that the loss guard holds back.", lambda each: len(each.held)),
    ("age_seconds", "For how long a registry's state may be out of date.", lambda each: each.age),
    ("required", "Whether readiness waits for a registry.", lambda each: each.required),
)


class StateCollector(Collector):
    """Reads the daemon's state at each scrape, so that nothing has to keep gauges up to date."""

    def __init__(self, sources: Sources) -> None:
        self._sources: Final = sources

    def collect(self) -> Iterable[Metric]:
        """All families."""
        # The times of states are of the engine's clock, whose zero means nothing outside.
        epoch = time.time() - self._sources.engine.clock()
        yield from _registry_metrics(self._sources.supervisor.status(), epoch)
        yield from _keeper_metrics(self._sources.keeper)
        yield from self._model_metrics()
        yield from self._settings_metrics()
        yield self._isolated()
        yield from self._push_metrics()

    def _push_metrics(self) -> Iterable[Metric]:
        engine, server = self._sources.engine, self._sources.server
        units = CounterMetricFamily("mesh_units_built", "Units built, by type.", labels=["type"])
        seconds = CounterMetricFamily(
            "mesh_build_seconds", "Seconds spent on building units, by type.", labels=["type"]
        )
        for label, work in engine.units.work_of_type.items():
            units.add_metric([label], work.units)
            seconds.add_metric([label], work.seconds)
        yield units
        yield seconds
        responses = CounterMetricFamily(
            "mesh_responses",
            "Responses looked up, by whether another stream's could be shared.",
            labels=["shared"],
        )
        responses.add_metric(["yes"], server.cache.hits)
        responses.add_metric(["no"], server.cache.misses)
        yield responses
        yield _gauge(
            "mesh_pending_changes", "Changes that wait for a push.", engine.waiting_changes
        )
        yield _gauge(
            "mesh_streams_behind",
            "Streams that have not yet written what they were told of.",
            engine.streams_behind,
        )
        yield _gauge(
            "mesh_xds_in_flight_bytes",
            "Bytes of responses that the transport has not taken yet.",
            server.budget.used,
        )
        yield _gauge("mesh_views", "Classes of proxies that get the same.", len(engine.views))

    def _isolated(self) -> Metric:
        isolated = GaugeMetricFamily(
            "mesh_xds_isolated_resources",
            "Resources that are kept from a client because it rejected them.",
            labels=["type"],
        )
        counts = {kind.label: 0 for kind in self._sources.server.types.values()}
        for stream in self._sources.server.streams:
            for subscription in stream.session.subscriptions.values():
                counts[subscription.kind.label] += len(subscription.isolation.rejected)
        for label, count in counts.items():
            isolated.add_metric([label], count)
        return isolated

    def _model_metrics(self) -> Iterable[Metric]:
        aggregate = self._sources.aggregate
        yield _gauge(
            "pilot_services", "Services of the merged model.", len(aggregate.service_keys())
        )
        rules = GaugeMetricFamily("mesh_configs", "Traffic rules in force.", labels=["kind"])
        for kind, count in _count(key.kind for key in aggregate.config_keys()).items():
            rules.add_metric([kind], count)
        yield rules
        yield _gauge(
            "mesh_conflicts",
            "Places where registries contradict each other.",
            len(aggregate.conflicts()),
        )
        yield _gauge(
            "mesh_unclaimed_services",
            "Hosts with endpoints that no registry defines as services.",
            len(aggregate.unclaimed()),
        )
        yield _gauge(
            "mesh_unusable_rules",
            "Problems of rules and services that show only when resources are built.",
            len(self._sources.engine.problems()),
        )
        failures = CounterMetricFamily(
            "mesh_generator_failures", "Resources that could not be built for a mistake of ours."
        )
        failures.add_metric([], self._sources.engine.units.failures)
        yield failures

    def _settings_metrics(self) -> Iterable[Metric]:
        settings = self._sources.settings
        yield _gauge(
            "mesh_settings_loaded_timestamp_seconds",
            "When the settings in force were read.",
            settings.loaded,
        )
        yield _gauge(
            "mesh_settings_rejected",
            "Whether the settings file as it is now was refused.",
            bool(settings.error),
        )
        reloads = CounterMetricFamily("mesh_settings_reloads", "Reloads of the settings that took.")
        reloads.add_metric([], settings.reloads)
        yield reloads
        info = GaugeMetricFamily("pilot_info", "The version that runs.", labels=["version"])
        info.add_metric([components()[DISTRIBUTION]], 1)
        yield info


def _registry_metrics(registries: Iterable[RegistryStatus], epoch: float) -> Iterable[Metric]:
    statuses = tuple(status for status in registries if not status.replacing)
    state = GaugeMetricFamily(
        "mesh_registry_state",
        "1 for the state that a registry is in.",
        labels=["registry", "state"],
    )
    reconnects = CounterMetricFamily(
        "mesh_registry_reconnects", "Restarts of a registry's adapter.", labels=["registry"]
    )
    failing = GaugeMetricFamily(
        "mesh_registry_failing",
        "1 for the reason why a registry is not in sync.",
        labels=["registry", "reason"],
    )
    success = GaugeMetricFamily(
        "mesh_registry_last_success_timestamp_seconds",
        "When a registry was last heard of; not there for one that never was.",
        labels=["registry"],
    )
    info = GaugeMetricFamily(
        "mesh_registry_info",
        "1 for each registry, with its type, its cluster and the registry that announced it.",
        labels=["registry", "type", "cluster_id", "announced_by"],
    )
    for status in statuses:
        info.add_metric([status.name, status.type, status.cluster_id, status.announced_by], 1)
        if status.last_success is not None:
            success.add_metric([status.name], epoch + status.last_success)
        for possible in RegistryState:
            state.add_metric([status.name, possible], status.state is possible)
        for reason in Reason:
            failing.add_metric([status.name, reason], status.reason is reason)
        reconnects.add_metric([status.name], status.reconnects)
    yield state
    yield failing
    yield info
    yield success
    yield reconnects
    for name, text, read in _GAUGES:
        family = GaugeMetricFamily(f"mesh_registry_{name}", text, labels=["registry"])
        for status in statuses:
            family.add_metric([status.name], read(status))
        yield family


def _keeper_metrics(keeper: Keeper | None) -> Iterable[Metric]:
    yield _gauge(
        "mesh_state_unsaved_registries",
        "Registries whose state cannot be written to disk at present.",
        len(keeper.faults()) if keeper is not None else 0,
    )
    saves = CounterMetricFamily("mesh_state_saves", "How often a registry's state was written.")
    saves.add_metric([], keeper.save_total if keeper is not None else 0)
    yield saves


def _gauge(name: str, text: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, text)
    family.add_metric([], value)
    return family


def _count(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts
