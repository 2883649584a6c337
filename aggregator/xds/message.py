"""Requests decoded and responses encoded, for both protocol variants; the transport carries plain
bytes.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from envoy.config.core.v3 import base_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import DecodeError
from msgspec import Struct

from aggregator.generators.spec import ENDPOINT, Resource, content_hash, frame, resource_of, varint
from aggregator.model.errors import StreamError
from aggregator.push.known import UNKNOWN_VERSION, Changes, Known, Response

RECENT_BYTES: Final = 16 * 1024 * 1024
NAME_SETS: Final = 256
_REQUEST_BYTES: Final = 1024


class Request(Struct, frozen=True, eq=False):
    """A request of either variant.

    On state of the world `names` is the whole subscription; on delta `names` are added and
    `unsubscribed` taken away.
    """

    type_url: str
    names: frozenset[str]
    nonce: str = ""
    error: str | None = None
    version: str = ""
    unsubscribed: frozenset[str] = frozenset()
    versions: Mapping[str, str] = {}
    node: base_pb2.Node | None = None


_Sign = tuple[int, bytes]
_SIGN_BYTES: Final = 128


def _sign_of(raw: bytes) -> _Sign:
    """What a request is found by before it is compared: its length and its end, with the nonce.

    Hashing thousands of names takes longer than all else that an acknowledgement costs.
    """
    return len(raw), raw[-_SIGN_BYTES:]


class RequestDecoder:
    """Decodes requests; equal bytes, which a whole class of proxies sends as its acknowledgements,
    are parsed once. Equal sets of names are the same object.
    """

    def __init__(self, *, delta: bool) -> None:
        self._delta: Final = delta
        self._recent: Final[OrderedDict[_Sign, tuple[bytes, Request]]] = OrderedDict()
        self._bytes = 0
        self._names: Final[dict[frozenset[str], frozenset[str]]] = {}

    def decode(self, raw: bytes) -> Request:
        """Raises StreamError for bytes that are no request."""
        known = self._recent.get(_sign_of(raw))
        if known is not None and known[0] == raw:
            return known[1]
        try:
            request = self._decode(raw)
        except DecodeError as error:
            message = f"not a discovery request: {error}"
            raise StreamError(message) from error
        if request.node is None:
            self._remember(raw, request)
        return request

    def _remember(self, raw: bytes, request: Request) -> None:
        sign = _sign_of(raw)
        replaced = self._recent.pop(sign, None)
        if replaced is not None:
            self._bytes -= _REQUEST_BYTES + len(replaced[0])
        self._recent[sign] = (raw, request)
        self._bytes += _REQUEST_BYTES + len(raw)
        while self._bytes > RECENT_BYTES:
            _, (oldest, _) = self._recent.popitem(last=False)
            self._bytes -= _REQUEST_BYTES + len(oldest)

    def _same(self, names: Iterable[str]) -> frozenset[str]:
        if len(self._names) >= NAME_SETS:
            self._names.clear()
        found = frozenset(names)
        return self._names.setdefault(found, found)

    def _decode(self, raw: bytes) -> Request:
        if self._delta:
            delta = discovery_pb2.DeltaDiscoveryRequest.FromString(raw)
            return Request(
                type_url=delta.type_url,
                names=self._same(delta.resource_names_subscribe),
                nonce=delta.response_nonce,
                error=delta.error_detail.message if delta.HasField("error_detail") else None,
                unsubscribed=frozenset(delta.resource_names_unsubscribe),
                versions=dict(delta.initial_resource_versions),
                node=delta.node if delta.HasField("node") else None,
            )
        message = discovery_pb2.DiscoveryRequest.FromString(raw)
        return Request(
            type_url=message.type_url,
            names=self._same(message.resource_names),
            nonce=message.response_nonce,
            error=message.error_detail.message if message.HasField("error_detail") else None,
            version=message.version_info,
            node=message.node if message.HasField("node") else None,
        )


def encode_response(
    type_url: str, before: Known, changes: Changes, *, delta: bool, full_state: bool
) -> Response:
    """The message that takes a client from *before* over *changes*; bytes depend on these alone."""
    after = before.apply(changes)
    if delta:
        version, payload = _encode_delta(type_url, changes, after.nonce)
    else:
        version, payload = _encode_sotw(type_url, changes, after, full_state=full_state)
    return Response(type_url, after.nonce, version, payload, changes, before, after)


def _encode_sotw(
    type_url: str, changes: Changes, after: Known, *, full_state: bool
) -> tuple[str, bytes]:
    if full_state:
        version = after.version
        sent: Iterable[Resource] = (each for _, each in sorted(after.resources.items()))
    else:
        sent = [each for _, each in changes if each is not None]
        version = content_hash(*(f"{each.name}={each.version};".encode() for each in sent))
    parts = [frame(1, version.encode())]
    parts += [each.any_field for each in sent]
    parts += [frame(4, type_url.encode()), frame(5, after.nonce.encode())]
    return version, b"".join(parts)


def _encode_delta(type_url: str, changes: Changes, nonce: str) -> tuple[str, bytes]:
    parts: list[bytes] = []
    removed: list[bytes] = []
    for name, resource in changes:
        if resource is None:
            removed.append(frame(6, name.encode()))
            continue
        head = frame(3, name.encode()) + frame(1, resource.version.encode())
        length = varint(len(head) + len(resource.any_field))
        parts += [b"\x12", length, head, resource.any_field]
    parts += [frame(4, type_url.encode()), frame(5, nonce.encode()), *removed]
    return nonce, b"".join(parts)


@lru_cache(maxsize=4096)
def empty_assignment(name: str) -> Resource:
    """What stands for an assignment that does not exist: left out, its cluster would never be
    warm.
    """
    return resource_of(ENDPOINT, name, endpoint_pb2.ClusterLoadAssignment(cluster_name=name))


def announced(name: str, version: str, clusters: frozenset[str]) -> Resource:
    """A resource of which only the version is known: the client said so when it reconnected. It
    may send to *clusters*.
    """
    return Resource(name, version, b"", 0, clusters)


@lru_cache(maxsize=16384)
def unknown(name: str, clusters: frozenset[str], last: Resource | None = None) -> Resource:
    """What a client may or may not have, because it rejected a response in part; it may send to
    *clusters*. The same object for all streams, so that these go on sharing their states.

    Where a response must hold all that the client is to keep, it has the bytes of the *last* that
    it took.
    """
    if last is None:
        return Resource(name, UNKNOWN_VERSION, b"", 0, clusters)
    return Resource(name, UNKNOWN_VERSION, last.any_field, last.body_start, clusters)
