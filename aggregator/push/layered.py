"""A large mapping that differs from another one in a few places, without a copy of the rest."""

from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
from typing import Final, TypeVar

T = TypeVar("T")

LAYER: Final = 256
"""So many changes lie over a base before all of it is copied; a smaller one is copied each time."""


class Layered(Mapping[str, T]):
    """A base with changes over it, of which None takes a name away. Never changed once made."""

    __slots__ = ("_base", "_length", "_over")

    def __init__(self, base: dict[str, T], over: dict[str, T | None]) -> None:
        self._base: Final = base
        self._over: Final = over
        self._length: int | None = None

    def __getitem__(self, name: str) -> T:
        """The changed value, else the base's."""
        if name not in self._over:
            return self._base[name]
        value = self._over[name]
        if value is None:
            raise KeyError(name)
        return value

    def __contains__(self, name: object) -> bool:
        """Whether it is there and not taken away."""
        return self._over[name] is not None if name in self._over else name in self._base

    def __iter__(self) -> Iterator[str]:
        """All names, in no order to rely on."""
        return iter(self.flat())

    def __len__(self) -> int:
        """How many there are."""
        if self._length is None:
            gone = sum(value is None and name in self._base for name, value in self._over.items())
            new = sum(
                value is not None and name not in self._base for name, value in self._over.items()
            )
            self._length = len(self._base) + new - gone
        return self._length

    def items(self) -> ItemsView[str, T]:
        """Of a copy, which is faster than one look-up after the other."""
        return self.flat().items()

    def values(self) -> ValuesView[T]:
        """Of a copy, which is faster than one look-up after the other."""
        return self.flat().values()

    def changed(self, changes: Iterable[tuple[str, T | None]]) -> Mapping[str, T]:
        """The same with further changes."""
        over = dict(self._over)
        over.update(changes)
        layered = Layered(self._base, over)
        return layered if len(over) <= LAYER else layered.flat()

    @property
    def entries_held(self) -> int:
        """How many entries exist for this mapping's sake; the base's are others' too."""
        return len(self._over)

    def flat(self) -> dict[str, T]:
        """All of it in a dictionary of its own."""
        flat = dict(self._base)
        for name, value in self._over.items():
            if value is None:
                flat.pop(name, None)
            else:
                flat[name] = value
        return flat


def changed(of: Mapping[str, T], changes: tuple[tuple[str, T | None], ...]) -> Mapping[str, T]:
    """What *of* is after *changes*. Neither is touched, and *of* must never be."""
    if isinstance(of, Layered):
        return of.changed(changes)
    base = of if isinstance(of, dict) else dict(of)
    layered = Layered(base, dict(changes))
    small = len(base) < 4 * LAYER or len(changes) > LAYER
    return layered.flat() if small else layered


def entries_held(of: Mapping[str, T]) -> int:
    """How many entries a mapping keeps in memory by itself."""
    return of.entries_held if isinstance(of, Layered) else len(of)
