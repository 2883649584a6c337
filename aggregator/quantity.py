"""Values of the settings that are written as text: sizes and listen addresses."""

import ipaddress
import re
from typing import Final

_UNITS: Final = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 10**3, "MB": 10**6}
_SIZE: Final = re.compile(rf"(\d{{1,15}}) ?({'|'.join(_UNITS)})", re.ASCII)

_WILDCARDS: Final = frozenset({str(ipaddress.IPv4Address(0)), str(ipaddress.IPv6Address(0))})


class Size(int):
    """A number of bytes. A class of its own, so that decoding knows what to parse."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "Size":
        """Read ``48MiB``, ``64 kB`` or ``1024B``; raises ValueError saying what was expected."""
        match = _SIZE.fullmatch(text)
        if match is None:
            message = f"expected a size such as 48MiB or 64KiB, found {text!r}"
            raise ValueError(message)
        return cls(int(match[1]) * _UNITS[match[2]])

    def __str__(self) -> str:
        """The form that `parse` reads, in the largest unit that divides it."""
        for unit in ("GiB", "MiB", "KiB"):
            if self and self % _UNITS[unit] == 0:
                return f"{self // _UNITS[unit]}{unit}"
        return f"{int(self)}B"


class Address(str):
    """``host:port`` to listen on; port 0 lets the system choose."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Check ``127.0.0.1:15010``, ``[::1]:15010`` or ``localhost:15010``.

        Raises ValueError saying what was expected.
        """
        host, _, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        usable = bool(host) and (":" not in host or bracketed) and not re.search(r"[\s/@]", host)
        if not usable or not (port.isascii() and port.isdecimal() and int(port) <= 0xFFFF):
            message = f"expected host:port such as 127.0.0.1:15010 or [::]:15010, found {text!r}"
            raise ValueError(message)
        return cls(text)

    @property
    def host(self) -> str:
        """Without the brackets of IPv6."""
        return self.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port's number."""
        return int(self.rpartition(":")[2])

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return is_loopback(self.host)

    @property
    def is_wildcard(self) -> bool:
        """Whether every address of this machine is meant."""
        return self.host in _WILDCARDS


def is_loopback(host: str) -> bool:
    """Whether *host*, as written or as a peer's address, is this machine alone."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
