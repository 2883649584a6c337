"""YAML and JSON files to plain data, knowing on which line each field was written.

Knows nothing of kinds. What is read is the user's and may be hostile: depth, aliases and the size
of numbers are bounded, and nothing but an error comes of broken text.
"""

import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from sys import intern
from typing import Any, Final, NoReturn

import yaml
from msgspec import Struct

from aggregator.model.errors import Origin, Problem

_DEEPEST: Final = 100
_MOST_ALIASED: Final = 1_000_000
"""Nodes that aliases may stand for in one file."""

_LONGEST_NUMBER: Final = 400


class Document:
    """One object of a file."""

    __slots__ = ("_index", "_lines", "_prefix", "data", "origin")

    def __init__(
        self,
        data: dict[str, Any],
        origin: Origin,
        lines: "_Lines | None" = None,
        index: int = 0,
        prefix: str = "",
    ) -> None:
        self.data: Final = data
        self.origin: Final = origin
        self._lines: Final = lines
        self._index: Final = index
        self._prefix: Final = prefix

    def position(self, path: str) -> Origin:
        """Where the field of *path*, such as ``spec.http[0].timeout``, is; else its nearest parent.

        The text is read again for this, once for all documents of a file.
        """
        if self._lines is None or not path:
            return self.origin
        whole = path if not self._prefix else f"{self._prefix}.{path}"
        return Origin(self.origin.source, self._lines.find(self._index, whole) or self.origin.line)


class Documents(Struct, frozen=True):
    """What a file holds, in order; with problems there are no documents."""

    documents: tuple[Document, ...] = ()
    problems: tuple[Problem, ...] = ()


def field_path(path: str, key: str) -> str:
    """The path of *key* under *path*; keys that are no plain names are quoted, ``a["b.c/d"]``."""
    if not _PLAIN_KEY.fullmatch(key):
        return f"{path}[{json.dumps(key)}]"
    return f"{path}.{key}" if path else key


def read_documents(text: bytes, source: str) -> Documents:
    """Read every document of a YAML stream or a JSON text; ``List`` objects are taken apart.

    One syntax error anywhere gives no documents at all, since nothing after it can be trusted.
    """
    try:
        decoded = _decode(text)
        if _looks_like_json(decoded, source):
            try:
                return _documents([(1, _read_json(decoded))], _Lines(decoded), source)
            except _TextError as error:
                if source.endswith(".json"):
                    raise _with_line(error, decoded) from error
        found = [(line, value) for line, value in _Reader(decoded).documents() if value is not None]
        return _documents(found, _Lines(decoded), source)
    except _TextError as fault:
        return Documents(problems=(Problem(Origin(source, fault.line), "", fault.message),))


class _TextError(Exception):
    """Broken text; never leaves this module."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line: Final = line
        self.message: Final = message


def _decode(text: bytes) -> str:
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        message = f"expected UTF-8 text, found byte 0x{text[error.start]:02x}"
        raise _TextError(line, message) from error


def _documents(found: list[tuple[int, object]], lines: "_Lines", source: str) -> Documents:
    documents: list[Document] = []
    for index, (line, value) in enumerate(found):
        if not isinstance(value, dict):
            raise _TextError(line, f"expected an object with fields, found {_name_of(value)}")
        origin = Origin(source, line)
        items = value.get("items")
        if value.get("kind") == "List" and isinstance(items, list):
            for number, item in enumerate(items):
                prefix = f"items[{number}]"
                place = Document(value, origin, lines, index).position(prefix)
                if not isinstance(item, dict):
                    raise _TextError(
                        place.line, f"{prefix}: expected an object, found {_name_of(item)}"
                    )
                documents.append(Document(item, place, lines, index, prefix))
        else:
            documents.append(Document(value, origin, lines, index))
    return Documents(tuple(documents))


def _name_of(value: object) -> str:
    names = {list: "a list", str: "text", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "nothing")


# JSON


def _looks_like_json(text: str, source: str) -> bool:
    return source.endswith(".json") or text.lstrip()[:1] == "{"


def _read_json(text: str) -> object:
    try:
        value: object = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_int=_json_int
        )
    except json.JSONDecodeError as error:
        message = f"column {error.colno}: {error.msg[:1].lower()}{error.msg[1:]}"
        raise _TextError(error.lineno, message) from error
    except RecursionError as error:
        raise _TextError(1, _TOO_DEEP) from error
    if not isinstance(value, (dict, list)):
        return value
    _bound_depth(value)
    if _SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise _TextError(0, "expected characters, found half of a surrogate pair") from error
    return value


def _with_line(error: _TextError, text: str) -> _TextError:
    """The JSON decoder does not say where an object is; the YAML reader does."""
    if not error.line:
        try:
            _exhaust(_Reader(text).documents())
        except _TextError as located:
            return located
    return error


def _exhaust(found: Iterator[object]) -> None:
    for _ in found:
        pass


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _TextError(0, f"the key {twice!r} is written twice in one object")
    return found


def _refuse_constant(text: str) -> NoReturn:
    raise _TextError(0, f"expected a JSON value, found {text}")


def _json_int(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise _TextError(0, "a number has too many digits")
    return int(text)


def _bound_depth(value: object) -> None:
    level: list[object] = [value]
    for _ in range(_DEEPEST):
        inner: list[object] = []
        for each in level:
            if isinstance(each, dict):
                inner.extend(each.values())
            elif isinstance(each, list):
                inner.extend(each)
        if not inner:
            return
        level = inner
    raise _TextError(1, _TOO_DEEP)


_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_TOO_DEEP: Final = f"expected at most {_DEEPEST} levels of nesting"


# YAML

_PLAIN_KEY: Final = re.compile(r"[\w-]+", re.ASCII)
_INT: Final = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0b[01]+|0|[1-9][0-9]*)", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_INFINITE: Final = re.compile(r"([-+]?)\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS: Final[dict[str, bool | None]] = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL")),
    **{word: True for yes in ("true", "yes", "on") for word in (yes, yes.title(), yes.upper())},
    **{word: False for no in ("false", "no", "off") for word in (no, no.title(), no.upper())},
}
_NUMBER_START: Final = frozenset("-+.0123456789")
_TAG: Final = "tag:yaml.org,2002:"


@lru_cache(maxsize=4096)
def _plain(text: str) -> object:
    """What an unquoted scalar means, as Kubernetes reads it: YAML 1.1 without dates and base 60."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_START or len(text) > _LONGEST_NUMBER:
        return text
    if _INT.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if match := _INFINITE.fullmatch(text):
        return float(match[0].replace(".", ""))
    return text


