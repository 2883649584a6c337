"""Sets up logging: structlog's events and those of libraries in one format, on standard error.

Called once, by the command that runs a daemon; modules just take `structlog.get_logger`.
"""

import logging
import sys
from enum import StrEnum
from typing import TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor


class Level(StrEnum):
    """The least important events that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Format(StrEnum):
    """How events are written; `AUTO` is for people on a terminal and JSON elsewhere."""

    AUTO = "auto"
    JSON = "json"
    CONSOLE = "console"


def configure(level: Level, form: Format, stream: TextIO | None = None) -> None:
    """Install the processors; a later call (a reload) changes level and format of every logger."""
    stream = stream or sys.stderr
    console = form is Format.CONSOLE or (form is Format.AUTO and stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *(_console(stream) if console else _json()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.value.upper())
    # It tells every change of every watched file at this level.
    logging.getLogger("watchfiles").setLevel(max(logging.WARNING, root.level))


def silence() -> None:
    """Write no events: for commands whose output is their result."""
    structlog.configure(processors=[_drop])


def _drop(_logger: object, _method: str, _event: EventDict) -> EventDict:
    raise structlog.DropEvent


def _console(stream: TextIO) -> list[Processor]:
    # Plain, because the others show the values of variables, credentials among them.
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=plain)]


def _json() -> list[Processor]:
    return [
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("message"),
        structlog.processors.JSONRenderer(serializer=_encode),
    ]


def _encode(event: object, **_: object) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()
