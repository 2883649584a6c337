"""What a debug view declares of itself; the HTTP server finds views in `aggregator.debug.views`."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Final

from msgspec import Struct

from aggregator.debug.form import camel_form
from aggregator.debug.sources import Sources
from aggregator.model.discovery import find

Query = Mapping[str, str]


class QueryError(Exception):
    """What was asked for is not there, or was not asked rightly; answered with `status`."""

    def __init__(self, status: int, message: str) -> None:
        self.status: Final = status
        super().__init__(message)


def known_parameter(query: Query, name: str, known: Iterable[str], what: str) -> str | None:
    """The value of a parameter that names one of *known*. Raises QueryError if it names another."""
    value = query.get(name)
    names = sorted(known)
    if value is not None and value not in names:
        raise QueryError(400, f"unknown {what} {value!r}; known are {', '.join(names)}")
    return value


class ViewSpec(Struct, frozen=True):
    """Declares a view: its path below /debug, a line about it, its parameters, and how it is made.

    `read` runs on the event loop and only takes references; where even that takes long it is a
    coroutine function that lets others run in between. `render` turns them into JSON types in a
    thread, because a large mesh takes longer than the loop may be held.
    """

    name: str
    summary: str
    read: Callable[[Sources, Query], Any]
    render: Callable[[Any], object] = camel_form
    parameters: Mapping[str, str] = {}


@cache
def views() -> Mapping[str, ViewSpec]:
    """The declared views by name."""
    found = find("aggregator.debug.views", "VIEW", ViewSpec)
    return {view.name: view for view in sorted(found.values(), key=lambda view: view.name)}
