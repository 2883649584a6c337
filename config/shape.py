"""Plain data to structs, telling everything that does not fit at once.

msgspec does the work; only what it refuses is walked through again to say why, and where.
"""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from itertools import islice
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Struct, inspect

from aggregator.model.errors import ConfigError, Problem
from config.documents import Position, field_path
from config.duration import Duration, parse_duration
from config.message import UInt64

T = TypeVar("T", bound=Struct)
_DIGITS: Final = re.compile(r"[0-9]{1,20}")

MOST_TOLD: Final = 100
"""How much of what is wrong is told; who made so many mistakes made one many times."""


def decode_struct(data: object, of: type[T], path: str, position: Position, subject: str = "") -> T:
    """Decode *data*, which stands at *path*, into a struct; null means absent, as in Kubernetes.

    Raises ConfigError with every unknown field and every value of a wrong type, up to `MOST_TOLD`.
    """
    try:
        return msgspec.convert(data, of, dec_hook=_decode_custom)
    except msgspec.ValidationError as error:
        found = _mismatches(_type_of(of), data, path)
        problems = [
            Problem(position(where), where, message, subject=subject)
            for where, message in islice(found, MOST_TOLD)
        ]
        for where, _ in islice(found, 1):
            message = f"here and below more is wrong; only the first {MOST_TOLD} problems are told"
            problems.append(Problem(position(where), where, message, subject=subject))
        if problems:
            raise ConfigError(tuple(problems)) from error
    try:
        return msgspec.convert(_without_nulls(data), of, dec_hook=_decode_custom)
    except msgspec.ValidationError as error:
        # A demand that is not explained here: structs of adapters elsewhere may have any.
        raise ConfigError(Problem(position(path), path, str(error), subject=subject)) from error


def encode_struct(value: Struct) -> Any:
    """The plain data that `decode_struct` reads, without the fields that have their default."""
    return msgspec.to_builtins(value, enc_hook=str)


def suggest(name: str, known: tuple[str, ...]) -> str:
    """Ends a message on an unknown *name*: with the nearest known one, or with all if few."""
    if near := get_close_matches(name, known, n=1, cutoff=0.6):
        return f"; did you mean {near[0]!r}?"
    return f"; known are {', '.join(sorted(known))}" if 0 < len(known) <= 12 else ""


def _decode_custom(to: type, value: object) -> object:
    """Types with a text form of their own: durations, and classes that have a `parse`."""
    if to is UInt64:
        return _decode_uint64(value)
    parse = parse_duration if to is Duration else getattr(to, "parse", None)
    if parse is None:
        message = f"no decoding for {to.__name__}"
        raise NotImplementedError(message)
    if not isinstance(value, str):
        expected = "a duration such as 5s" if to is Duration else "text"
        message = f"expected {expected}, found {_show(value)}"
        raise ValueError(message)
    return parse(value)


def _decode_uint64(value: object) -> UInt64:
    number = int(value) if isinstance(value, str) and _DIGITS.fullmatch(value) else value
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**64:
        message = f"expected a whole number from 0 to 2**64 - 1, found {_show(value)}"
        raise ValueError(message)
    return UInt64(number)


@cache
def _type_of(of: type[Struct]) -> inspect.Type:
    return inspect.type_info(of)


def _without_nulls(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_nulls(value) for key, value in data.items() if value is not None}
    if isinstance(data, list):
        return [_without_nulls(value) for value in data]
    return data


