"""`endpointz`: the endpoints of every service, grouped by the registry that gave them."""

from typing import Final

from msgspec import Struct

from aggregator.debug.sources import Sources
from aggregator.debug.spec import Query, ViewSpec
from aggregator.model.service import Endpoint, ServiceKey


class _Row(Struct, frozen=True):
    key: ServiceKey
    endpoints: tuple[Endpoint, ...]


def _read(sources: Sources, query: Query) -> list[_Row]:
    aggregate = sources.aggregate
    return [
        _Row(key, aggregate.endpoints(key))
        for key in sorted(aggregate.service_keys())
        if query.get("host", key.host) == key.host
        and query.get("namespace", key.namespace) == key.namespace
    ]


def _render(rows: list[_Row]) -> object:
    return [
        {"host": row.key.host, "namespace": row.key.namespace, "shards": _shards(row.endpoints)}
        for row in rows
    ]


def _shards(endpoints: tuple[Endpoint, ...]) -> dict[str, list[dict[str, object]]]:
    shards: dict[str, list[dict[str, object]]] = {}
    for endpoint in endpoints:
        shards.setdefault(endpoint.registry, []).append(
            {
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
            }
        )
    return shards


VIEW: Final = ViewSpec(
    "endpointz",
    "The endpoints of every service, by the registry that gave them.",
    _read,
    _render,
    {"host": "only this host", "namespace": "only this namespace"},
)
