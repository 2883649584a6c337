"""Where Kubernetes' objects are, by the labels that Kubernetes and Istio give places."""

from collections.abc import Mapping
from typing import Final

from aggregator.model.service import NOWHERE, Locality

NETWORK_LABEL: Final = "topology.istio.io/network"
_LOCALITY_LABELS: Final = ("topology.istio.io/locality", "istio-locality")
_REGION: Final = ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region")
_ZONE: Final = ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone")
_SUBZONE: Final = ("topology.istio.io/subzone",)


def labelled_locality(labels: Mapping[str, str]) -> Locality:
    """What a pod's own label says, with dots for slashes; `NOWHERE` if it has none."""
    text = _first(labels, _LOCALITY_LABELS)
    return Locality.parse(text.replace(".", "/")) if text else NOWHERE


def node_locality(labels: Mapping[str, str], default: Locality) -> Locality:
    """Where a node is; one that tells no region is in that of *default*. `NOWHERE` if it tells
    nothing.
    """
    region, zone, subzone = (_first(labels, names) for names in (_REGION, _ZONE, _SUBZONE))
    if not (region or zone):
        return NOWHERE
    return Locality.parse(f"{region or default.region}/{zone}/{subzone}")


def _first(labels: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")
