"""The settings of a registry of this type, and what is wrong with them beyond their form."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from config.documents import field_path

KUBERNETES: Final = "kubernetes"
"""The type of the registries that are announced."""

_NOT_HERE: Final = ("name", "type", "cluster_id", "kubeconfig")
"""Keys of a registry that its kubeconfig's place says."""


class SecretsSource(Struct, frozen=True, forbid_unknown_fields=True):
    """Secrets that are labelled `istio/multiCluster=true`, as Istio's own."""

    registry: Annotated[
        str, Meta(description="The registry of type kubernetes that tells its secrets.")
    ]
    namespace: Annotated[str, Meta(description="The namespace that they are in.")] = "istio-system"


class RemoteClustersSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Where kubeconfigs are found, and how the clusters that they lead to are read."""

    kubeconfigs: Annotated[
        str, Meta(description="A folder; each `<cluster id>.yaml` in it is a kubeconfig.")
    ] = ""
    secrets: Annotated[
        SecretsSource | None,
        Meta(description="Where secrets with kubeconfigs are; their keys are cluster ids."),
    ] = None
    defaults: Annotated[
        Mapping[str, Any],
        Meta(description="Keys of a kubernetes registry, for every cluster that is found."),
    ] = {}
    clusters: Annotated[
        Mapping[str, Mapping[str, Any]],
        Meta(description="The same for one cluster, by its id."),
    ] = {}
    allow_exec: Annotated[
        bool, Meta(description="Whether kubeconfigs may have a program run for a credential.")
    ] = False

    def announced(self, cluster_id: str) -> dict[str, Any]:
        """The settings of the registry that is announced for a cluster."""
        exec_ = {"allow_exec": True} if self.allow_exec else {}
        return {**exec_, **self.defaults, **self.clusters.get(cluster_id, {})}


def validate_settings(settings: RemoteClustersSettings) -> Iterator[tuple[str, str]]:
    """What is wrong: the path of a field, and why."""
    if not settings.kubeconfigs and settings.secrets is None:
        yield "", "expected `kubeconfigs` or `secrets`, or both"
    for path, keys in _sections(settings).items():
        for key in _NOT_HERE:
            if key in keys:
                yield f"{path}.{key}", "the place of the kubeconfig says this"


def announced_sections(
    settings: RemoteClustersSettings,
) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
    """The parts of the settings that are keys of registries of another type, by path."""
    sections = _sections(settings)
    return {
        path: (KUBERNETES, {key: keys[key] for key in keys if key not in _NOT_HERE})
        for path, keys in sections.items()
    }


def _sections(settings: RemoteClustersSettings) -> dict[str, Mapping[str, Any]]:
    clusters = {field_path("clusters", name): keys for name, keys in settings.clusters.items()}
    return {"defaults": settings.defaults, **clusters}
