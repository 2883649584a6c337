"""What is written to standard error, and in which form."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from aggregator.logs import Format, Level, configure


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Logging is the process's: put it back for the other tests."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """It does."""
        return True


def test_events_are_json_lines_where_nobody_reads_along() -> None:
    """A collector parses every line, bound values included."""
    stream = io.StringIO()
    configure(Level.INFO, Format.AUTO, stream)

    structlog.get_logger("x").bind(adapter="vms").warning("registry.failed", wait=1.5)

    event = json.loads(stream.getvalue())
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "message": "registry.failed",
        "level": "warning",
        "logger": "x",
        "adapter": "vms",
        "wait": 1.5,
    }


def test_events_are_for_people_on_a_terminal() -> None:
    """Whoever starts it by hand need not read JSON."""
    stream = Terminal()
    configure(Level.INFO, Format.AUTO, stream)

    structlog.get_logger("x").info("daemon_ready")

    assert "daemon_ready" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


@pytest.mark.parametrize(("form", "json_written"), [(Format.JSON, True), (Format.CONSOLE, False)])
def test_the_format_can_be_chosen(form: Format, json_written: bool) -> None:
    """`auto` is only the default."""
    stream = Terminal() if json_written else io.StringIO()
    configure(Level.INFO, form, stream)

    structlog.get_logger("x").info("event")

    assert stream.getvalue().startswith("{") is json_written


def test_libraries_log_in_the_same_form() -> None:
    """One format for all, tracebacks included, so that no line is lost to the collector."""
    stream = io.StringIO()
    configure(Level.INFO, Format.JSON, stream)

    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("library").exception("it %s", "failed")

    event = json.loads(stream.getvalue())
    assert event["message"] == "it failed"
    assert event["logger"] == "library"
    assert "ValueError: broken" in event["exception"]


def test_a_reload_changes_the_level_of_loggers_in_use() -> None:
    """Nobody restarts a control plane to see more of it."""
    stream = io.StringIO()
    configure(Level.WARNING, Format.JSON, stream)
    logger = structlog.get_logger("x")
    logger.info("before")

    configure(Level.DEBUG, Format.JSON, stream)
    logger.debug("after")

    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["after"]


def test_values_that_json_does_not_know_are_written_as_text() -> None:
    """A log line never fails for what is in it."""
    stream = io.StringIO()
    configure(Level.INFO, Format.JSON, stream)

    structlog.get_logger("x").info("event", value=object, path={1: 2})

    assert "object" in json.loads(stream.getvalue())["value"]


@pytest.mark.parametrize("form", list(Format))
def test_a_traceback_shows_no_values_of_variables(form: Format) -> None:
    """A crash where a kubeconfig is read must not print it; the lines of code say enough."""
    stream = Terminal()
    configure(Level.INFO, form, stream)

    def crash(credential: str) -> None:
        raise ValueError(len(credential))

    try:
        crash("".join(("hun", "ter2")))
    except ValueError as error:
        structlog.get_logger("x").error("registry_crashed", exc_info=error)

    assert "ValueError: 7" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()
