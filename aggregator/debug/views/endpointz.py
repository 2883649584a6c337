"""`endpointz`: the endpoints of every service, grouped by the registry that gave them."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from aggregator.debug.sources import Sources
from aggregator.debug.spec import Query, ViewSpec
from aggregator.model.policy import MergePolicy
from aggregator.model.service import Endpoint, ServiceKey
from aggregator.registry.status import RegistryState


class _Row(Struct, frozen=True):
    key: ServiceKey
    endpoints: tuple[Endpoint, ...]
    policy: MergePolicy


class _Content(Struct, frozen=True):
    rows: list[_Row]
    ages: Mapping[str, float]


def _read(sources: Sources, query: Query) -> _Content:
    aggregate = sources.aggregate
    rows = [
        _Row(key, aggregate.endpoints(key), aggregate.policy(key))
        for key in sorted(aggregate.service_keys())
        if query.get("host", key.host) == key.host
        and query.get("namespace", key.namespace) == key.namespace
    ]
    statuses = (each for each in sources.supervisor.status() if not each.replacing)
    ages = {each.name: each.age for each in statuses if each.state is not RegistryState.SYNCED}
    return _Content(rows, ages)


def _render(content: _Content) -> object:
    return [
        {
            "host": row.key.host,
            "namespace": row.key.namespace,
            "policy": row.policy.mode.value,
            "shards": _shards(row.endpoints, content.ages),
        }
        for row in content.rows
    ]


def _shards(
    endpoints: tuple[Endpoint, ...], ages: Mapping[str, float]
) -> dict[str, list[dict[str, object]]]:
    shards: dict[str, list[dict[str, object]]] = {}
    for endpoint in endpoints:
        shown = {
            "address": endpoint.address,
            "ports": dict(endpoint.ports),
            "labels": dict(endpoint.labels),
            "locality": str(endpoint.locality),
            "network": endpoint.network,
            "clusterId": endpoint.cluster_id,
            "weight": endpoint.weight,
            "health": endpoint.health.name,
            "serviceAccount": endpoint.service_account,
            "node": endpoint.node,
            "stale": endpoint.registry in ages,
        }
        if endpoint.registry in ages:
            shown["staleSeconds"] = round(ages[endpoint.registry], 1)
        shards.setdefault(endpoint.registry, []).append(shown)
    return shards


VIEW: Final = ViewSpec(
    "endpointz",
    "The endpoints of every service, by the registry that gave them.",
    _read,
    _render,
    {"host": "only this host", "namespace": "only this namespace"},
)