def _integer(text: str) -> int:
    digits = text.lstrip("+-").lower()
    if len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
        digits = "0o" + digits[1:]
    value = int(digits, 0)
    return -value if text[0] == "-" else value


def _tagged(tag: str, text: str) -> object:
    """A scalar whose type is written before it."""
    if tag in ("!", _TAG + "str"):
        return text
    value = _plain(text)
    wanted = {_TAG + "int": int, _TAG + "bool": bool, _TAG + "float": float}.get(tag)
    if wanted is float and type(value) is int:
        return float(value)
    if (wanted is not None and type(value) is wanted) or (tag == _TAG + "null" and value is None):
        return value
    message = f"the tag {tag.replace(_TAG, '!!')} is not known here, or does not fit {text[:40]!r}"
    raise ValueError(message)


class _Reader:
    """Builds plain data from the parser's events, so that depth and aliases can be bounded."""

    def __init__(self, text: str) -> None:
        self._text: Final = text
        self._anchors: dict[str, tuple[object, int]] = {}
        self._built = 0
        self._aliased = 0

    def documents(self) -> Iterator[tuple[int, object]]:
        """Line and data of each document."""
        events = _events(self._text)
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors.clear()
                first = next(events)
                yield first.start_mark.line + 1, self._node(first, events, 0)

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> object:
        self._built += 1
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        before = self._built
        value: object
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        else:
            if depth >= _DEEPEST:
                raise _fault(event, _TOO_DEEP)
            if event.anchor is not None:
                self._anchors[event.anchor] = (_UNFINISHED, 0)
            if isinstance(event, yaml.SequenceStartEvent):
                value = self._sequence(event, events, depth)
            else:
                value = self._mapping(event, events, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, self._built - before + 1)
        return value

    def _scalar(self, event: Any) -> object:
        if event.tag is None:
            return _plain(event.value) if event.implicit[0] else event.value
        try:
            return _tagged(event.tag, event.value)
        except ValueError as error:
            raise _fault(event, str(error)) from error

    def _alias(self, event: Any) -> object:
        value, size = self._anchors.get(event.anchor, (_MISSING, 0))
        if value is _MISSING:
            raise _fault(event, f"the anchor {event.anchor!r} is not defined")
        if value is _UNFINISHED:
            raise _fault(event, f"the anchor {event.anchor!r} contains itself")
        self._built += size
        self._aliased += size
        if self._aliased > _MOST_ALIASED:
            raise _fault(event, "aliases expand to too much data")
        return value

    def _sequence(self, event: Any, events: Iterator[Any], depth: int) -> list[object]:
        self._demand_tag(event, "seq")
        items: list[object] = []
        for inner in events:
            if isinstance(inner, yaml.SequenceEndEvent):
                break
            items.append(self._node(inner, events, depth + 1))
        return items

    def _mapping(self, event: Any, events: Iterator[Any], depth: int) -> dict[str, object]:
        self._demand_tag(event, "map")
        fields: dict[str, object] = {}
        merged: list[dict[str, object]] = []
        for key_event in events:
            if isinstance(key_event, yaml.MappingEndEvent):
                break
            if not isinstance(key_event, yaml.ScalarEvent):
                raise _fault(key_event, "expected a name as key")
            key = intern(key_event.value)
            value = self._node(next(events), events, depth + 1)
            if key == "<<" and key_event.implicit[0]:
                merged.extend(self._mergeable(key_event, value))
            elif key in fields:
                raise _fault(key_event, f"the key {key!r} is written twice in one object")
            else:
                fields[key] = value
        for source in merged:
            fields = {**source, **fields}
        return fields

    def _mergeable(self, event: Any, value: object) -> list[dict[str, object]]:
        sources = value if isinstance(value, list) else [value]
        found = [each for each in sources if isinstance(each, dict)]
        if len(found) != len(sources):
            raise _fault(event, "expected objects to merge after <<")
        return found

    def _demand_tag(self, event: Any, name: str) -> None:
        if event.tag not in (None, "!", _TAG + name):
            raise _fault(event, f"the tag {event.tag.replace(_TAG, '!!')} is not known here")


