"""Consul's answers as it writes them, with the few fields that are needed. Pure.

What one entry has wrong is told of that entry alone; text that is no JSON at all is an error.
"""

from typing import Final, TypeVar

import msgspec
from msgspec import Raw, Struct, field

from aggregator.model.errors import AdapterUnavailableError

T = TypeVar("T")


class Place(Struct, frozen=True, rename="pascal"):
    """Consul's own locality."""

    region: str = ""
    zone: str = ""


class Node(Struct, frozen=True, rename="pascal"):
    """The machine that an instance is registered on."""

    name: str = field(name="Node", default="")
    address: str = ""
    datacenter: str = ""
    tagged_addresses: dict[str, str] | None = None
    meta: dict[str, str] | None = None
    locality: Place | None = None


class TaggedAddress(Struct, frozen=True, rename="pascal"):
    """Another address of an instance."""

    address: str = ""
    port: int = 0


class NamedPort(Struct, frozen=True, rename="pascal"):
    """One of several ports of an instance."""

    name: str = ""
    port: int = 0
    default: bool = False


class Weights(Struct, frozen=True, rename="pascal"):
    """Shares of the traffic by state."""

    passing: int = 1
    warning: int = 1


class Registered(Struct, frozen=True, rename="pascal"):
    """An instance as it was registered."""

    id: str = field(name="ID", default="")
    kind: str = ""
    tags: list[str] | None = None
    address: str = ""
    tagged_addresses: dict[str, TaggedAddress] | None = None
    meta: dict[str, str] | None = None
    port: int = 0
    ports: list[NamedPort] | None = None
    socket_path: str = ""
    weights: Weights | None = None
    locality: Place | None = None
    create_index: int = 0


class Check(Struct, frozen=True, rename="pascal"):
    """A check of an instance or its node; `index` moves whenever anything in it changes."""

    node: str = ""
    check_id: str = field(name="CheckID", default="")
    status: str = ""
    service: str = field(name="ServiceName", default="")
    index: int = field(name="ModifyIndex", default=0)


class Instance(Struct, frozen=True, rename="pascal"):
    """An entry of ``/v1/health/service/<name>``."""

    node: Node
    service: Registered
    checks: list[Check] | None = None


class Pair(Struct, frozen=True, rename="pascal"):
    """An entry of ``/v1/kv/<prefix>?recurse``; the value is in base64."""

    key: str
    value: str | None = None
    modify_index: int = 0


class Faulty(Struct, frozen=True):
    """An entry that cannot be read: its place in the answer, and why."""

    number: int
    reason: str


def read_answer(body: bytes, of: type[T]) -> T:
    """Decode a whole answer.

    Raises AdapterUnavailableError: half an answer is none.
    """
    try:
        return msgspec.json.decode(body, type=of)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"expected Consul's JSON: {error}"
        raise AdapterUnavailableError(message) from error


_INSTANCES: Final = msgspec.json.Decoder(list[Instance])
_INSTANCE: Final = msgspec.json.Decoder(Instance)


def read_instances(body: bytes) -> tuple[list[Instance], list[Faulty]]:
    """The instances of a service, and what is wrong with those that cannot be read.

    Raises AdapterUnavailableError if it is no list.
    """
    try:
        return _INSTANCES.decode(body), []
    except msgspec.ValidationError:
        found, faulty = [], []
        for number, raw in enumerate(read_answer(body, list[Raw])):
            try:
                found.append(_INSTANCE.decode(raw))
            except msgspec.ValidationError as error:
                faulty.append(Faulty(number, str(error)))
        return found, faulty
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"expected Consul's JSON: {error}"
        raise AdapterUnavailableError(message) from error
