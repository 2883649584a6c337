"""Ports for servers that cannot be told to pick one themselves."""

import random
import socket
from typing import Final

LOWEST: Final = 20_000
# The system gives out ports above to clients, which would take one away now and then.
HIGHEST: Final = 32_000


class Ports:
    """Reserves ports of 127.0.0.1 until closed.

    Each one stays bound without listening, so that neither another run of the tests nor a client
    gets it. Servers that set SO_REUSEPORT, as Envoy does, can listen on it meanwhile; for others
    use `free_port`.
    """

    def __init__(self) -> None:
        self._held: Final[list[socket.socket]] = []

    def reserve(self) -> int:
        """A port that nobody else uses."""
        held = _bind_any()
        # Only now: whoever has bound the port with this option must not be joined.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._held.append(held)
        return int(held.getsockname()[1])

    def close(self) -> None:
        """Give all of them back."""
        for held in self._held:
            held.close()
        self._held.clear()


def free_port() -> int:
    """A port that nobody used a moment ago."""
    with _bind_any() as probe:
        return int(probe.getsockname()[1])


def _bind_any() -> socket.socket:
    for _ in range(100):
        probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            probe.bind(("127.0.0.1", random.randrange(LOWEST, HIGHEST)))
        except OSError:
            probe.close()
        else:
            return probe
    message = f"no free port between {LOWEST} and {HIGHEST}"
    raise RuntimeError(message)
