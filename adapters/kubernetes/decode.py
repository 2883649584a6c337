"""JSON of the API server to what is kept of it; a broken object is told and harms nobody. Pure."""

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import Raw, Struct, structs

from aggregator.model.config import Config
from aggregator.model.errors import ConfigError, Origin, Problem, Severity
from aggregator.model.registry import Namespace
from aggregator.model.secret import Redacted, Secret
from aggregator.model.service import labels_of
from config.core.endpoint_slice import ADDRESS_TYPES, SERVICE_NAME, CoreEndpointSlice
from config.core.gateway import (
    NODE_SELECTOR,
    CoreNode,
    NodePlace,
    gateway_doubts,
    node_place_of,
)
from config.core.metadata import ObjectMeta, PartialObject
from config.core.pod import CorePod, Pod, pod_of
from config.core.service import (
    EXPORT_TO,
    TOPOLOGY_MODE,
    TRAFFIC_DISTRIBUTION,
    CoreService,
    service_doubts,
)
from config.decode import load_config
from config.documents import Document
from config.shape import decode_struct

S = TypeVar("S", bound=Struct)
T = TypeVar("T")

_PARTIAL: Final = msgspec.json.Decoder(PartialObject)


ANNOTATIONS: Final = frozenset({EXPORT_TO, TRAFFIC_DISTRIBUTION, TOPOLOGY_MODE, NODE_SELECTOR})
"""Those of a Service that are read."""


class Decoded(Struct, Generic[T], frozen=True):
    """One object, or what is wrong with it, or both."""

    namespace: str
    name: str
    object: T | None
    problems: tuple[Problem, ...] = ()


Decode = Callable[[Raw], Decoded[T]]


def decode_metadata(raw: Raw) -> ObjectMeta:
    """Whose object it is; empty if not even that can be read."""
    try:
        return _PARTIAL.decode(raw).metadata
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ObjectMeta()


def subject_of(kind: str, namespace: str, name: str) -> str:
    """How messages call an object."""
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"


def origin_of(registry: str, namespace: str, name: str) -> Origin:
    """Where an object was written."""
    return Origin("/".join(part for part in (registry, namespace, name) if part))


def _nothing(_decoded: Struct) -> str:
    return ""


class Decoder(Generic[S, T]):
    """Decodes objects of one kind into struct *of*, which *convert* turns into what is kept.

    The frequent case is one pass over the bytes; only what does not fit is looked at again, to say
    why, or because of null in place of an empty list. *warn* says what its author should know.
    """

    def __init__(
        self,
        registry: str,
        kind: str,
        of: type[S],
        convert: Callable[[S], T | None],
        warn: Callable[[S], str] = _nothing,
    ) -> None:
        self._registry: Final = registry
        self._kind: Final = kind
        self._of: Final = of
        self._convert: Final = convert
        self._warn: Final = warn
        self._decoder: Final[msgspec.json.Decoder[S]] = msgspec.json.Decoder(of)

    def __call__(self, raw: Raw) -> Decoded[T]:
        """One object."""
        try:
            decoded = self._decoder.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            metadata = decode_metadata(raw)
            try:
                decoded = self._decode_slowly(raw, metadata)
            except ConfigError as error:
                return Decoded(metadata.namespace, metadata.name, None, error.problems)
        metadata = getattr(decoded, "metadata")  # noqa: B009 — every kind of object has them.
        namespace, name = metadata.namespace, metadata.name
        problems: tuple[Problem, ...] = ()
        if message := self._warn(decoded):
            origin = origin_of(self._registry, namespace, name)
            subject = subject_of(self._kind, namespace, name)
            problems = (Problem(origin, "", message, Severity.WARNING, subject),)
        return Decoded(namespace, name, self._convert(decoded), problems)

    def _decode_slowly(self, raw: Raw, metadata: ObjectMeta) -> S:
        origin = origin_of(self._registry, metadata.namespace, metadata.name)
        subject = subject_of(self._kind, metadata.namespace, metadata.name)
        data = _plain(raw, origin, subject)
        return decode_struct(data, self._of, "", lambda _path: origin, subject)


# One decoder for each kind


def decode_namespaces(registry: str) -> Decode[Namespace]:
    """Namespaces, by their metadata."""

    def convert(decoded: PartialObject) -> Namespace:
        return Namespace(decoded.metadata.name, labels_of(decoded.metadata.labels))

    return Decoder(registry, "Namespace", PartialObject, convert)


