"""Plain data from a YAML document to structs.

Tells every problem at once, and the nearest known name for each unknown key. Knows nothing of what
the settings mean.
"""

import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from enum import Enum
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo, fields

from aggregator.model.errors import ConfigError, Problem
from aggregator.quantity import Address, Size, parse_address, parse_size
from config.documents import Position, field_path
from config.duration import Duration, parse_duration

T = TypeVar("T")
_AT: Final = re.compile(r" - at `\$(.*)`$")
_PARSERS: Final[Mapping[type, Callable[[str], object]]] = {
    Duration: parse_duration,
    Size: parse_size,
    Address: parse_address,
}


def convert(data: object, to: type[T], path: str, place: Position) -> T:
    """Decode *data*, which stands at *path*; raises ConfigError with all that is wrong with it."""
    problems = tuple(
        Problem(place(where), where, message) for where, message in _walk(data, to, path)
    )
    if problems:
        raise ConfigError(problems)
    try:
        return msgspec.convert(data, to, dec_hook=_decode_value)
    except msgspec.ValidationError as error:
        message, inner = _split(error)
        raise ConfigError(Problem(place(path + inner), path + inner, message)) from error


def unknown_key(key: object, known: Iterable[str]) -> str:
    """The message for a key that nobody reads, with the nearest one that somebody does."""
    names = list(known)
    near = get_close_matches(str(key), names, n=1, cutoff=0.5)
    if near:
        return f"unknown key {str(key)!r}; did you mean {near[0]!r}?"
    return f"unknown key {str(key)!r}; known are {', '.join(sorted(names))}"


def struct_of(to: Any) -> type[msgspec.Struct] | None:
    """The struct type that *to* is, or may be besides None."""
    if get_origin(to) is Annotated:
        return struct_of(get_args(to)[0])
    if get_origin(to) in (Union, types.UnionType):
        inner = [struct_of(each) for each in get_args(to) if each is not types.NoneType]
        return inner[0] if len(inner) == 1 else None
    return to if isinstance(to, type) and issubclass(to, msgspec.Struct) else None


def _walk(data: object, to: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every (path, message) that is wrong."""
    if get_origin(to) is Annotated and not _bounded(to):
        to = get_args(to)[0]
    struct = struct_of(to)
    origin, arguments = get_origin(to), get_args(to)
    if data is None and _optional(to):
        return
    if struct is not None and isinstance(data, dict):
        yield from _walk_struct(data, fields(struct), path)
    elif origin in (tuple, list) and isinstance(data, list):
        for index, item in enumerate(data):
            yield from _walk(item, arguments[0], f"{path}[{index}]")
    elif isinstance(to, type) and issubclass(to, Enum):
        values = [member.value for member in to]
        if data not in values:
            yield path, f"expected one of {', '.join(map(str, values))}, found {data!r}"
    elif origin in (dict, Mapping) and isinstance(data, dict):
        for key, item in data.items():
            yield from _walk(item, arguments[1], field_path(path, str(key)))
    else:
        try:
            msgspec.convert(data, to, dec_hook=_decode_value)
        except msgspec.ValidationError as error:
            message, inner = _split(error)
            yield path + inner, message


def _walk_struct(
    data: dict[object, object], known: tuple[FieldInfo, ...], path: str
) -> Iterator[tuple[str, str]]:
    by_name = {field.encode_name: field for field in known}
    for key, value in data.items():
        field = by_name.get(key) if isinstance(key, str) else None
        if field is None:
            yield field_path(path, str(key)), unknown_key(key, list(by_name))
        else:
            yield from _walk(value, field.type, field_path(path, str(key)))
    for name, field in by_name.items():
        if field.required and name not in data:
            yield field_path(path, name), f"{name!r} is required"


def _bounded(to: Any) -> bool:
    """Whether the annotation says more than a description, so that msgspec must see it."""
    return any(
        isinstance(each, msgspec.Meta)
        and (each.pattern, each.min_length, each.ge, each.le, each.gt) != (None,) * 5
        for each in get_args(to)[1:]
    )


def _optional(to: Any) -> bool:
    return get_origin(to) in (Union, types.UnionType) and types.NoneType in get_args(to)


def _split(error: msgspec.ValidationError) -> tuple[str, str]:
    """msgspec's text without its own path, and that path in our form."""
    text = str(error)
    match = _AT.search(text)
    message = text[: match.start()] if match else text
    # Parsers write a phrase of their own; msgspec's start in upper case.
    return message[:1].lower() + message[1:].replace("`", "'"), match[1] if match else ""


def _decode_value(to: type, value: object) -> object:
    parse = _PARSERS[to]
    if to is Size and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        message = f"expected text such as {_EXAMPLES[to]}, found {value!r}"
        raise ValueError(message)
    return parse(value)


_EXAMPLES: Final[Mapping[type, str]] = {
    Duration: '"200ms"',
    Size: '"48MiB"',
    Address: '"127.0.0.1:15010"',
}
