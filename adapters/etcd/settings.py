"""The settings of an etcd registry, as people write them."""

import re
from collections.abc import Iterator
from typing import Annotated, Final

from msgspec import Meta, Struct

from config.duration import Duration

_SHORTEST_TIMEOUT: Final = Duration(0.05)
_MEMBER: Final = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


class Member(str):
    """``host:port`` of one etcd."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "Member":
        """Check it; raises ValueError saying what was expected."""
        match = _MEMBER.fullmatch(text)
        if match is None or not 0 < int(match[2]) <= 0xFFFF:
            hint = "; `tls` says whether TLS is spoken" if "://" in text else ""
            message = f"expected host:port such as 127.0.0.1:2379, found {text[:80]!r}{hint}"
            raise ValueError(message)
        return cls(text)


class Prefix(str):
    """What all keys of the mesh begin with; ends in a slash."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "Prefix":
        """Check it; raises ValueError saying what was expected."""
        if not text.endswith("/") or text.endswith("//") or not text.isprintable():
            message = f"expected a prefix that ends in a slash such as /mesh/, found {text[:80]!r}"
            raise ValueError(message)
        return cls(text)


class EtcdTls(Struct, frozen=True, forbid_unknown_fields=True):
    """Files in PEM, read for each connection."""

    ca: Annotated[
        str, Meta(description="Authorities for the servers' certificates; the system's if empty.")
    ] = ""
    cert: Annotated[str, Meta(description="Our certificate, with its chain.")] = ""
    key: Annotated[str, Meta(description="The key of our certificate.")] = ""
    server_name: Annotated[
        str, Meta(description="The name in the servers' certificates, where it is not the host.")
    ] = ""


class EtcdSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """What a registry of type etcd takes beside the keys of every registry."""

    endpoints: Annotated[
        tuple[Member, ...],
        Meta(
            min_length=1,
            description="Members of one etcd cluster, `host:port`; the first that answers is read.",
        ),
    ]
    prefix: Annotated[Prefix, Meta(description="What the mesh's keys begin with.")] = Prefix(
        "/mesh/"
    )
    user: Annotated[str, Meta(description="Whom to log in as, where etcd has users.")] = ""
    password_file: Annotated[
        str, Meta(description="File with the user's password, read at each login.")
    ] = ""
    tls: Annotated[
        EtcdTls | None, Meta(description="Files for TLS, which an empty section asks for.")
    ] = None
    timeout: Annotated[
        Duration,
        Meta(description="After this long without an answer a server is given up for another."),
    ] = Duration(5)


def validate(settings: EtcdSettings) -> Iterator[tuple[str, str]]:
    """What does not go together, by field."""
    if settings.password_file and not settings.user:
        yield "password_file", "there is no `user` whose password this is"
    if len(set(settings.endpoints)) < len(settings.endpoints):
        yield "endpoints", "the same endpoint is written twice"
    if settings.timeout < _SHORTEST_TIMEOUT:
        yield "timeout", f"expected at least {_SHORTEST_TIMEOUT}"
    tls = settings.tls
    if tls is not None and bool(tls.cert) != bool(tls.key):
        missing = "key" if tls.cert else "cert"
        yield f"tls.{missing}", "`cert` and `key` go together"
