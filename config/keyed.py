"""Services, instances and rules in a store of keys and values: which key holds what, in which form.

Knows no store. Below the registry's prefix a key is ``services/<namespace>/<host>``,
``instances/<namespace>/<host>/<name>`` or ``rules/…``; docs/etcd.md describes the values.
"""

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct

from aggregator.model.config import Config
from aggregator.model.errors import ConfigError, Origin, Problem
from aggregator.model.registry import RegistryContext, ServiceItem
from config.check import host_fault, is_dns_label
from config.decode import load_config
from config.documents import Document, read_documents
from config.terse import (
    decode_terse,
    decode_terse_endpoint,
    decode_terse_service,
    is_terse,
    terse_namespace,
)

API_VERSION: Final = "mesh-aggregator/v1"
SERVICE: Final = "Service"
INSTANCE: Final = "Instance"
_FRAME: Final = ("apiVersion", "kind")
_NOWHERE: Final = "nowhere.invalid"


class Section(StrEnum):
    """What is below the prefix, by the first part of the key."""

    SERVICES = "services"
    INSTANCES = "instances"
    RULES = "rules"

    @property
    def folder(self) -> str:
        """What its keys begin with."""
        return f"{self.value}/"


class Decoded(Struct, frozen=True):
    """What one key holds. `name` lasts while the value is edited; warnings do not keep it out."""

    name: str
    item: ServiceItem | Config
    warnings: tuple[Problem, ...] = ()


class Entry(Struct, frozen=True):
    """A key to write, below the prefix, with its value and what its author should know of it."""

    key: str
    value: bytes
    warnings: tuple[Problem, ...] = ()


class _Place(Struct, frozen=True):
    """Where a service or an instance belongs, by its key."""

    namespace: str
    host: str
    name: str = ""


def decode_entry(key: str, value: bytes, context: RegistryContext, source: str) -> Decoded:
    """Decode what *key*, without the prefix, holds; raises ConfigError with all that is wrong.

    Messages name *source* as the place.
    """
    section, _, rest = key.partition("/")
    if section == Section.RULES:
        return _decode_rule(_only_document(value, source), context)
    place = _place(section, rest, Origin(source))
    document = _only_document(value, source)
    _check_frame(document, SERVICE if section == Section.SERVICES else INSTANCE)
    return _decode(place, document.data, document, context)


def encode_entries(document: Document, context: RegistryContext) -> tuple[Entry, ...]:
    """The keys and values for a document as users write it; raises ConfigError if it is wrong.

    It may be of any form that a key may hold, or a list of services in the short form.
    """
    if is_terse(document):
        return tuple(_encode_list(document, context))
    kind = document.data.get("kind")
    if kind == INSTANCE or document.data.get("apiVersion") == API_VERSION:
        return (_encode_object(document, INSTANCE if kind == INSTANCE else SERVICE, context),)
    loaded = load_config(document, default_namespace=context.namespace)
    rule = loaded.config
    metadata = {**document.data["metadata"], "namespace": rule.namespace}
    key = f"{Section.RULES.folder}{rule.kind}/{rule.namespace}/{rule.name}"
    value = _encode({**document.data, "metadata": metadata}, document)
    return (Entry(key, value, loaded.warnings),)


# Reading


def _only_document(value: bytes, source: str) -> Document:
    documents = read_documents(value, source)
    if documents.problems:
        raise ConfigError(documents.problems)
    if len(documents.documents) != 1:
        message = f"expected one object, found {len(documents.documents) or 'nothing'}"
        raise ConfigError(Problem(Origin(source), "", message))
    return documents.documents[0]


def _place(section: str, rest: str, origin: Origin) -> _Place:
    """What the key says; raises ConfigError where that is no place for anything."""
    form = "<namespace>/<host>/<name>" if section == Section.INSTANCES else "<namespace>/<host>"
    parts = rest.split("/")
    if len(parts) != form.count("/") + 1 or not parts[-1]:
        message = f"expected a key {section}/{form}, found {section}/{rest}"
        raise ConfigError(Problem(origin, "", message))
    place = _Place(*parts)
    fault = host_fault(place.host)
    if not is_dns_label(place.namespace):
        fault = f"expected a namespace in the key, found {place.namespace!r}"
    elif not fault and place.host != place.host.lower():
        fault = f"expected the host in lower case in the key, found {place.host!r}"
    if fault:
        raise ConfigError(Problem(origin, "", fault))
    return place


