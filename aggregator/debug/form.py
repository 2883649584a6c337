"""The form in which views show structs: names in camel case, as Istio's views have them."""

from collections.abc import Mapping
from enum import Enum, IntEnum
from functools import cache
from typing import Any

from msgspec import Struct, structs

from aggregator.model.errors import Origin
from aggregator.model.service import Labels, Locality


def camel_form(value: object) -> Any:
    """Structs as objects; labels, which are pairs inside, too. Keys of mappings are the users'."""
    match value:
        case Origin() | Locality():
            return str(value)
        case Struct():
            return {
                name: dict(found) if is_labels else camel_form(found)
                for attribute, name, is_labels in _fields(type(value))
                for found in (getattr(value, attribute),)
            }
        case Mapping():
            return {key: camel_form(found) for key, found in value.items()}
        case frozenset() | set():
            return sorted(camel_form(found) for found in value)
        case list() | tuple():
            return [camel_form(found) for found in value]
        case IntEnum():
            return value.name
        case Enum():
            return value.value
        case _:
            return value


@cache
def _fields(struct: type[Struct]) -> tuple[tuple[str, str, bool], ...]:
    """Attribute, name outside, and whether it holds labels."""
    return tuple(
        (field.name, _camel(field.name), field.type == Labels) for field in structs.fields(struct)
    )


def _camel(name: str) -> str:
    first, *rest = name.rstrip("_").split("_")
    return first + "".join(part.capitalize() for part in rest)
