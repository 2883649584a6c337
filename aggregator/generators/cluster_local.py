"""Hosts whose endpoints serve only their own cluster, as the mesh settings say."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from aggregator.generators.spec import View
from aggregator.model.service import Endpoint, Service
from config.host import host_matches
from config.mesh import ServiceSetting

_DEFAULTS: Final = ("*.kube-system.svc.{}", "kubernetes.default.svc.{}")
"""What every cluster has for itself; the domain is to be put in."""

_CACHED_HOSTS: Final = 1 << 14


def keep_local(view: View, service: Service, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
    """The endpoints that the proxy's cluster may use: all, unless the host is local to clusters.

    What belongs to no cluster is nowhere else than here.
    """
    if not any(each.cluster_id for each in endpoints) or not is_cluster_local(view, service.host):
        return endpoints
    here = view.cluster_id
    return [each for each in endpoints if each.cluster_id in ("", here)]


def is_cluster_local(view: View, host: str) -> bool:
    """Whether the most specific setting for the host says so."""
    return _is_local(view.mesh.service_settings, view.domain_suffix, host)


@lru_cache(_CACHED_HOSTS)
def _is_local(settings: tuple[ServiceSetting, ...], domain: str, host: str) -> bool:
    local = {pattern.format(domain): True for pattern in _DEFAULTS}
    for each in settings:
        wanted = each.settings is not None and each.settings.cluster_local
        local.update(dict.fromkeys(each.hosts, wanted))
    matching = [pattern for pattern in local if host_matches(pattern, host)]
    return bool(matching) and local[max(matching, key=_specificity)]


def _specificity(pattern: str) -> tuple[bool, int]:
    return (not pattern.startswith("*"), len(pattern))
