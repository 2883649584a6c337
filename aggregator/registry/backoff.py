"""How long to wait before a registry is asked again: exponential with full jitter."""

from collections.abc import Callable

SHORTEST = 0.5


def wait_after(failures: int, longest: float, jitter: Callable[[], float]) -> float:
    """Seconds to wait after the n-th failure in a row, *jitter* being between 0 and 1.

    The bound doubles from 0.5 s up to *longest*. A tenth of it is always waited, so that an unlucky
    draw does not hammer a registry that is down.
    """
    bound = min(longest, SHORTEST * 2.0 ** min(failures - 1, 60))
    return bound * (0.1 + 0.9 * jitter())
