"""What a config kind declares of itself, so that no other place needs a list of kinds."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec import Struct

from aggregator.model.config import Config
from aggregator.model.errors import Problem
from aggregator.model.service import Labels
from config.message import Message, Rule

NETWORKING_GROUP: Final = "networking.istio.io"
NETWORKING_VERSIONS: Final = ("v1", "v1beta1", "v1alpha3")


def _no_hosts(_config: Config, _domain: str) -> tuple[str, ...]:
    return ()


def _no_selectors(_config: Config) -> tuple[Labels, ...]:
    return ()


def _no_proxy_labels(_config: Config) -> frozenset[str]:
    return frozenset()


def _no_destinations(_config: Config, _domain: str) -> frozenset[str]:
    return frozenset()


def _no_export(_config: Config) -> tuple[str, ...]:
    return ()


class KindSpec(Struct, frozen=True):
    """Declares a kind: its names, its struct and what the rest asks of its objects.

    `validate` gives every problem at once. `hosts` are the fully qualified host names, or wildcards
    ``*.foo``, that an object speaks of, for the domain ("cluster.local") that completes short
    names. `selectors` are label selectors on proxies, and `proxy_labels` names of single proxy
    labels that the object compares. `export_to` is the object's own list; empty means the mesh's
    default. `destinations` are the fully qualified hosts that it sends traffic to.

    The rest is for its definition in Kubernetes: other names, what a listing shows (column to JSON
    path), and what holds for its own objects only, not for the same message elsewhere.
    """

    kind: str
    plural: str
    group: str
    versions: tuple[str, ...]
    spec: type[Message]
    validate: Callable[[Config], Iterable[Problem]]
    hosts: Callable[[Config, str], tuple[str, ...]] = _no_hosts
    selectors: Callable[[Config], tuple[Labels, ...]] = _no_selectors
    proxy_labels: Callable[[Config], frozenset[str]] = _no_proxy_labels
    export_to: Callable[[Config], tuple[str, ...]] = _no_export
    destinations: Callable[[Config, str], frozenset[str]] = _no_destinations
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ("istio-io", "networking-istio-io")
    columns: Mapping[str, str] = {}
    rules: tuple[Rule, ...] = ()

    @property
    def api_versions(self) -> tuple[str, ...]:
        """Values of ``apiVersion`` that mean this kind."""
        return tuple(f"{self.group}/{version}" for version in self.versions)
