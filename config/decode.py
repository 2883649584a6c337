"""Documents of traffic rules to `Config` objects, and their validation.

What a kind's fields mean is the kind's own business, in `config.kinds`.
"""

from difflib import get_close_matches
from typing import Any

from msgspec import Struct, structs

from aggregator.model.config import Config
from aggregator.model.errors import ConfigError, Problem, Severity
from aggregator.model.service import labels_of
from config.core.metadata import ObjectMeta
from config.documents import Document, Position
from config.kind import KindSpec
from config.kind_table import kinds
from config.shape import decode_struct, encode_struct, suggest


class _Object(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The frame of every object; a status is somebody else's remark on it."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = ObjectMeta()
    spec: Any = None
    status: Any = None


class Loaded(Struct, frozen=True):
    """A usable rule and what its author should know about it."""

    config: Config
    warnings: tuple[Problem, ...] = ()


def is_rule(document: Document) -> bool:
    """Whether the document is meant to be of one of the known kinds, in any version.

    A slip of the pen in the kind's name is no other kind.
    """
    group = str(document.data.get("apiVersion", "")).partition("/")[0]
    names = [spec.kind for spec in kinds().values() if spec.group == group]
    return bool(get_close_matches(str(document.data.get("kind")), names, n=1, cutoff=0.8))


def decode_config(document: Document, *, default_namespace: str) -> Config:
    """Decode a rule without judging its values.

    Raises ConfigError with all unknown fields, wrong types and unknown names of enumerations, each
    at its line.
    """
    spec = _kind_of(document)
    subject = _subject(spec, document.data.get("metadata"), default_namespace)
    frame = decode_struct(document.data, _Object, "", document.position, subject)
    metadata = frame.metadata
    problems: list[Problem] = []
    if frame.api_version not in spec.api_versions:
        message = f"expected one of {', '.join(spec.api_versions)}, found {frame.api_version!r}"
        problems.append(_problem(document, "apiVersion", message, subject))
    if not metadata.name:
        problems.append(_problem(document, "metadata.name", "required", subject))
    if frame.spec is None:
        problems.append(_problem(document, "spec", "required", subject))
    if problems:
        raise ConfigError(tuple(problems))
    return Config(
        kind=spec.kind,
        namespace=metadata.namespace or default_namespace,
        name=metadata.name,
        spec=decode_struct(frame.spec, spec.spec, "spec", document.position, subject),
        labels=labels_of(metadata.labels),
        annotations=labels_of(metadata.annotations),
        created=metadata.created,
        origin=document.origin,
    )


def validate_config(config: Config, position: Position | None = None) -> list[Problem]:
    """Everything that is wrong with a rule, errors and warnings.

    With the document's *position* each problem has the line of its field, else the object's.
    """
    problems = list(kinds()[config.kind].validate(config))
    if position is None:
        return problems
    return [structs.replace(each, origin=position(each.path)) for each in problems]


def load_config(document: Document, *, default_namespace: str) -> Loaded:
    """Decode and validate a rule; raises ConfigError with every error found."""
    config = decode_config(document, default_namespace=default_namespace)
    problems = validate_config(config, document.position)
    errors = tuple(each for each in problems if each.severity is Severity.ERROR)
    if errors:
        raise ConfigError(errors)
    return Loaded(config, tuple(problems))


def encode_config(config: Config) -> dict[str, Any]:
    """The object in Kubernetes' form, as debug views and other servers show it."""
    spec = kinds()[config.kind]
    metadata: dict[str, Any] = {"name": config.name, "namespace": config.namespace}
    if config.labels:
        metadata["labels"] = dict(config.labels)
    if config.annotations:
        metadata["annotations"] = dict(config.annotations)
    return {
        "apiVersion": spec.api_versions[0],
        "kind": config.kind,
        "metadata": metadata,
        "spec": encode_struct(config.spec),
    }


def _kind_of(document: Document) -> KindSpec:
    kind = document.data.get("kind")
    known = kinds()
    if not isinstance(kind, str) or kind not in known:
        message = "required" if kind is None else f"unknown kind {kind!r}"
        ending = suggest(kind, tuple(known)) if isinstance(kind, str) else ""
        raise ConfigError(_problem(document, "kind", message + ending, ""))
    return known[kind]


def _subject(spec: KindSpec, metadata: object, default_namespace: str) -> str:
    found = metadata if isinstance(metadata, dict) else {}
    namespace, name = found.get("namespace") or default_namespace, found.get("name") or "?"
    return f"{spec.kind} {namespace}/{name}"


def _problem(document: Document, path: str, message: str, subject: str) -> Problem:
    return Problem(document.position(path), path, message, subject=subject)
