"""The settings as a JSON Schema: what editors and the documentation need to know of them.

`msgspec.json.schema` cannot print defaults of types with a text form of their own, of which
settings have many.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import inspect

from aggregator.model.discovery import adapter_names, load_adapter
from aggregator.model.errors import ConfigError, Origin
from aggregator.quantity import Address, Size
from aggregator.settings import RegistryForm, SettingsForm
from config.duration import Duration

Schema = dict[str, Any]
_CUSTOM: Mapping[type, Schema] = {
    Duration: {"type": "string", "format": "duration", "examples": ["5s", "200ms", "1h30m"]},
    Size: {"type": "string", "format": "size", "examples": ["48MiB", "64KiB"]},
    Address: {"type": "string", "format": "address", "examples": ["127.0.0.1:15010"]},
}


def settings_schema() -> Schema:
    """The whole file; entries of `registries` differ by their type."""
    definitions: dict[str, Schema] = {}
    schema_of(SettingsForm, definitions)
    form = definitions.pop(SettingsForm.__name__)
    kinds = [_registry_schema(name, definitions) for name in adapter_names()]
    form["properties"]["registries"]["items"] = {"oneOf": kinds}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of mesh-aggregator",
        **form,
        "$defs": dict(sorted(definitions.items())),
    }


def _registry_schema(adapter: str, definitions: dict[str, Schema]) -> Schema:
    """The keys of every registry and of this type; open where the type's libraries are missing."""
    schema_of(RegistryForm, definitions)
    schema = definitions.pop(RegistryForm.__name__)
    schema["properties"]["type"] |= {"const": adapter}
    try:
        spec = load_adapter(adapter, Origin())
    except ConfigError:
        return schema | {"additionalProperties": True}
    schema_of(spec.settings, definitions)
    own = definitions.pop(spec.settings.__name__)
    schema["properties"] |= own["properties"]
    schema["required"] += own["required"]
    if not spec.names_hosts:
        del schema["properties"]["host_template"]
    return schema


def schema_of(struct: type[msgspec.Struct], definitions: dict[str, Schema]) -> Schema:
    """A reference to the schema of *struct*, which goes into *definitions* with all it needs."""
    return _Builder(definitions).node(inspect.type_info(struct))


class _Builder:
    """Translates msgspec's description of types, once per struct."""

    def __init__(self, definitions: dict[str, Schema]) -> None:
        self._definitions = definitions

    def node(self, info: inspect.Type) -> Schema:
        """The schema of one type."""
        match info:
            case inspect.Metadata(type=inner, extra_json_schema=extra):
                return self.node(inner) | (extra or {})
            case inspect.StructType():
                return self._struct(info)
            case inspect.UnionType(types=options):
                return self._union(options)
            case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
                return {"type": "array", "items": self.node(item)}
            case inspect.DictType(value_type=value):
                return {"type": "object", "additionalProperties": self.node(value)}
            case inspect.EnumType(cls=cls):
                return {"enum": [member.value for member in cls]}
            case inspect.LiteralType(values=values):
                return {"enum": list(values)}
            case inspect.CustomType(cls=cls):
                return dict(_CUSTOM.get(cls, {"type": "string"}))
            case _:
                return _scalar(info)

    def _struct(self, info: inspect.StructType) -> Schema:
        name = info.cls.__name__
        if name not in self._definitions:
            self._definitions[name] = {}  # Ends the recursion of structs that contain themselves.
            self._definitions[name] = {
                "type": "object",
                "properties": {
                    field.encode_name: self.node(field.type) | _default(field)
                    for field in info.fields
                },
                "required": [field.encode_name for field in info.fields if field.required],
                "additionalProperties": False,
            }
        return {"$ref": f"#/$defs/{name}"}

    def _union(self, options: tuple[inspect.Type, ...]) -> Schema:
        schemas = [self.node(each) for each in options if not isinstance(each, inspect.NoneType)]
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


_SCALARS: tuple[tuple[type[inspect.Type], Schema], ...] = (
    (inspect.BoolType, {"type": "boolean"}),
    (inspect.IntType, {"type": "integer"}),
    (inspect.FloatType, {"type": "number"}),
    (inspect.StrType, {"type": "string"}),
    (inspect.AnyType, {}),
)


def _scalar(info: inspect.Type) -> Schema:
    schema = dict(next(schema for kind, schema in _SCALARS if isinstance(info, kind)))
    bounds: dict[str, str] = {"minimum": "ge", "maximum": "le", "exclusiveMinimum": "gt",
                              "pattern": "pattern", "minLength": "min_length"}  # fmt: skip
    for keyword, attribute in bounds.items():
        value = getattr(info, attribute, None)
        if value is not None:
            schema[keyword] = value
    return schema


def _default(field: inspect.Field) -> Schema:
    if field.default in (msgspec.NODEFAULT, None, "", ()):
        return {}
    if isinstance(field.default, msgspec.Struct) and field.default == type(field.default)():
        return {}  # Its own fields tell their defaults.
    encode: Callable[[object], str] = str
    return {"default": msgspec.to_builtins(field.default, enc_hook=encode)}
