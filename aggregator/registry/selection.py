"""Which namespaces of which registries count, by the mesh's discovery selectors.

A registry that tells of no namespace at all is not concerned. Pure bookkeeping.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from aggregator.model.registry import Namespace
from config.selector import LabelSelector

Source = tuple[str, str]
"""The scope and the adapter's own key of one word."""

_UNNAMED: Final = ""
"""Stands for every namespace that a registry does not tell of."""


class _Rule(Struct, frozen=True):
    """The selectors, and a registry's namespaces with their labels."""

    selectors: tuple[LabelSelector, ...] = ()
    labels: Mapping[str, Mapping[str, str]] = {}

    def counts(self, namespace: str) -> bool:
        if not self.selectors or not self.labels:
            return True
        own = self.labels.get(namespace)
        return own is not None and any(each.matches(own) for each in self.selectors)


class Flip(Struct, frozen=True):
    """How a registry's namespaces were judged, and are now."""

    before: _Rule
    after: _Rule

    def __bool__(self) -> bool:
        """Whether any namespace is judged differently."""
        names = (_UNNAMED, *self.before.labels, *self.after.labels)
        return any(self.of(name) is not None for name in names)

    def of(self, namespace: str) -> bool | None:
        """Whether it counts now; None if that is as before."""
        now = self.after.counts(namespace)
        return None if now is self.before.counts(namespace) else now


class NamespaceSelection:
    """Judges by what was in force at the last `settle`; what is told meanwhile waits for it."""

    def __init__(self, selectors: Sequence[LabelSelector]) -> None:
        self._selectors = tuple(selectors)
        self._told: Final[dict[str, dict[str, dict[Source, Mapping[str, str]]]]] = {}
        self._rules: Final[dict[str, _Rule]] = {}
        self._stale: Final[set[str]] = set()

    def set_selectors(self, selectors: Sequence[LabelSelector]) -> None:
        """Judge by others."""
        if tuple(selectors) != self._selectors:
            self._selectors = tuple(selectors)
            self._stale.update(self._told)

    def tell(self, registry: str, namespace: Namespace, source: Source, *, present: bool) -> None:
        """A registry tells of a namespace, or does so no longer; of several words the first in the
        order of their sources counts.
        """
        names = self._told.setdefault(registry, {})
        words = names.setdefault(namespace.name, {})
        if present:
            words[source] = dict(namespace.labels)
        else:
            words.pop(source, None)
        if not words:
            del names[namespace.name]
        self._stale.add(registry)

    def counts(self, registry: str, namespace: str) -> bool:
        """Whether what a registry says of a namespace counts."""
        rule = self._rules.get(registry)
        return rule is None or rule.counts(namespace)

    def settle(self) -> dict[str, Flip]:
        """Bring what was told into force; returns by registry what is judged differently."""
        flips: dict[str, Flip] = {}
        for registry in sorted(self._stale):
            labels = {name: words[min(words)] for name, words in self._told[registry].items()}
            after = _Rule(self._selectors, labels)
            if flip := Flip(self._rules.pop(registry, _Rule()), after):
                flips[registry] = flip
            if labels:
                self._rules[registry] = after
            else:
                del self._told[registry]
        self._stale.clear()
        return flips
