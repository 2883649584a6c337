"""Finds what packages declare: each module of a package gives one typed constant, by name.

No decorators, no side effects of import, no central list. Adapters outside the tree are found by
entry point.
"""

import importlib
import pkgutil
from importlib.metadata import entry_points
from typing import TypeVar

from msgspec import Struct

from aggregator.model.errors import ConfigError, Origin, Problem
from aggregator.model.registry import AdapterSpec

T = TypeVar("T")
ADAPTER_ENTRY_POINTS = "mesh_aggregator.adapters"
_CONSTANT = "ADAPTER"
_loaded: dict[str, AdapterSpec] = {}


def find(package: str, constant: str, of: type[T]) -> dict[str, T]:
    """Import the modules of *package* and take *constant* of each that has one, by module name, in
    sorted order.

    Raises TypeError if a constant has another type: that is a mistake in our own tree.
    """
    found: dict[str, T] = {}
    parent = importlib.import_module(package)
    for info in sorted(pkgutil.iter_modules(parent.__path__), key=lambda info: info.name):
        value = getattr(importlib.import_module(f"{package}.{info.name}"), constant, None)
        if value is None:
            continue
        if not isinstance(value, of):
            message = f"{package}.{info.name}.{constant} is no {of.__name__}"
            raise TypeError(message)
        found[info.name] = value
    return found


def adapter_names() -> tuple[str, ...]:
    """Every adapter that can be named in the settings, installed extras or not."""
    return tuple(sorted({place.name for place in _places()}))


def load_adapter(name: str, origin: Origin) -> AdapterSpec:
    """Import the one adapter that the settings name; asking again reads nothing.

    Raises ConfigError for an unknown name, and for one whose library is missing, naming the extra
    that brings it.
    """
    if name not in _loaded:
        _loaded[name] = _load_adapter(name, origin)
    return _loaded[name]


def _load_adapter(name: str, origin: Origin) -> AdapterSpec:
    places = [place for place in _places() if place.name == name]
    if not places:
        known = ", ".join(adapter_names())
        raise _unusable(origin, f"unknown registry type {name!r}; known: {known}")
    if len(places) > 1:
        modules = ", ".join(sorted(place.module for place in places))
        raise _unusable(origin, f"several packages bring a registry type {name!r}: {modules}")
    place = places[0]
    spec = _import(place, origin)
    if isinstance(spec, AdapterSpec) and spec.name == name:
        return spec
    message = f"{place.module}.{place.attribute} is no AdapterSpec of the name {name!r}"
    if place.ours:
        raise TypeError(message)
    raise _unusable(origin, message)


class _Place(Struct, frozen=True):
    """Where an adapter is declared: in our own tree, or elsewhere by an entry point."""

    name: str
    module: str
    attribute: str = _CONSTANT
    ours: bool = True


def _places() -> list[_Place]:
    parent = importlib.import_module("adapters")
    inside = [
        _Place(info.name, f"adapters.{info.name}.adapter")
        for info in pkgutil.iter_modules(parent.__path__)
        if info.ispkg
    ]
    # The same distribution may be on the path twice.
    outside = {
        _Place(entry.name, module, attribute or _CONSTANT, ours=False)
        for entry in entry_points(group=ADAPTER_ENTRY_POINTS)
        for module, _, attribute in [entry.value.partition(":")]
    }
    return inside + list(outside)


def _import(place: _Place, origin: Origin) -> object:
    """What the module declares.

    Raises ConfigError where that is the fault of what is installed, rather than ours.
    """
    try:
        return getattr(importlib.import_module(place.module), place.attribute, None)
    except (ImportError, SyntaxError) as error:
        if not place.ours:
            message = f"registry type {place.name!r}: {place.module} cannot be imported: {error}"
            raise _unusable(origin, message) from error
        missing = error.name or "" if isinstance(error, ModuleNotFoundError) else ""
        if missing.partition(".")[0] in {"", "adapters", "aggregator", "config"}:
            raise
        hint = f"install it with: pip install 'mesh-aggregator[{place.name}]'"
        message = f"registry type {place.name!r} needs the library {missing!r}; {hint}"
        raise _unusable(origin, message) from error


def _unusable(origin: Origin, message: str) -> ConfigError:
    return ConfigError(Problem(origin, "type", message))
