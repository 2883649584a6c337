"""What the registry layer is told about one registry; where that was read is not its business."""

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from aggregator.model.errors import Origin
from aggregator.model.registry import RegistryContext
from aggregator.registry.guard import GuardSettings
from aggregator.registry.mapping import MappingRules

ABSENCE_GRACE: Final = 600.0
"""Seconds of grace where absence is the only sign of a deletion."""


class Handling(Struct, frozen=True):
    """How what a registry says is handled, whatever its adapter: may change while that runs.

    `deletion_grace` is for how many seconds a service stays, without endpoints, that a listing
    lacks.
    """

    mapping: MappingRules = MappingRules()
    guard: GuardSettings = GuardSettings()
    deletion_grace: float = 0.0


class RegistrySettings(Struct, frozen=True, kw_only=True):
    """One registry to run. Order in a list of these is the precedence of definitions.

    `adapter` is the struct that the adapter of this `type` declares as its settings.
    """

    name: str
    type: str
    context: RegistryContext
    adapter: Struct
    required: bool = True
    sync_timeout: float = 30.0
    handling: Handling = Handling()

    def runs_like(self, other: "RegistrySettings") -> bool:
        """Whether one run of the adapter serves both: the same is read, wherever it was written."""
        return (
            self.type == other.type
            and self.adapter == other.adapter
            and replace(self.context, origin=Origin()) == replace(other.context, origin=Origin())
        )
