"""The metadata that every Kubernetes object has, as far as it matters here."""

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct


class ObjectMeta(Struct, frozen=True, rename="camel"):
    """Name, place, labels and age; everything else is the API server's own bookkeeping."""

    name: str = ""
    namespace: str = ""
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    creation_timestamp: str = ""
    deletion_timestamp: str = ""
    resource_version: str = ""

    @property
    def created(self) -> float:
        """Seconds since the epoch, 0 where the object does not tell."""
        if not self.creation_timestamp:
            return 0.0
        try:
            return datetime.fromisoformat(self.creation_timestamp).timestamp()
        except ValueError:
            return 0.0


class PartialObject(Struct, frozen=True):
    """Any object of which the metadata are enough."""

    metadata: ObjectMeta = ObjectMeta()


def service_host(name: str, namespace: str, domain: str) -> str:
    """The name by which Kubernetes knows a Service."""
    return f"{name}.{namespace}.svc.{domain}"
