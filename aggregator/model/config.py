"""A traffic rule object of any kind, as every source delivers it."""

from typing import Any

from msgspec import Struct

from aggregator.model.errors import Origin
from aggregator.model.service import Labels


class ConfigKey(Struct, frozen=True, order=True, gc=False):
    """Kind, namespace and name: one object among all sources."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """``Kind namespace/name``, as messages quote it."""
        return f"{self.kind} {self.namespace}/{self.name}"


class Config(Struct, frozen=True):
    """One object of the user's traffic rules; `spec` is the decoded struct of its kind (see
    `config.kinds`).

    `created` is seconds since the epoch, 0 where the source does not tell. Older ones win
    conflicts; ties go by namespace, name.
    """

    kind: str
    namespace: str
    name: str
    spec: Any
    labels: Labels = ()
    annotations: Labels = ()
    created: float = 0.0
    origin: Origin = Origin()

    @property
    def key(self) -> ConfigKey:
        """What identifies it."""
        return ConfigKey(self.kind, self.namespace, self.name)

    @property
    def age_order(self) -> tuple[float, str, str]:
        """Sorts the oldest first; unknown age comes last but for names, so that the order depends
        on content alone.
        """
        return (self.created or float("inf"), self.namespace, self.name)

    def __str__(self) -> str:
        """``Kind namespace/name (file:line)``."""
        return f"{self.key} ({self.origin})" if self.origin.source else str(self.key)
