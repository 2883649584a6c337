"""`registryz`: how each registry fares, and all services with who gives what to them."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from aggregator.debug.form import camel_form
from aggregator.debug.registries import problems_by_scope, status_form
from aggregator.debug.sources import Sources
from aggregator.debug.spec import Query, ViewSpec, known_parameter
from aggregator.model.errors import Problem
from aggregator.model.service import Service, ServiceKey
from aggregator.registry.aggregate import Contribution

_YES_OR_NO: Final = ("false", "true")
_AT_ONCE: Final = 200
"""Services after which others may use the event loop; their contributions cost some 20 µs each."""


class _Row(Struct, frozen=True):
    service: Service
    endpoints: int
    contributions: tuple[Contribution, ...]


class _Content(Struct, frozen=True):
    registries: list[dict[str, Any]]
    problems: Mapping[tuple[str, str], tuple[Problem, ...]]
    services: tuple[_Row, ...]
    unclaimed: tuple[ServiceKey, ...]


async def _read(sources: Sources, query: Query) -> _Content:
    aggregate = sources.aggregate
    now = sources.engine.clock()
    rows: list[_Row] = []
    wanted = known_parameter(query, "services", _YES_OR_NO, "value of services") != "false"
    for index, key in enumerate(sorted(aggregate.service_keys()) if wanted else ()):
        if index % _AT_ONCE == _AT_ONCE - 1:
            await asyncio.sleep(0)
        service = aggregate.service(key)
        if service is None or not _wanted(key, query):
            continue
        endpoints = len(aggregate.endpoints(key))
        rows.append(_Row(service, endpoints, aggregate.contributions(key)))
    return _Content(
        [status_form(each, now) for each in sources.supervisor.status()],
        aggregate.problems(),
        tuple(rows),
        aggregate.unclaimed(),
    )


def _render(content: _Content) -> object:
    return camel_form(content) | {"problems": problems_by_scope(content.problems.items())}


def _wanted(key: ServiceKey, query: Query) -> bool:
    return query.get("host", key.host) == key.host and (
        query.get("namespace", key.namespace) == key.namespace
    )


VIEW: Final = ViewSpec(
    "registryz",
    "How each registry fares; every service, with who defines it and who gives endpoints to it.",
    _read,
    _render,
    {
        "host": "only this host",
        "namespace": "only this namespace",
        "services": "false leaves the services out",
    },
)
