"""Hosts whose endpoints serve only their own cluster, as the mesh settings say."""

from collections.abc import Sequence
from typing import Final

from aggregator.generators.spec import View
from aggregator.model.service import Endpoint, Service
from config.host import host_matches

_DEFAULTS: Final = ("*.kube-system.svc.{}", "kubernetes.default.svc.{}")
"""What every cluster has for itself; the domain is to be put in."""


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
    settings = {pattern.format(view.domain_suffix): True for pattern in _DEFAULTS}
    for setting in view.mesh.service_settings:
        local = setting.settings is not None and setting.settings.cluster_local
        settings.update(dict.fromkeys(setting.hosts, local))
    matching = [pattern for pattern in settings if host_matches(pattern, host)]
    return bool(matching) and settings[max(matching, key=_specificity)]


def _specificity(pattern: str) -> tuple[bool, int]:
    return (not pattern.startswith("*"), len(pattern))
