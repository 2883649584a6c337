"""What validation of every kind is made of: a report, and checks of names, numbers and patterns.

The limits are Istio's, so that what it takes is taken here too.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

import re2
from msgspec import structs

from aggregator.model.config import Config
from aggregator.model.errors import ConfigError, Origin, Problem, Severity
from aggregator.model.service import Protocol
from config.documents import Position, field_path

_LABEL: Final = r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?"
_DNS_LABEL: Final = re.compile(_LABEL)
_WILDCARD_LABEL: Final = re.compile(rf"\*|(?:\*-?)?{_LABEL}")
_NAME: Final = r"(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_KEY: Final = re.compile(rf"(?:({_LABEL}(?:\.{_LABEL})*)/)?({_NAME})")
_LABEL_VALUE: Final = re.compile(rf"(?:{_NAME})?")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~A-Za-z0-9]+")
_HEADER_VALUE: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_PROTOCOLS: Final = {each.value.lower(): each for each in Protocol}
_PATTERN_OPTIONS: Final = re2.Options()
_PATTERN_OPTIONS.log_errors = False
_LONGEST_PATTERN: Final = 1024
_LONGEST_SOCKET: Final = 107
"""Bytes of a socket's path; Linux keeps 108, the last of which is zero."""


class Report:
    """Collects what is wrong with one object; paths are those of its fields: ``spec.hosts[0]``."""

    def __init__(self, origin: Origin, subject: str = "") -> None:
        self._origin = origin
        self._subject = subject
        self.problems: list[Problem] = []

    @classmethod
    def of(cls, config: Config) -> "Report":
        """A report on one rule."""
        return cls(config.origin, str(config.key))

    def error(self, path: str, message: str) -> None:
        """The object cannot be used."""
        self._add(path, message, Severity.ERROR)

    def warn(self, path: str, message: str) -> None:
        """The object can be used, but something in it is not what its author thinks."""
        self._add(path, message, Severity.WARNING)

    def raise_errors(self, position: Position) -> None:
        """Raise ConfigError with every error, at the line where *position* finds its field."""
        errors = [each for each in self.problems if each.severity is Severity.ERROR]
        if errors:
            raise ConfigError(
                tuple(structs.replace(each, origin=position(each.path)) for each in errors)
            )

    def _add(self, path: str, message: str, severity: Severity) -> None:
        self.problems.append(Problem(self._origin, path, message, severity, self._subject))


# Names


def is_dns_label(text: str) -> bool:
    """Whether *text* is one label of a host name (RFC 1123)."""
    return len(text) <= 63 and _DNS_LABEL.fullmatch(text) is not None


@lru_cache(maxsize=16384)
def is_ip(text: str) -> bool:
    """Whether *text* is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def check_ip(report: Report, path: str, text: str) -> None:
    """Demand an IP address."""
    if not is_ip(text):
        report.error(path, f"expected an IP address, found {text!r}")


def check_subnet(report: Report, path: str, text: str) -> None:
    """Demand an IP address or a CIDR range; bits beyond the prefix may be set."""
    address, slash, length = text.partition("/")
    if not slash:
        check_ip(report, path, text)
        return
    bits = (128 if ":" in address else 32) if is_ip(address) and "%" not in address else -1
    if not length.isdecimal() or not int(length[:4]) <= bits:
        report.error(path, f"expected an IP address or range such as 10.0.0.0/8, found {text!r}")


def host_fault(text: str, *, wildcard: bool = False) -> str:
    """Why *text* is no host name, or "".

    With *wildcard* the first label may be or begin with ``*``.
    """
    if not text:
        return "expected a host name, found nothing"
    if len(text) > 255:
        return "a host name has at most 255 characters"
    labels = text.split(".")
    if wildcard:
        first = labels.pop(0)
        if len(first) > 63 or not _WILDCARD_LABEL.fullmatch(first):
            return f"{text!r} is no host name: the part {first!r} is not allowed"
        if not labels:
            return ""
    if labels[-1].isdecimal():
        return f"{text!r} is no host name: its last part is a number"
    if labels[-1] == "":
        labels.pop()  # A name may end in a dot, which keeps resolvers from completing it.
    for label in labels:
        if not is_dns_label(label):
            return f"{text!r} is no host name: the part {label!r} is not allowed"
    return ""


def check_host(report: Report, path: str, text: str, *, wildcard: bool = False) -> bool:
    """Demand a host name; says whether it is one."""
    fault = host_fault(text, wildcard=wildcard)
    if fault:
        report.error(path, fault)
    return not fault


def is_partial_wildcard(host: str) -> bool:
    """Whether a wildcard is followed by something else than a dot, as in ``*foo.com``."""
    return "*" in host and host != "*" and not host.startswith("*.")


def check_unix_address(report: Report, path: str, address: str) -> None:
    """Demand a socket's path (after ``unix://``), or an abstract name that begins with ``@``."""
    if not address.startswith("@") and (not address.startswith("/") or address.endswith("/")):
        report.error(path, f"expected an absolute path to a socket, found {address!r}")
    if len(address.encode()) > _LONGEST_SOCKET:
        report.error(path, f"the path of a socket has at most {_LONGEST_SOCKET} bytes")


