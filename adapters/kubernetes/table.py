"""Objects in memory: by namespace and name, and by what they refer to."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Final, Generic, Protocol, TypeVar

T = TypeVar("T")
Name = tuple[str, str]
"""Namespace and name; the namespace is empty for what is in none."""

_TURN: Final = 0.01
"""Seconds after which the event loop is given to others."""


class Taker(Protocol[T]):
    """Who takes the objects of one kind."""

    async def list(self, namespace: str, found: Mapping[Name, T]) -> None:
        """All objects of a namespace, or of all if none is named."""

    def put(self, name: Name, value: T | None) -> None:
        """One object; None is its end."""

    def known(self, name: Name) -> T | None:
        """What was taken of an object last."""


class Table(Generic[T]):
    """Objects of one kind."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, T]] = {}

    def get(self, name: Name) -> T | None:
        """One object."""
        return self._objects.get(name[0], {}).get(name[1])

    def put(self, name: Name, value: T | None) -> T | None:
        """Keep or forget one object; what there was."""
        namespace, own = name
        objects = self._objects.setdefault(namespace, {})
        old = objects.get(own)
        if value is not None:
            objects[own] = value
            return old
        objects.pop(own, None)
        if not objects:
            del self._objects[namespace]
        return old

    def namespaces(self, only: str = "") -> set[str]:
        """Where there are objects; just *only*, if that is given."""
        return {only} if only else set(self._objects)

    def within(self, namespace: str) -> Mapping[str, T]:
        """The objects of a namespace, by name."""
        return self._objects.get(namespace, {})

    def names(self, only: str = "") -> Iterable[Name]:
        """Everything in one namespace or all."""
        return [
            (namespace, name)
            for namespace in self.namespaces(only)
            for name in self.within(namespace)
        ]


class Index:
    """Which objects refer to what; most are referred to by one."""

    def __init__(self) -> None:
        self._found: dict[str, Name | set[Name]] = {}

    def add(self, token: str, name: Name) -> None:
        """*name* refers to *token*."""
        known = self._found.get(token)
        if known is None or known == name:
            self._found[token] = name
        elif isinstance(known, set):
            known.add(name)
        else:
            self._found[token] = {known, name}

    def discard(self, token: str, name: Name) -> None:
        """It does no longer."""
        known = self._found.get(token)
        if isinstance(known, set):
            known.discard(name)
            if not known:
                del self._found[token]
        elif known == name:
            del self._found[token]

    def of(self, token: str) -> list[Name]:
        """Who refers to it, in a stable order."""
        known = self._found.get(token)
        if known is None:
            return []
        return sorted(known) if isinstance(known, set) else [known]


class Turns:
    """Gives the event loop to others now and then, where much is done in one go."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    async def give(self) -> None:
        """Let others run if we have run for long enough."""
        if time.perf_counter() - self._began > _TURN:
            await asyncio.sleep(0)
            self._began = time.perf_counter()
