"""Every kind of traffic rule, found in `config.kinds`."""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from aggregator.model.discovery import find
from config.kind import KindSpec


@cache
def kinds() -> Mapping[str, KindSpec]:
    """The declared kinds by name ("VirtualService"), in a stable order."""
    found = find("config.kinds", "KIND", KindSpec)
    return MappingProxyType({spec.kind: spec for spec in found.values()})
