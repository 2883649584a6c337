"""What clusters say about themselves to those who read an Envoy's state: service and rule.

The form is Istio's, which its command line tools and dashboards read.
"""

from functools import lru_cache
from typing import Final

from envoy.config.core.v3 import base_pb2

from aggregator.model.config import ConfigKey

_FILTER: Final = "istio"
_CACHED: Final = 1 << 14


@lru_cache(_CACHED)
def build_cluster_metadata(
    host: str, namespace: str, *, config: ConfigKey | None, subset: str, external: bool
) -> base_pb2.Metadata:
    """Shared between callers, who copy it and never change it."""
    metadata = base_pb2.Metadata()
    fields = metadata.filter_metadata[_FILTER]
    fields["services"] = [
        {"host": host, "name": _short_name(host, namespace), "namespace": namespace}
    ]
    if config is not None:
        fields["config"] = (
            f"/apis/networking.istio.io/v1/namespaces/{config.namespace}"
            f"/destination-rule/{config.name}"
        )
    if subset:
        fields["subset"] = subset
    if external:
        fields["external"] = True
    return metadata


def _short_name(host: str, namespace: str) -> str:
    """A Kubernetes service goes by its own name, any other by its host."""
    name, found, _ = host.partition(f".{namespace}.svc.")
    return name if found else host