def _check_frame(document: Document, kind: str) -> None:
    problems = []
    for field, expected in (("apiVersion", API_VERSION), ("kind", kind)):
        found = document.data.get(field)
        if found != expected:
            message = f"expected {expected}, found {found!r}" if found else f"required: {expected}"
            problems.append(Problem(document.position(field), field, message))
    if problems:
        raise ConfigError(tuple(problems))


def _decode(
    place: _Place, data: Mapping[str, Any], document: Document, context: RegistryContext
) -> Decoded:
    """Decode a service or an instance, whose value may repeat what its key says."""
    position, origin = document.position, document.origin
    told = _told(place)
    problems = [
        Problem(position(field), field, f"the key says {said!r}, found {data[field]!r}")
        for field, said in told.items()
        if data.get(field, said) != said
    ]
    if problems:
        raise ConfigError(tuple(problems))
    rest = {key: value for key, value in data.items() if key not in {*_FRAME, *told}}
    if not place.name:
        item = decode_terse_service({**rest, **told}, context, origin, position)
        return Decoded("service", item)
    endpoint = decode_terse_endpoint(rest, context, origin, position)
    return Decoded("instance", ServiceItem(place.namespace, place.host, endpoints=(endpoint,)))


def _decode_rule(document: Document, context: RegistryContext) -> Decoded:
    loaded = load_config(document, default_namespace=context.namespace)
    return Decoded(str(loaded.config.key), loaded.config, loaded.warnings)


# Writing


def _encode_list(document: Document, context: RegistryContext) -> Iterator[Entry]:
    """A key for each service of a list; each value says what was left to defaults."""
    items = decode_terse(document, context)
    for item, data in zip(items, document.data["services"] or (), strict=True):
        place = _Place(item.namespace, item.host)
        yield _entry(place, {"apiVersion": API_VERSION, "kind": SERVICE, **data}, document)


def _encode_object(document: Document, kind: str, context: RegistryContext) -> Entry:
    """A service or an instance that says itself where it belongs."""
    _check_frame(document, kind)
    for field in ("host", "namespace", "name", "address"):
        if not isinstance(document.data.get(field, ""), str):
            raise ConfigError(Problem(document.position(field), field, "expected text"))
    data = document.data
    missing = [Problem(document.position("host"), "host", "required")]
    # Without a host the rest can still be looked at, so that all is told at once.
    host = data.get("host", "").lower() or _NOWHERE
    parts = [terse_namespace(data.get("namespace", ""), host, context), host]
    if kind == INSTANCE:
        parts.append(data.get("name") or _default_name(data))
    section = Section.INSTANCES if kind == INSTANCE else Section.SERVICES
    place = _place(section, "/".join(parts), document.origin)
    try:
        _decode(place, {**data, **_told(place)}, document, context)
    except ConfigError as error:
        raise ConfigError((*(missing if host == _NOWHERE else ()), *error.problems)) from error
    if host == _NOWHERE:
        raise ConfigError(tuple(missing))
    return _entry(place, data, document)


def _default_name(data: Mapping[str, Any]) -> str:
    """Address and ports: what tells instances on one machine apart."""
    ports = data.get("ports")
    numbers = sorted({str(number) for number in ports.values()}) if isinstance(ports, dict) else []
    return "-".join((data.get("address") or "unnamed", *numbers))


def _told(place: _Place) -> dict[str, str]:
    """What a value repeats of its key, for those who read it alone."""
    told = {"namespace": place.namespace, "host": place.host}
    return told | {"name": place.name} if place.name else told


def _entry(place: _Place, data: Mapping[str, Any], document: Document) -> Entry:
    if place.name:
        key = f"{Section.INSTANCES.folder}{place.namespace}/{place.host}/{place.name}"
    else:
        key = f"{Section.SERVICES.folder}{place.namespace}/{place.host}"
    return Entry(key, _encode({**data, **_told(place)}, document))


def _encode(data: Mapping[str, Any], document: Document) -> bytes:
    """JSON, which is read ten times faster than YAML."""
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise ConfigError(Problem(document.origin, "", "expected finite numbers only")) from error
    return text.encode()
