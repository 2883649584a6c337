"""`list`: the names of all views, for scripts."""

from typing import Final

from aggregator.debug.sources import Sources
from aggregator.debug.spec import Query, ViewSpec, views


def _read(_sources: Sources, _query: Query) -> object:
    return [
        {"path": f"/debug/{view.name}", "summary": view.summary, "parameters": view.parameters}
        for view in views().values()
    ]


VIEW: Final = ViewSpec("list", "The names of all views.", _read)