def _mismatches(to: inspect.Type, data: Any, path: str) -> Iterator[tuple[str, str]]:
    match to:
        case inspect.Metadata():
            yield from _mismatches(to.type, data, path)
        case inspect.StructType():
            yield from _struct_mismatches(to, data, path)
        case inspect.VarTupleType():
            if isinstance(data, list):
                if len(data) < (to.min_length or 0):
                    yield path, f"expected at least {to.min_length} in the list"
                for index, item in enumerate(data):
                    yield from _mismatches(to.item_type, item, f"{path}[{index}]")
            else:
                yield path, f"expected a list, found {_show(data)}"
        case inspect.DictType():
            if isinstance(data, dict):
                for key, item in data.items():
                    yield from _mismatches(to.value_type, item, field_path(path, key))
            else:
                yield path, f"expected an object, found {_show(data)}"
        case inspect.UnionType():
            if data is not None:
                inner = [each for each in to.types if not isinstance(each, inspect.NoneType)]
                if all(any(True for _ in _mismatches(each, data, path)) for each in inner):
                    yield from _mismatches(inner[0], data, path)
        case _:
            if message := _scalar_mismatch(to, data):
                yield path, message


def _struct_mismatches(to: inspect.StructType, data: Any, path: str) -> Iterator[tuple[str, str]]:
    if not isinstance(data, dict):
        yield path, f"expected an object, found {_show(data)}"
        return
    fields = {field.encode_name: field for field in to.fields}
    strict = to.cls.__struct_config__.forbid_unknown_fields
    for key, value in data.items():
        field = fields.get(key)
        if field is None:
            if strict:
                yield field_path(path, key), f"unknown field {key!r}{suggest(key, tuple(fields))}"
        elif value is not None or field.required:
            yield from _mismatches(field.type, value, field_path(path, key))
    for name, field in fields.items():
        if field.required and name not in data:
            yield field_path(path, name), "required"


def _scalar_mismatch(to: inspect.Type, data: Any) -> str:
    if isinstance(to, inspect.EnumType):
        known = tuple(str(member.value) for member in to.cls)
        if data in known:
            return ""
        return f"expected one of {', '.join(known)}, found {_show(data)}"
    if isinstance(to, inspect.CustomType):
        try:
            _decode_custom(to.cls, data)
        except ValueError as error:
            return str(error)
        return ""
    try:
        msgspec.convert(data, _plain_type(to))
    except msgspec.ValidationError:
        return f"expected {_expected(to)}, found {_show(data)}"
    return ""


def _plain_type(to: inspect.Type) -> Any:
    if isinstance(to, inspect.IntType | inspect.FloatType):
        bounds: dict[str, Any] = {"gt": to.gt, "ge": to.ge, "lt": to.lt, "le": to.le}
        number = int if isinstance(to, inspect.IntType) else float
        return Annotated[number, msgspec.Meta(**bounds)]
    if isinstance(to, inspect.StrType):
        return Annotated[str, msgspec.Meta(pattern=to.pattern)]
    return _PLAIN.get(type(to), object)


_PLAIN: Final[Mapping[type[inspect.Type], type]] = {
    inspect.BoolType: bool,
    inspect.BytesType: bytes,
}


def _expected(to: inspect.Type) -> str:
    if isinstance(to, inspect.IntType):
        return f"a whole number{_bounds(to)}"
    if isinstance(to, inspect.FloatType):
        return f"a number{_bounds(to)}"
    if isinstance(to, inspect.StrType) and to.pattern is not None:
        return f"text that matches {to.pattern}"
    names = {
        inspect.StrType: "text",
        inspect.BoolType: "true or false",
        inspect.BytesType: "bytes in base64",
    }
    return names.get(type(to), "another type")


def _bounds(to: inspect.IntType | inspect.FloatType) -> str:
    if to.ge is not None and to.le is not None:
        return f" from {to.ge} to {to.le}"
    words = (("of at least", to.ge), ("above", to.gt), ("of at most", to.le), ("below", to.lt))
    told = [f"{word} {bound}" for word, bound in words if bound is not None]
    return " " + " and ".join(told) if told else ""


def _show(data: object) -> str:
    if isinstance(data, dict):
        return "an object"
    if isinstance(data, list):
        return "a list"
    if data is None:
        return "null"
    if isinstance(data, bool):
        return str(data).lower()
    shown = repr(data)
    return shown if len(shown) <= 60 else shown[:60] + "…"
