"""Tells the service manager how we are, over the datagram socket that it names in NOTIFY_SOCKET.

Knows systemd's messages and nothing of the daemon. Without the variable every call does nothing.
"""

import socket
import time
from collections.abc import Mapping

import structlog

logger = structlog.get_logger(__name__)


class Notifier:
    """Sends readiness and watchdog messages; a manager that does not listen is no error of ours."""

    def __init__(self, environ: Mapping[str, str], *, process_id: int) -> None:
        self._path = environ.get("NOTIFY_SOCKET", "")
        self._failed = False
        self.watchdog_interval = _watchdog_interval(environ, process_id)

    def ready(self, status: str) -> None:
        """Start-up or a reload is complete."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it. The time is what Type=notify-reload asks for."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={microseconds}")

    def status(self, text: str) -> None:
        """One line that `systemctl status` shows."""
        self._send(f"STATUS={text}")

    def stopping(self) -> None:
        """The graceful stop begins."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """The event loop turns."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._path:
            return
        # A leading @ stands for the abstract namespace, whose names start with a zero byte.
        address = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        message = "\n".join(line.replace("\n", " ") for line in lines).encode()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.setblocking(False)
                channel.sendto(message, address)
        except OSError as error:
            if not self._failed:
                self._failed = True
                logger.warning("notify_failed", socket=self._path, error=str(error))
        else:
            self._failed = False


def _watchdog_interval(environ: Mapping[str, str], process_id: int) -> float | None:
    """Seconds between signs of life, half of what the manager allows; None if it asks for none."""
    if environ.get("WATCHDOG_PID", str(process_id)) != str(process_id):
        return None
    allowed = environ.get("WATCHDOG_USEC", "")
    return int(allowed) / 2_000_000 if allowed.isdecimal() and int(allowed) > 0 else None