_MISSING: Final = object()
_UNFINISHED: Final = object()


def _fault(event: Any, message: str) -> _TextError:
    mark = event.start_mark
    return _TextError(mark.line + 1, f"column {mark.column + 1}: {message}")


def _events(text: str) -> Iterator[Any]:
    """libyaml's events; its composer is not used, because it recurses without bound."""
    try:
        yield from yaml.parse(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error) from error
    except yaml.reader.ReaderError as error:
        line = text.encode().count(b"\n", 0, error.position) + 1
        message = f"expected printable text, found character 0x{error.character:02x}"
        raise _TextError(line, message) from error


def _syntax_error(error: yaml.MarkedYAMLError) -> _TextError:
    mark = error.problem_mark or error.context_mark
    message = error.problem or "not YAML"
    if error.context and error.context_mark:
        message += f"; {error.context} that begins on line {error.context_mark.line + 1}"
    if mark is None:
        return _TextError(0, message)
    return _TextError(mark.line + 1, f"column {mark.column + 1}: {message}")


# Positions

_Place = tuple[int, "dict[str, _Place] | list[_Place] | None"]
_STEP: Final = re.compile(r'\.?([\w-]+)|\[(\d+)\]|\["((?:[^"\\]|\\.)*)"\]', re.ASCII)


class _Lines:
    """The line of every field of a file, found when first asked for; most files are never asked."""

    def __init__(self, text: str) -> None:
        self._text: str | None = text
        self._places: list[_Place] = []

    def find(self, index: int, path: str) -> int:
        """The line of *path*, or of its nearest parent, in one of the documents; 0 if unknown."""
        if self._text is not None:
            text, self._text = self._text, None
            try:
                self._places.extend(_places(text))
            except _TextError:  # JSON that YAML does not take, such as some escapes: no lines.
                self._places.clear()
        if index >= len(self._places):
            return 0
        line, inner = self._places[index]
        for match in _STEP.finditer(path):
            found = _step(inner, match)
            if found is None:
                break
            line, inner = found
        return line


def _step(inner: "dict[str, _Place] | list[_Place] | None", match: re.Match[str]) -> _Place | None:
    if match[2] is not None and isinstance(inner, list):
        number = int(match[2])
        return inner[number] if number < len(inner) else None
    if isinstance(inner, dict):
        key = json.loads(f'"{match[3]}"') if match[3] is not None else match[1]
        return inner.get(key)
    return None


def _places(text: str) -> Iterator[_Place]:
    events = _events(text)
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            first = next(events)
            place = _place(first, events, 0)
            if not (isinstance(first, yaml.ScalarEvent) and _plain(first.value) is None):
                yield place


def _place(event: Any, events: Iterator[Any], depth: int) -> _Place:
    line: int = event.start_mark.line + 1
    if isinstance(event, yaml.SequenceStartEvent):
        if depth >= _DEEPEST:
            raise _fault(event, _TOO_DEEP)
        items: list[_Place] = []
        for inner in events:
            if isinstance(inner, yaml.SequenceEndEvent):
                break
            items.append(_place(inner, events, depth + 1))
        return line, items
    if isinstance(event, yaml.MappingStartEvent):
        if depth >= _DEEPEST:
            raise _fault(event, _TOO_DEEP)
        fields: dict[str, _Place] = {}
        for key in events:
            if isinstance(key, yaml.MappingEndEvent):
                break
            _, inside = _place(next(events), events, depth + 1)
            fields[key.value] = (key.start_mark.line + 1, inside)
        return line, fields
    return line, None


Position = Callable[[str], Origin]
"""Finds where the field of a path was written; `Document.position` is one."""
