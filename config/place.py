"""Where an endpoint is and what it speaks, by the precedences that hold for every registry. Pure.

Locality: the endpoint's own word, then its node's, then the registry's default. Protocol: what is
set for the service, then metadata, then the port's name, then the registry's default, else TCP.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from aggregator.model.service import NOWHERE, Locality, Protocol

_WHOLE: Final = "locality"
_DOTTED: Final = ("istio-locality", "topology.istio.io/locality")
"""Labels in which dots stand for the slashes that a label's value cannot have."""

PROTOCOL_KEYS: Final = ("protocol", "istio.protocol")


class LocalityKeys(Struct, frozen=True):
    """The names by which metadata tell region, zone and subzone; the first that is there counts."""

    region: tuple[str, ...] = ("region", "topology.kubernetes.io/region")
    zone: tuple[str, ...] = ("zone", "topology.kubernetes.io/zone")
    subzone: tuple[str, ...] = ("subzone", "topology.istio.io/subzone")


KEYS: Final = LocalityKeys()


def resolve_locality(
    *metadata: Mapping[str, str], default: str = "", keys: LocalityKeys = KEYS
) -> Locality:
    """The locality by the first of *metadata* that tells a region, else *default*.

    *default* is written ``region/zone/subzone``.
    """
    for each in metadata:
        found = _told(each, keys)
        if found is not NOWHERE:
            return found
    return Locality.parse(default)


def _told(metadata: Mapping[str, str], keys: LocalityKeys) -> Locality:
    whole = metadata.get(_WHOLE) or next(
        (metadata[name].replace(".", "/") for name in _DOTTED if metadata.get(name)), ""
    )
    if whole:
        return Locality.parse(whole)
    region, zone, subzone = (
        next((metadata[name] for name in names if metadata.get(name)), "")
        for names in (keys.region, keys.zone, keys.subzone)
    )
    return Locality.parse(f"{region}/{zone}/{subzone}") if region else NOWHERE


def resolve_protocol(
    *,
    service: str = "",
    metadata: Mapping[str, str] | None = None,
    port_name: str = "",
    default: str = "",
) -> Protocol:
    """The protocol of a port; a word that names none counts as not told."""
    told = metadata or {}
    named = next((told[name] for name in PROTOCOL_KEYS if told.get(name)), "")
    return (
        Protocol.parse(service)
        or Protocol.parse(named)
        or Protocol.of_port_name(port_name)
        or Protocol.parse(default)
        or Protocol.TCP
    )
