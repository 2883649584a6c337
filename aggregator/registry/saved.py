"""What a registry said, as bytes that outlive the process, and back. Pure.

A line with the format's number, a line with a checksum of the rest, then length-prefixed compressed
frames: a head, then chunks of items of one class of one shard. Credentials have no place in it:
shards of secrets are left out, and announced registries are remembered without theirs.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr

from aggregator.model.config import Config
from aggregator.model.errors import ConfigError, MeshError, Origin
from aggregator.model.registry import (
    AnnouncedRegistry,
    Content,
    Item,
    Namespace,
    NetworkGateway,
    ServiceItem,
    ShardKey,
)
from aggregator.model.service import Endpoint, Labels, Workload
from config.kind_table import kinds
from config.shape import decode_struct, encode_struct

FORMAT: Final = 1
KEPT: Final = frozenset(
    {Content.SERVICES, Content.WORKLOADS, Content.RULES, Content.PLACES, Content.REGISTRIES}
)
"""The kinds of content that may be written to disk; whatever is new has to be added on purpose."""

Shards = Mapping[ShardKey, Mapping[str, Item]]
_MAGIC: Final = b"mesh-aggregator state "
_AT_ONCE: Final = 100
"""Items in a frame: encoding them takes a millisecond or two, in which no other thread runs."""

_LARGEST: Final = 64 * 2**20
_LENGTH: Final = struct.Struct(">I")


class StateError(MeshError):
    """Saved state that cannot be used, with the reason."""


class Head(Struct, frozen=True):
    """Whose state it is."""

    registry: str
    type: str
    revision: str = ""


class SavedState(Struct, frozen=True):
    """The last good state of a registry."""

    head: Head
    shards: Shards


class _Rule(Struct, frozen=True):
    """A traffic rule whose spec is plain data, since its struct depends on its kind."""

    kind: str
    namespace: str
    name: str
    spec: Any
    labels: Labels = ()
    annotations: Labels = ()
    created: float = 0.0
    origin: Origin = Origin()


class _Found(Struct, frozen=True):
    """A registry that was announced, without its credential."""

    name: str
    type: str
    settings: Mapping[str, Any]
    base_dir: str = ""
    created: float = 0.0
    origin: Origin = Origin()


class _Chunk(Struct, frozen=True):
    """Items of one class of one shard; none for a shard that was listed empty."""

    scope: str
    content: Content
    of: str
    items: msgspec.Raw


_CLASSES: Final[Mapping[str, type[Struct]]] = {
    each.__name__: each
    for each in (ServiceItem, Workload, Namespace, NetworkGateway, _Rule, _Found)
}
_DECODERS: Final = {
    name: msgspec.msgpack.Decoder(dict[str, of])  # type: ignore[valid-type]
    for name, of in _CLASSES.items()
}
_CHUNKS: Final = msgspec.msgpack.Decoder(list[_Chunk])
_encode: Final = msgspec.msgpack.Encoder().encode


def encode_state(head: Head, shards: Shards) -> Iterator[bytes]:
    """The body in frames, so that others may run in between; `seal` goes before it."""
    yield _framed(_encode(head))
    frame: list[_Chunk] = []
    count = 0
    for shard in sorted(shards):
        if shard.content not in KEPT:
            continue
        items = list(shards[shard].items())
        for start in range(0, len(items) or 1, _AT_ONCE):
            part = items[start : start + _AT_ONCE]
            for name, group in _by_class(part).items():
                frame.append(_Chunk(shard.scope, shard.content, name, msgspec.Raw(_encode(group))))
            count += len(part)
            if count >= _AT_ONCE:
                yield _framed(_encode(frame))
                frame, count = [], 0
    if frame:
        yield _framed(_encode(frame))


def seal(body: Iterable[bytes]) -> bytes:
    """The two lines that go before a body."""
    digest = blake2b(digest_size=32)
    for chunk in body:
        digest.update(chunk)
    return _MAGIC + str(FORMAT).encode() + b"\n" + digest.hexdigest().encode() + b"\n"


def decode_state(data: bytes) -> SavedState:
    """Read what `seal` and `encode_state` wrote; raises StateError if it is not whole, or of
    another format.
    """
    magic, _, rest = data.partition(b"\n")
    checksum, _, body = rest.partition(b"\n")
    if not magic.startswith(_MAGIC):
        message = "it is no saved state"
        raise StateError(message)
    if magic != _MAGIC + str(FORMAT).encode():
        message = (
            f"its format is {magic[len(_MAGIC) :][:10].decode(errors='replace')}, not {FORMAT}"
        )
        raise StateError(message)
    if seal([body]).split(b"\n")[1] != checksum:
        message = "it is damaged: its checksum is another one"
        raise StateError(message)
    try:
        return _decode_body(body)
    except (msgspec.MsgspecError, zlib.error, struct.error, ConfigError, KeyError) as error:
        message = f"it cannot be read by this version: {error}"
        raise StateError(message) from error


def _decode_body(body: bytes) -> SavedState:
    frames = _frames(body)
    head = msgspec.msgpack.decode(next(frames, b""), type=Head)
    shards: dict[ShardKey, dict[str, Item]] = {}
    shared: dict[Labels, Labels] = {}
    for frame in frames:
        for chunk in _CHUNKS.decode(frame):
            shard = shards.setdefault(ShardKey(head.registry, chunk.scope, chunk.content), {})
            for key, item in _DECODERS[chunk.of].decode(chunk.items).items():
                shard[key] = _restored(item, shared)
    return SavedState(head, shards)


def _restored(item: Any, shared: dict[Labels, Labels]) -> Item:
    match item:
        case _Rule():
            spec = decode_struct(item.spec, kinds()[item.kind].spec, "spec", lambda _: item.origin)
            return Config(
                item.kind,
                item.namespace,
                item.name,
                spec,
                item.labels,
                item.annotations,
                item.created,
                item.origin,
            )
        case _Found():
            return AnnouncedRegistry(
                item.name,
                item.type,
                item.settings,
                base_dir=item.base_dir,
                created=item.created,
                origin=item.origin,
                remembered=True,
            )
        case ServiceItem():
            _share(item.endpoints, shared)
        case Workload():
            _share((item.endpoint,), shared)
        case _:
            pass
    restored: Item = item
    return restored


def _share(endpoints: Iterable[Endpoint], shared: dict[Labels, Labels]) -> None:
    """Let equal labels be one object, as they are where they are decoded from a registry."""
    for endpoint in endpoints:
        force_setattr(endpoint, "labels", shared.setdefault(endpoint.labels, endpoint.labels))


def _by_class(items: Iterable[tuple[str, Item]]) -> dict[str, dict[str, object]]:
    """Items by the name of their class; one empty group if there are none."""
    groups: dict[str, dict[str, object]] = {}
    for key, item in items:
        if isinstance(item, Config):
            groups.setdefault(_Rule.__name__, {})[key] = _Rule(
                item.kind,
                item.namespace,
                item.name,
                encode_struct(item.spec),
                item.labels,
                item.annotations,
                item.created,
                item.origin,
            )
        elif isinstance(item, AnnouncedRegistry):
            groups.setdefault(_Found.__name__, {})[key] = _Found(
                item.name, item.type, item.settings, item.base_dir, item.created, item.origin
            )
        elif type(item).__name__ in _CLASSES:
            groups.setdefault(type(item).__name__, {})[key] = item
    return groups or {ServiceItem.__name__: {}}


def _framed(content: bytes) -> bytes:
    packed = zlib.compress(content, 1)
    return _LENGTH.pack(len(packed)) + packed


def _frames(body: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(body):
        (length,) = _LENGTH.unpack_from(body, position)
        position += _LENGTH.size
        unpacker = zlib.decompressobj()
        yield unpacker.decompress(body[position : position + length], _LARGEST)
        position += length
