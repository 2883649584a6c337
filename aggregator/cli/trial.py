"""Reads registries once, as a daemon would, and serves nobody: what each of them would yield."""

import asyncio
import time
from collections.abc import Collection, Sequence
from typing import Any, Final

from msgspec import Struct

from aggregator.model.errors import ConfigError, Origin, Problem
from aggregator.model.registry import ServiceItem
from aggregator.model.service import Endpoint, Port, ServiceKey
from aggregator.registry.aggregate import Aggregate
from aggregator.registry.settings import RegistrySettings
from aggregator.registry.status import RegistryState, RegistryStatus
from aggregator.registry.supervisor import Supervisor
from aggregator.settings import Settings, decode_announced
from config.kind_table import kinds

_TICK: Final = 0.02


class Yielded(Struct, frozen=True):
    """One service of one registry; without ports if only its endpoints are told there."""

    key: ServiceKey
    ports: tuple[Port, ...]
    endpoints: tuple[Endpoint, ...]


class Trial(Struct, frozen=True):
    """How one registry fared, in how many seconds, and what it would yield."""

    status: RegistryStatus
    seconds: float
    services: tuple[Yielded, ...]
    problems: tuple[Problem, ...]

    @property
    def passed(self) -> bool:
        """Whether it was read completely."""
        return self.status.state is RegistryState.SYNCED


def try_registries(settings: Settings, names: Collection[str]) -> list[Trial]:
    """Read the named registries, or all of them, until each is in sync, has failed or is late.

    Raises ConfigError for a name that is not there. All registries are connected to, since some
    read what others find.
    """
    kinds()  # Found by reading folders, which the event loop must not do.
    return asyncio.run(_try(settings, frozenset(names)))


async def _try(settings: Settings, names: frozenset[str]) -> list[Trial]:
    aggregate = Aggregate(
        lambda _changes: None, clock=time.monotonic, domain=settings.domain, mesh=settings.mesh
    )
    supervisor = Supervisor(aggregate, decode_announced=decode_announced)
    supervisor.apply(settings.registries)
    running = asyncio.create_task(supervisor.run())
    began = time.monotonic()
    limits = {each.name: each.sync_timeout for each in settings.registries}
    settled: dict[str, float] = {}
    try:
        while True:
            passed = time.monotonic() - began
            statuses = [each for each in supervisor.status() if not names or each.name in names]
            for status in statuses:
                if _is_settled(status, passed, limits, settings.registries):
                    settled.setdefault(status.name, passed)
            if all(each.name in settled for each in statuses) and (
                len(statuses) >= len(names) or _all_known(supervisor.status())
            ):
                break
            await asyncio.sleep(_TICK)
    finally:
        running.cancel()
        await asyncio.wait([running])
    missing = names - {each.name for each in statuses}
    if missing:
        known = ", ".join(each.name for each in supervisor.status())
        message = f"no registry is named {', '.join(map(repr, sorted(missing)))}; there are {known}"
        raise ConfigError(Problem(Origin(str(settings.file or "")), "", message))
    return [_trial(aggregate, each, settled[each.name]) for each in statuses]


def _is_settled(
    status: RegistryStatus,
    passed: float,
    limits: dict[str, float],
    registries: Sequence[RegistrySettings],
) -> bool:
    if status.state is not RegistryState.STARTING:
        return True
    longest = max((each.sync_timeout for each in registries), default=0.0)
    return passed >= limits.get(status.name, longest)


def _all_known(statuses: Sequence[RegistryStatus]) -> bool:
    """Whether nothing more will be announced: whoever could announce has been read or failed."""
    return all(each.state is not RegistryState.STARTING for each in statuses)


def _trial(aggregate: Aggregate, status: RegistryStatus, seconds: float) -> Trial:
    ports: dict[ServiceKey, tuple[Port, ...]] = {}
    endpoints: dict[ServiceKey, list[Endpoint]] = {}
    for items in aggregate.served(status.name).values():
        for item in items.values():
            if isinstance(item, ServiceItem):
                key = ServiceKey(item.namespace, item.host)
                endpoints.setdefault(key, []).extend(item.endpoints)
                if item.service is not None:
                    ports.setdefault(key, item.service.ports)
    services = tuple(
        Yielded(key, ports.get(key, ()), tuple(sorted(endpoints[key]))) for key in sorted(endpoints)
    )
    problems = sorted(
        problem
        for (name, _scope), found in aggregate.problems().items()
        if name == status.name
        for problem in found
    )
    return Trial(status, seconds, services, tuple(problems))


def trial_form(trial: Trial) -> dict[str, Any]:
    """A trial as JSON types."""
    status = trial.status
    return {
        "name": status.name,
        "type": status.type,
        "state": status.state,
        "reason": status.reason,
        "error": status.last_error,
        "announcedBy": status.announced_by,
        "revision": status.revision,
        "seconds": round(trial.seconds, 3),
        "counts": {
            "services": status.services,
            "endpoints": status.endpoints,
            "rules": status.configs,
            "workloads": status.workloads,
            "skipped": status.skipped,
            "excluded": status.excluded,
        },
        "services": [_service_form(each) for each in trial.services],
        "problems": [
            {
                "origin": str(each.origin),
                "subject": each.subject,
                "path": each.path,
                "message": each.message,
                "severity": each.severity,
            }
            for each in trial.problems
        ],
    }


def _service_form(service: Yielded) -> dict[str, Any]:
    return {
        "namespace": service.key.namespace,
        "host": service.key.host,
        "ports": [
            {"number": port.number, "name": port.name, "protocol": port.protocol}
            for port in service.ports
        ],
        "endpoints": [
            {
                "address": each.address,
                "ports": dict(each.ports),
                "labels": dict(each.labels),
                "locality": str(each.locality),
                "network": each.network,
                "weight": each.weight,
                "health": each.health.name,
            }
            for each in service.endpoints
        ],
    }