def decode_nodes(registry: str) -> Decode[NodePlace]:
    """Nodes without addresses, by their metadata."""

    def convert(decoded: PartialObject) -> NodePlace:
        return NodePlace(labels_of(decoded.metadata.labels))

    return Decoder(registry, "Node", PartialObject, convert)


def decode_node_places(registry: str) -> Decode[NodePlace]:
    """Nodes with addresses."""
    return Decoder(registry, "Node", CoreNode, node_place_of)


def decode_pods(registry: str) -> Decode[Pod]:
    """Pods that have an address."""
    return Decoder(registry, "Pod", CorePod, pod_of)


def decode_slices(registry: str) -> Decode[CoreEndpointSlice]:
    """EndpointSlices of Services; others, which nobody sends to, are left out."""

    def convert(decoded: CoreEndpointSlice) -> CoreEndpointSlice | None:
        service = decoded.metadata.labels.get(SERVICE_NAME)
        if not service or decoded.address_type not in ADDRESS_TYPES:
            return None
        metadata = decoded.metadata
        kept = ObjectMeta(metadata.name, metadata.namespace, {SERVICE_NAME: service})
        return structs.replace(decoded, metadata=kept)

    def warn(decoded: CoreEndpointSlice) -> str:
        if decoded.address_type in ADDRESS_TYPES:
            return ""
        return f"left out: its addresses are {decoded.address_type}, not IPv4 or IPv6"

    return Decoder(registry, "EndpointSlice", CoreEndpointSlice, convert, warn)


def decode_services(registry: str) -> Decode[CoreService]:
    """Services, with the annotations that mean something."""

    def convert(decoded: CoreService) -> CoreService:
        metadata = decoded.metadata
        annotations = {
            name: value for name, value in metadata.annotations.items() if name in ANNOTATIONS
        }
        kept = structs.replace(metadata, annotations=annotations, resource_version="")
        return structs.replace(decoded, metadata=kept)

    def warn(decoded: CoreService) -> str:
        return "; ".join(filter(None, (service_doubts(decoded), gateway_doubts(decoded))))

    return Decoder(registry, "Service", CoreService, convert, warn)


def decode_secrets(registry: str) -> Decode[Secret]:
    """Secrets."""
    return Decoder(registry, "Secret", CoreSecret, secret_of(registry))


def decode_rules(registry: str, kind: str) -> Decode[Config]:
    """The rules of one kind, validated."""

    def decode(raw: Raw) -> Decoded[Config]:
        metadata = decode_metadata(raw)
        origin = origin_of(registry, metadata.namespace, metadata.name)
        subject = subject_of(kind, metadata.namespace, metadata.name)
        try:
            document = Document(_plain(raw, origin, subject), origin)
            loaded = load_config(document, default_namespace=metadata.namespace)
        except ConfigError as error:
            return Decoded(metadata.namespace, metadata.name, None, error.problems)
        except RecursionError:
            problem = Problem(origin, "", "is nested too deeply", Severity.ERROR, subject)
            return Decoded(metadata.namespace, metadata.name, None, (problem,))
        return Decoded(metadata.namespace, metadata.name, loaded.config, loaded.warnings)

    return decode


class CoreSecret(Struct, frozen=True):
    """A Secret; its data are in base64."""

    metadata: ObjectMeta
    data: Mapping[str, str] = {}


def secret_of(registry: str) -> Callable[[CoreSecret], Secret]:
    """Makes secrets of one registry, without values that are no base64."""

    def convert(decoded: CoreSecret) -> Secret:
        metadata = decoded.metadata
        return Secret(
            metadata.namespace,
            metadata.name,
            {key: Redacted(_base64(value)) for key, value in decoded.data.items()},
            metadata.created,
            origin_of(registry, metadata.namespace, metadata.name),
        )

    return convert


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _plain(raw: Raw, origin: Origin, subject: str) -> dict[str, Any]:
    try:
        data = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        message = f"cannot be read: {error}"
        raise ConfigError(Problem(origin, "", message, Severity.ERROR, subject)) from error
    if not isinstance(data, dict):
        message = "expected an object"
        raise ConfigError(Problem(origin, "", message, Severity.ERROR, subject))
    return data