def check_namespaced_host(
    report: Report, path: str, text: str, *, namespaces: tuple[str, ...], ip: bool
) -> None:
    """Demand ``namespace/host`` as in Gateway and Sidecar; *namespaces* are the signs for one."""
    namespace, slash, host = text.partition("/")
    if not slash and not ip:
        report.error(path, f"expected namespace/host, found {text!r}")
        return
    if slash:
        if not namespace or not host:
            report.error(path, f"expected namespace/host, found {text!r}")
        if namespace and namespace not in namespaces and not is_dns_label(namespace):
            report.error(path, f"expected a namespace before the slash, found {namespace!r}")
    else:
        host = text
    if host != "*" and "." not in host:
        report.error(path, f"expected a host name with a dot, found {host!r}")
    fault = host_fault(host, wildcard=True)
    if fault and not (ip and is_ip(host)):
        report.error(path, fault)
    if is_partial_wildcard(host):
        report.error(path, f"expected '*' to be a whole part of the name, found {host!r}")


def is_label_key(key: str) -> bool:
    """Whether Kubernetes takes *key* as the name of a label."""
    match = _LABEL_KEY.fullmatch(key) if len(key) <= 317 else None
    return match is not None and len(match[2]) <= 63 and len(match[1] or "") <= 253


def is_label(key: str, value: str) -> bool:
    """Whether Kubernetes takes this as a label."""
    return is_label_key(key) and len(value) <= 63 and _LABEL_VALUE.fullmatch(value) is not None


def check_labels(report: Report, path: str, labels: Mapping[str, str]) -> None:
    """Demand keys and values that Kubernetes takes as labels; as in Istio, values may be long."""
    for key, value in labels.items():
        if not is_label_key(key):
            report.error(field_path(path, key), f"{key!r} cannot be the name of a label")
        if not _LABEL_VALUE.fullmatch(value):
            report.error(field_path(path, key), f"{value!r} cannot be the value of a label")


def check_workload_labels(
    report: Report, path: str, labels: Mapping[str, str], *, whom: str = "proxies"
) -> None:
    """A selector's labels: no wildcards, no empty key; none at all selects everything."""
    for key, value in labels.items():
        if not key:
            report.error(path, "a selector cannot have an empty key")
        if "*" in key or "*" in value:
            report.error(field_path(path, key), "a selector cannot have wildcards")
    if not labels:
        report.warn(path, f"a selector without labels selects all {whom} of the namespace")


def check_export_to(
    report: Report, path: str, values: tuple[str, ...], namespace: str, *, none: bool = False
) -> None:
    """Namespaces, ``.`` or ``*`` (and ``~``, where *none* allows it), each once, ``*`` alone."""
    seen: set[str] = set()
    for index, value in enumerate(values):
        meant = namespace if value == "." else value
        if meant in seen:
            report.error(f"{path}[{index}]", f"{value!r} is there already")
        if meant != "*" and not (none and value == "~") and not is_dns_label(meant):
            report.error(f"{path}[{index}]", f"expected a namespace, '.' or '*', found {value!r}")
        seen.add(meant)
    if "*" in seen and len(values) > 1:
        report.error(path, "'*' exports to everyone and must stand alone")
    if "~" in seen and len(values) > 1:
        report.error(path, "'~' exports to no one and must stand alone")


