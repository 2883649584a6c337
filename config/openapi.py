"""Structs of the API to OpenAPI schemas as Kubernetes takes them in CustomResourceDefinitions.

These are *structural*: every field has one type, and references are written out. They must accept
whatever validation accepts, so they say less than it does.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec import inspect

from config.duration import DURATION_PATTERN, LONGEST_TEXT, Duration
from config.message import Message, Rule, UInt64

Schema = dict[str, Any]

PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
_QUOTED: Final = re.compile(r"`+([^`]+)`+")
_CUSTOM: Final[Mapping[type, Schema]] = {
    Duration: {"type": "string", "maxLength": LONGEST_TEXT, "pattern": f"^{DURATION_PATTERN}$"},
    UInt64: {
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "minimum": 0,
        "pattern": "^[0-9]{1,20}$",
        "x-kubernetes-int-or-string": True,
    },
}


def message_schema(message: type[Message]) -> Schema:
    """The schema of a message and all that is in it."""
    return _schema(inspect.type_info(message))


def build_rules(rules: tuple[Rule, ...]) -> Schema:
    """The part of a schema that holds CEL expressions."""
    if not rules:
        return {}
    listed = [{"rule": each.cel, "message": each.message} for each in rules]
    return {"x-kubernetes-validations": listed}


def _schema(info: inspect.Type) -> Schema:
    match info:
        case inspect.Metadata(type=inner):
            return _schema(inner)
        case inspect.StructType(cls=cls) if issubclass(cls, Message):
            return _object(info, cls)
        case inspect.UnionType(types=options):
            (one,) = (each for each in options if not isinstance(each, inspect.NoneType))
            return _schema(one)
        case inspect.VarTupleType(item_type=item):
            return {"type": "array", "items": _schema(item)}
        case inspect.DictType(value_type=inspect.AnyType()):
            return {"type": "object", PRESERVE: True}
        case inspect.DictType(value_type=value):
            return {"type": "object", "additionalProperties": _schema(value)}
        case inspect.EnumType(cls=cls):
            return {"type": "string", "enum": [member.value for member in cls]}
        case inspect.CustomType(cls=cls):
            return dict(_CUSTOM[cls])
        case _:
            return _scalar(info)


def _object(info: inspect.StructType, message: type[Message]) -> Schema:
    schema: Schema = {"type": "object", "description": _description(message)}
    if message.NEEDS:
        schema["required"] = list(message.NEEDS)
    schema["properties"] = {field.encode_name: _schema(field.type) for field in info.fields}
    schema |= build_rules(message.RULES)
    groups = [_at_most_one(group) for group in message.ONE_OF]
    return schema | ({"allOf": groups} if len(groups) > 1 else dict(*groups))


def _at_most_one(fields: tuple[str, ...]) -> Schema:
    """Said without CEL, whose cost Kubernetes bounds by how often a message could be repeated."""
    given = [{"required": [field]} for field in fields]
    return {"oneOf": [{"not": {"anyOf": given}}, *given]}


def _scalar(info: inspect.Type) -> Schema:
    match info:
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.FloatType():
            return {"type": "number", "format": "double"}
        case inspect.BytesType():
            return {"type": "string", "format": "byte"}
        case inspect.StrType():
            return {"type": "string"}
        case inspect.IntType(ge=lowest, le=highest):
            return {"type": "integer", "minimum": lowest, "maximum": highest}
        case _:
            message = f"no schema for {info}"
            raise NotImplementedError(message)


def _description(message: type[Message]) -> str:
    """The docstring's first paragraph, with the names that users write."""
    text = " ".join((message.__doc__ or "").partition("\n\n")[0].split())
    return _QUOTED.sub(lambda found: f"`{_camel(found[1])}`", text)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
