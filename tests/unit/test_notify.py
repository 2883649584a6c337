"""Messages to the service manager; tests/integration/daemon shows that a manager receives them."""

import pytest

from aggregator.notify import Notifier


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_interval_is_half_of_what_is_allowed_to_this_process(
    environ: dict[str, str], expected: float | None
) -> None:
    """A daemon that answers too rarely, or for another process, is killed by its manager."""
    assert Notifier(environ, process_id=7).watchdog_interval == expected