# Numbers


def check_port(report: Report, path: str, number: int) -> bool:
    """Demand 1 to 65535; says whether it is."""
    if 1 <= number <= 65535:
        return True
    report.error(path, f"expected a port from 1 to 65535, found {number}")
    return False


def check_locality(report: Report, path: str, text: str) -> None:
    """Demand ``region/zone/subzone`` or the first parts of it; nothing is a place too."""
    parts = text.split("/")
    if text and (not parts[0] or len(parts) > 3):
        report.error(path, f"expected region/zone/subzone, found {text!r}")


def check_port_name(report: Report, path: str, name: str) -> None:
    """Demand a name for a port."""
    if not is_dns_label(name):
        report.error(path, f"expected a port's name such as http-web, found {name!r}")


def protocol_of(text: str) -> Protocol | None:
    """The protocol of that name in Istio's spelling, in any case."""
    return _PROTOCOLS.get(text.lower())


def check_protocol(report: Report, path: str, text: str) -> None:
    """Demand a known protocol, or none, which leaves it to be found out."""
    if text and protocol_of(text) is None:
        known = ", ".join(Protocol)
        report.error(path, f"expected one of {known}, found {text!r}")


def check_duration(report: Report, path: str, seconds: float | None) -> None:
    """Demand at least a millisecond, in whole milliseconds, where a duration is given."""
    if seconds is None:
        return
    milliseconds = seconds * 1000
    if milliseconds < 1:
        report.error(path, "expected at least 1ms")
    elif abs(milliseconds - round(milliseconds)) > 1e-6:
        report.error(path, "expected whole milliseconds")


def check_non_negative(report: Report, path: str, number: int) -> None:
    """Demand zero or more."""
    if number < 0:
        report.error(path, f"expected 0 or more, found {number}")


def check_percent(report: Report, path: str, number: float) -> None:
    """Demand 0 to 100."""
    if not 0 <= number <= 100:
        report.error(path, f"expected 0 to 100, found {number}")


# Patterns and headers


@lru_cache(maxsize=1024)
def pattern_fault(text: str) -> str:
    """Why Envoy would refuse the regular expression, or ""."""
    if not text:
        return "expected a regular expression, found nothing"
    if len(text.encode()) > _LONGEST_PATTERN:
        return f"a regular expression has at most {_LONGEST_PATTERN} bytes"
    try:
        re2.compile(text, _PATTERN_OPTIONS)
    except re2.error as error:
        reason = error.args[0]
        return f"not a regular expression in RE2's syntax: {_text(reason)}"
    return ""


def _text(reason: object) -> str:
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)


def check_pattern(report: Report, path: str, text: str) -> None:
    """Demand a regular expression that Envoy takes."""
    if fault := pattern_fault(text):
        report.error(path, fault)


def is_header_name(name: str) -> bool:
    """Whether *name* may name a header (RFC 9110's token)."""
    return _HEADER_NAME.fullmatch(name) is not None


def check_header_value(report: Report, path: str, value: str) -> None:
    """Demand what Envoy takes as a header's value, with its ``%VARIABLE%`` expressions."""
    if not _HEADER_VALUE.fullmatch(value):
        report.error(path, "expected a header's value without control characters")
    elif not _complete_variables(value):
        report.error(path, f"expected %VARIABLE% or %% (for one %), found {value!r}")


# %HOSTNAME%, %REQ(name)%, %REQ(name):10%; possessive, so that no text takes long to refuse.
_VARIABLES: Final = re.compile(
    r"""(?:[^%]|%%|%[^%(]++%|%[^%(]*+\((?:[^)\\]|\\.)*+\)[^%()]*+%)*+""", re.DOTALL
)


@lru_cache(maxsize=1024)
def _complete_variables(value: str) -> bool:
    return "%" not in value or _VARIABLES.fullmatch(value) is not None


def duplicates(values: Iterable[str]) -> Iterable[tuple[int, str]]:
    """Index and value of each that was there before."""
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            yield index, value
        seen.add(value)
