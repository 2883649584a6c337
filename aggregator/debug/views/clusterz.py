"""`clusterz`: one row for each cluster that is read, or should be, as Istio's view of that name."""

from collections.abc import Mapping
from typing import Any, Final

from aggregator.debug.registries import status_form
from aggregator.debug.sources import Sources
from aggregator.debug.spec import Query, ViewSpec
from aggregator.registry.status import RegistryState, RegistryStatus

_SYNC_STATUS: Final[Mapping[RegistryState, str]] = {
    RegistryState.STARTING: "syncing",
    RegistryState.STALE: "syncing",
    RegistryState.SYNCED: "synced",
    RegistryState.DEGRADED: "stale",
    RegistryState.FAILED: "unreachable",
}
"""Istio's words where it has one; it shows no difference between the others and its time-out."""


def _read(sources: Sources, _query: Query) -> object:
    now = sources.engine.clock()
    return [_row(each, now) for each in sources.supervisor.status() if _is_cluster(each)]


def _is_cluster(status: RegistryStatus) -> bool:
    """What was announced but refused has no cluster id yet."""
    return bool(status.cluster_id or status.announced_by)


def _row(status: RegistryStatus, now: float) -> dict[str, Any]:
    form = status_form(status, now)
    found = {
        "id": form.pop("clusterId") or status.name,
        "secretName": form.pop("origin") if status.announced_by else "",
        "syncStatus": _SYNC_STATUS[status.state],
        "registry": form.pop("name"),
    }
    return found | form


VIEW: Final = ViewSpec(
    "clusterz", "How each cluster fares that is read, and who announced it.", _read
)
