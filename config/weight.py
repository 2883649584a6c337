"""Endpoints' weights out of what registries call a weight. Pure."""

import math
from typing import Final

LARGEST: Final = 1_000_000


def resolve_weight(*told: float | str | None, default: int = 1) -> int:
    """The first weight that is told, as a whole number; 0 means drained.

    Halves are rounded up, and nothing above zero becomes zero. What is no number, negative or not
    finite does not count as told.
    """
    for each in told:
        number = _number(each)
        if number is not None:
            return min(LARGEST, max(1, math.floor(number + 0.5))) if number > 0 else 0
    return default


def _number(told: float | str | None) -> float | None:
    if told is None:
        return None
    try:
        number = float(told)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
