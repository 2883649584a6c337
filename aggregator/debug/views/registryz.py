"""`registryz`: how each registry fares, and all services with who gives what to them."""

import asyncio
from typing import Final

from msgspec import Struct, structs

from aggregator.debug.sources import Sources
from aggregator.debug.spec import Query, ViewSpec
from aggregator.model.service import Service, ServiceKey
from aggregator.registry.aggregate import Contribution
from aggregator.registry.status import RegistryStatus

_AT_ONCE: Final = 200
"""Services after which others may use the event loop; their contributions cost some 20 µs each."""


class _Row(Struct, frozen=True):
    service: Service
    endpoints: int
    contributions: tuple[Contribution, ...]


class _Content(Struct, frozen=True):
    registries: list[dict[str, object]]
    services: tuple[_Row, ...]
    unclaimed: tuple[ServiceKey, ...]


async def _read(sources: Sources, query: Query) -> _Content:
    aggregate = sources.aggregate
    now = sources.engine.clock()
    rows: list[_Row] = []
    for index, key in enumerate(sorted(aggregate.service_keys())):
        if index % _AT_ONCE == _AT_ONCE - 1:
            await asyncio.sleep(0)
        service = aggregate.service(key)
        if service is None or not _wanted(key, query):
            continue
        endpoints = len(aggregate.endpoints(key))
        rows.append(_Row(service, endpoints, aggregate.contributions(key)))
    return _Content(
        [_registry(each, now) for each in sources.supervisor.status()],
        tuple(rows),
        aggregate.unclaimed(),
    )


def _registry(status: RegistryStatus, now: float) -> dict[str, object]:
    """The status with its time in seconds before now, since the clock's zero means nothing."""
    shown: dict[str, object] = structs.asdict(status)
    del shown["last_success"]
    return shown | {
        "last_success_ago": None if status.last_success is None else now - status.last_success
    }


def _wanted(key: ServiceKey, query: Query) -> bool:
    return query.get("host", key.host) == key.host and (
        query.get("namespace", key.namespace) == key.namespace
    )


VIEW: Final = ViewSpec(
    "registryz",
    "How each registry fares; every service, with who defines it and who gives endpoints to it.",
    _read,
    parameters={"host": "only this host", "namespace": "only this namespace"},
)
