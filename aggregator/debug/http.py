"""The HTTP server: readiness, metrics and the debug views, all read-only.

Everybody may ask for the paths in `PUBLIC`. The rest shows the whole mesh and is not authenticated,
so it is for clients on this machine, which come over loopback, and never for pages of other sites
that a browser on this machine has open.
"""

import asyncio
import html
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from aggregator.debug.release import DISTRIBUTION, components
from aggregator.debug.sources import Sources
from aggregator.debug.spec import Query, QueryError, ViewSpec, views
from aggregator.quantity import Address, is_loopback

PUBLIC: Final = frozenset({"/ready", "/healthz", "/metrics", "/version"})
"""What probes and scrapers of other machines get, all that does not show the mesh."""

_SOURCES: Final = web.AppKey("sources", Sources)
_METRICS: Final = web.AppKey("metrics", CollectorRegistry)


def build_app(sources: Sources, metrics: CollectorRegistry) -> web.Application:
    """Every path."""
    app = web.Application(middlewares=[_answer_errors, _guard])
    app[_SOURCES] = sources
    app[_METRICS] = metrics
    app.router.add_get("/ready", _ready)
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/version", _version)
    app.router.add_get("/", _index)
    app.router.add_get("/debug", _index)
    app.router.add_get("/debug/", _index)
    for view in views().values():
        app.router.add_get(f"/debug/{view.name}", _handler(view))
    return app


class HttpServer:
    """Serves an application on one address."""

    def __init__(self, app: web.Application, address: Address) -> None:
        log = logging.getLogger(__name__)
        log.addFilter(_is_ours)
        self._runner: Final = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, logger=log)
        self._address: Final = address

    async def start(self) -> Address:
        """Listen; returns the address with the port that was taken.

        Raises OSError if it is in use.
        """
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._address.host, self._address.port)
        await site.start()
        port = self._runner.addresses[0][1]
        host = self._address.rpartition(":")[0]
        return Address(f"{host}:{port}")

    async def aclose(self) -> None:
        """Stop listening and close the connections."""
        await self._runner.cleanup()


def _is_ours(record: logging.LogRecord) -> bool:
    """Leave out of the log what clients did wrong: it is answered, and is no failure of ours."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.path not in PUBLIC:
        if not _is_local(request):
            return _refuse("for this machine only: ask over loopback")
        # A name that resolves to this machine could be another site's (DNS rebinding).
        if not is_loopback(_host(request.host)):
            return _refuse("the debug views are asked for by address or as localhost only")
    response = await handler(request)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "no-store"
    return response


def _is_local(request: web.Request) -> bool:
    """Whether both ends of the connection are loopback addresses; headers say nothing here."""
    transport = request.transport
    if transport is None:
        return False
    ends = (transport.get_extra_info("sockname"), transport.get_extra_info("peername"))
    return all(end and is_loopback(end[0]) for end in ends)


def _refuse(reason: str) -> web.Response:
    return web.Response(status=403, text=reason + "\n")


def _host(header: str) -> str:
    host, colon, port = header.rpartition(":")
    return (host if colon and port.isdecimal() else header).strip("[]")


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except QueryError as error:
        return _json({"error": str(error)}, request.query, status=error.status)
    except web.HTTPException as error:
        return web.Response(status=error.status, text=f"{error.reason}\n", headers=error.headers)


async def _ready(request: web.Request) -> web.Response:
    waiting = request.app[_SOURCES].not_ready()
    if waiting:
        return web.Response(status=503, text="not ready: " + "; ".join(waiting) + "\n")
    return web.Response(text="ready\n")


async def _healthz(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _metrics(request: web.Request) -> web.Response:
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    body = encode(request.app[_METRICS])
    return web.Response(body=body, headers={"Content-Type": content_type})


async def _version(request: web.Request) -> web.Response:
    return _json({"version": components()[DISTRIBUTION], "components": components()}, request.query)


async def _index(_request: web.Request) -> web.Response:
    rows = "".join(_row(view) for view in views().values())
    return web.Response(text=_PAGE.format(rows=rows), content_type="text/html")


def _row(view: ViewSpec) -> str:
    parameters = "".join(
        f"<br><code>?{html.escape(name)}=</code> {html.escape(text)}"
        for name, text in view.parameters.items()
    )
    link = f'<a href="/debug/{view.name}?pretty">{view.name}</a>'
    return f"<tr><td>{link}</td><td>{html.escape(view.summary)}{parameters}</td></tr>\n"


def _handler(view: ViewSpec) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        _check(view, request.query)
        content = view.read(request.app[_SOURCES], request.query)
        if inspect.isawaitable(content):
            content = await content
        return await asyncio.to_thread(_render, view, content, request.query)

    return handle


def _check(view: ViewSpec, query: Query) -> None:
    for name in query:
        if name != "pretty" and name not in view.parameters:
            known = ", ".join(sorted({"pretty", *view.parameters}))
            raise QueryError(400, f"unknown parameter {name!r}; known are {known}")


def _render(view: ViewSpec, content: object, query: Query) -> web.Response:
    return _json(view.render(content), query)


def _json(content: object, query: Query, *, status: int = 200) -> web.Response:
    body = msgspec.json.encode(content, enc_hook=str, order="deterministic")
    if "pretty" in query:
        body = msgspec.json.format(body, indent=2)
    return web.Response(body=body + b"\n", content_type="application/json", status=status)


_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>mesh-aggregator</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
td{{padding:.3rem 1rem .3rem 0;vertical-align:top}}</style></head><body>
<h1>mesh-aggregator</h1>
<p><a href="/ready">ready</a> · <a href="/metrics">metrics</a> · <a href="/version">version</a></p>
<table>
{rows}</table>
</body></html>
"""
