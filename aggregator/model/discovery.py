"""Finds what packages declare: each module of a package gives one typed constant, by name.

No decorators, no side effects of import, no central list. Adapters outside the tree are found by
entry point.
"""

import importlib
import pkgutil
from importlib.metadata import entry_points
from typing import TypeVar

from aggregator.model.errors import ConfigError, Origin, Problem
from aggregator.model.registry import AdapterSpec

T = TypeVar("T")
ADAPTER_ENTRY_POINTS = "mesh_aggregator.adapters"
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
    parent = importlib.import_module("adapters")
    inside = {info.name for info in pkgutil.iter_modules(parent.__path__) if info.ispkg}
    outside = {entry.name for entry in entry_points(group=ADAPTER_ENTRY_POINTS)}
    return tuple(sorted(inside | outside))


def load_adapter(name: str, origin: Origin) -> AdapterSpec:
    """Import the one adapter that the settings name; asking again reads nothing.

    Raises ConfigError for an unknown name, and for one whose library is missing, naming the extra
    that brings it.
    """
    if name not in _loaded:
        _loaded[name] = _load_adapter(name, origin)
    return _loaded[name]


def _load_adapter(name: str, origin: Origin) -> AdapterSpec:
    if name not in adapter_names():
        known = ", ".join(adapter_names())
        raise ConfigError(
            Problem(origin, "type", f"unknown registry type {name!r}; known: {known}")
        )
    outside = {entry.name: entry.value for entry in entry_points(group=ADAPTER_ENTRY_POINTS)}
    module = outside.get(name, f"adapters.{name}.adapter").partition(":")[0]
    try:
        spec = importlib.import_module(module).ADAPTER
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"adapters", "aggregator", "config"}:
            raise
        hint = f"install it with: pip install 'mesh-aggregator[{name}]'"
        message = f"registry type {name!r} needs the library {error.name!r}; {hint}"
        raise ConfigError(Problem(origin, "type", message)) from error
    if not isinstance(spec, AdapterSpec):
        message = f"{module}.ADAPTER is no AdapterSpec"
        raise TypeError(message)
    return spec
