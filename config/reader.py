"""What reading a Kubernetes cluster takes: the permissions of whoever does it, and no more."""

from typing import Any, Final

from config.kind_table import kinds

VERBS: Final = ("list", "watch")
_CORE: Final = {
    "": ("namespaces", "nodes", "pods", "services"),
    "discovery.k8s.io": ("endpointslices",),
    "apiextensions.k8s.io": ("customresourcedefinitions",),
}


def reader_rules() -> list[dict[str, Any]]:
    """The rules of a ClusterRole, one for each API group."""
    groups = {group: list(plurals) for group, plurals in _CORE.items()}
    for kind in kinds().values():
        groups.setdefault(kind.group, []).append(kind.plural)
    return [
        {"apiGroups": [group], "resources": sorted(plurals), "verbs": list(VERBS)}
        for group, plurals in groups.items()
    ]
