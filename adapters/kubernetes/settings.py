"""The settings of a registry of this type."""

from typing import Annotated

from msgspec import Meta, Struct


class KubernetesSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Which cluster is read, as whom, and how much of it."""

    kubeconfig: Annotated[
        str,
        Meta(description="A kubeconfig file; without one, the service account of our own pod."),
    ] = ""
    context: Annotated[
        str, Meta(description="The context of the kubeconfig; without one, its current one.")
    ] = ""
    namespaces: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")], ...],
        Meta(description="The namespaces to read; all unless some are named."),
    ] = ()
    system_namespace: Annotated[
        str,
        Meta(
            description="The namespace whose label `topology.istio.io/network` names the cluster's "
            "network."
        ),
    ] = "istio-system"
    secrets_namespace: Annotated[
        str,
        Meta(
            description="The namespace whose secrets labelled `istio/multiCluster=true` are read "
            "for registries of type remote_clusters; none unless it is named."
        ),
    ] = ""
    allow_exec: Annotated[
        bool,
        Meta(description="Whether a program that the kubeconfig names is run for a credential."),
    ] = False
    requests_per_second: Annotated[
        float,
        Meta(gt=0, description="How many requests a second the API server gets at most."),
    ] = 50.0
    page_size: Annotated[
        int, Meta(ge=1, le=10_000, description="How many objects are listed at once.")
    ] = 500
