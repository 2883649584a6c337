"""Durations as Istio, Kubernetes and Go write them, decoded to seconds."""

import re
from typing import Final

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:h|ms|us|µs|ns|m|s)"
DURATION_PATTERN: Final = rf"(?:0|(?:{_PART})+)"
"""Matches what `parse_duration` reads, up to `LONGEST_TEXT` characters."""

LONGEST_TEXT: Final = 100
_WHOLE = re.compile(DURATION_PATTERN)
_PARTS = re.compile(r"(\d+\.?\d*|\.\d+)(h|ms|us|µs|ns|m|s)", re.ASCII)
_LONGEST = 315_576_000_000.0
"""Ten thousand years, the bound of protobuf's Duration."""


class Duration(float):
    """Seconds. A class of its own, so that decoding knows what to parse."""

    __slots__ = ()

    def __str__(self) -> str:
        """The form that `parse_duration` reads."""
        return f"{float(self):.9f}".rstrip("0").rstrip(".") + "s"


def parse_duration(text: str) -> Duration:
    """Read ``5s``, ``1.5s``, ``1h2m3s``, ``100ms``.

    Raises ValueError, saying what was expected, for anything else, for negative ones and for
    ones out of protobuf's range.
    """
    if text == "0":
        return Duration(0)
    if len(text) > LONGEST_TEXT or not _WHOLE.fullmatch(text):
        shown = text if len(text) <= 40 else text[:40] + "…"
        message = f"expected a duration such as 5s, 1.5s, 100ms or 1h30m, found {shown!r}"
        raise ValueError(message)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PARTS.findall(text))
    if seconds > _LONGEST:
        message = f"the duration {text!r} is out of range"
        raise ValueError(message)
    return Duration(seconds)
