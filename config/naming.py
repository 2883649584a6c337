"""Host names for services of registries that have none, by the registry's template. Pure.

Two names of one registry that would get the same host are never silently one: the older keeps it.
"""

import re
from collections.abc import Iterable, Mapping
from string import Formatter
from typing import Final

from msgspec import Struct

from config.check import host_fault

_ILLEGAL: Final = re.compile(r"[^a-z0-9-]+")
_LONGEST_LABEL: Final = 63


class NamedService(Struct, frozen=True, order=True):
    """A source's name with the host that its template gives; `created` is 0 where it is unknown."""

    name: str
    host: str
    created: float = 0.0


class Clash(Struct, frozen=True, order=True):
    """A name that gets no host, since another one has it."""

    name: str
    host: str
    holder: str

    def __str__(self) -> str:
        """Why the service is left out."""
        return f"{self.name!r} would be {self.host!r}, which {self.holder!r} is already"


def template_fault(template: str, parts: Iterable[str]) -> str:
    """Why *template* cannot make host names out of *parts*, or "". One of them is in every name."""
    known = tuple(parts)
    try:
        fields = [name for _, name, _, _ in Formatter().parse(template.lower()) if name is not None]
    except ValueError as error:
        return f"expected a template such as '{{service}}.mesh': {error}"
    for name in fields:
        if name not in known:
            listed = ", ".join(f"{{{each}}}" for each in known)
            return f"unknown placeholder {{{name}}}; known: {listed}"
    if not fields:
        return f"names no placeholder, so that all services would be one; known: {{{known[0]}}}"
    return host_fault(template.lower().format(**dict.fromkeys(known, "x")))


def host_of_template(template: str, **parts: str) -> str:
    """Fill in *template*, in lower case, with what no host name may have replaced by dashes.

    Parts may have dots. A part that is empty goes with the dot after it. Raises ValueError, saying
    why, if the result is no host name, or if nothing of a part can be in one.
    """
    cleaned = {name: clean_part(value) for name, value in parts.items()}
    for name, value in parts.items():
        if value and not cleaned[name]:
            message = f"nothing of the {name} {value[:_LONGEST_LABEL]!r} can be in a host name"
            raise ValueError(message)
    host = re.sub(r"\.{2,}", ".", template.lower().format(**cleaned)).strip(".")
    if fault := host_fault(host):
        raise ValueError(fault)
    return host


def clean_part(text: str) -> str:
    """Lower case, each run of other characters a dash; no label begins or ends with one."""
    labels = (_ILLEGAL.sub("-", label).strip("-") for label in text.lower().split("."))
    # One character too many is kept, so that what is too long is refused, in a short message.
    return ".".join(label[: _LONGEST_LABEL + 1] for label in labels if label)


def assign_hosts(
    services: Iterable[NamedService],
) -> tuple[Mapping[str, str], tuple[Clash, ...]]:
    """Hosts by source name, each once, and who was left without.

    The oldest keeps a host; among equals, or where ages are unknown, the first by name, so that the
    outcome depends on content alone.
    """
    holders: dict[str, str] = {}
    clashes: list[Clash] = []
    for each in sorted(services, key=lambda one: (one.created or float("inf"), one.name)):
        holder = holders.setdefault(each.host, each.name)
        if holder != each.name:
            clashes.append(Clash(each.name, each.host, holder))
    return {name: host for host, name in holders.items()}, tuple(sorted(clashes))
