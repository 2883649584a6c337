"""The base of every struct that mirrors a message of Istio's API, and its integer types.

Attribute names are the API's own in snake case; outside they are written in camel case. An absent
message is None, an absent list empty, an absent string "", and a scalar whose absence differs from
zero None.
"""

from typing import Annotated, ClassVar

from msgspec import Meta, Struct

Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
UInt32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]


class UInt64(int):
    """0 to 2**64 - 1; a class of its own because protobuf's JSON writes such numbers as text."""

    __slots__ = ()


class Rule(Struct, frozen=True):
    """What a Kubernetes API server checks of a message: a CEL expression, and what it demands."""

    cel: str
    message: str


class Message(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """A message of the API; subclasses repeat ``frozen=True`` for the type checker.

    The class variables tell a Kubernetes API server what it can refuse at once, in the API's names;
    validation refuses all of it too. `ONE_OF` are fields of which at most one may be there, `NEEDS`
    those without which no such message is valid.
    """

    ONE_OF: ClassVar[tuple[tuple[str, ...], ...]] = ()
    NEEDS: ClassVar[tuple[str, ...]] = ()
    RULES: ClassVar[tuple[Rule, ...]] = ()
