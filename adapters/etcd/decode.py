"""One key of etcd and its value to what is told of it. Pure."""

from hashlib import blake2b

from msgspec import Struct

from aggregator.model.errors import ConfigError, Origin, Problem
from aggregator.model.registry import Content, Item, RegistryContext
from config.keyed import Section, decode_entry


class Read(Struct, frozen=True):
    """What a key held. Without an item it is bad, and `problems` say why."""

    scope: str
    digest: bytes
    lease: int = 0
    name: str = ""
    item: Item | None = None
    problems: tuple[Problem, ...] = ()


def scope_of(key: bytes, prefix: bytes) -> str:
    """The scope of a key: the key itself, below the prefix.

    What ends in a slash would stand for all keys below it; no good key does.
    """
    scope = key[len(prefix) :].decode("utf-8", "backslashreplace")
    return f"{scope}%" if scope.endswith("/") else scope


def content_of(scope: str) -> Content:
    """What kind of content the scope's key holds."""
    return Content.RULES if scope.startswith(Section.RULES.folder) else Content.SERVICES


def digest_of(value: bytes, lease: int) -> bytes:
    """Differs whenever value or lease do."""
    return blake2b(value, digest_size=16, salt=lease.to_bytes(8, "big", signed=True)).digest()


def read_key(key: bytes, value: bytes, lease: int, prefix: bytes, context: RegistryContext) -> Read:
    """Decode one key; whatever is wrong with it is in the outcome."""
    scope, digest = scope_of(key, prefix), digest_of(value, lease)
    source = f"{context.name}:{key.decode('utf-8', 'backslashreplace')}"
    try:
        name = key[len(prefix) :].decode()
    except UnicodeDecodeError:
        problem = Problem(Origin(source), "", "expected a key in UTF-8")
        return Read(scope, digest, lease, problems=(problem,))
    try:
        decoded = decode_entry(name, value, context, source)
    except ConfigError as error:
        return Read(scope, digest, lease, problems=error.problems)
    return Read(scope, digest, lease, decoded.name, decoded.item, decoded.warnings)
