"""One gRPC stream: the thin loop between the transport and a `Session`."""

import asyncio
import math
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Final
from typing import Protocol as Interface

import structlog

from aggregator.generators.spec import ResourceType
from aggregator.model.errors import StreamError
from aggregator.model.proxy import Proxy
from aggregator.push.engine import Engine
from aggregator.push.known import Response
from aggregator.push.state import Cause, ViewDiff, ViewState
from aggregator.xds.budget import Budget
from aggregator.xds.isolation import Rejection
from aggregator.xds.message import Request, RequestDecoder
from aggregator.xds.session import Session
from aggregator.xds.stall import StallWatch

log = structlog.get_logger()


class Transport(Interface):
    """The seam to gRPC: what the loop needs of a connection."""

    @property
    def peer(self) -> str:
        """The client's address, for people."""
        ...

    def requests(self) -> AsyncIterable[bytes]:
        """Raw requests, until the client closes."""
        ...

    def write(self, payload: bytes) -> Awaitable[None]:
        """Send one message; returns when the transport took it, which may be never for a stalled
        client. Raises DisconnectedError if the client is gone.
        """
        ...


class WriteTimeoutError(StreamError):
    """The client stopped reading."""


class DisconnectedError(StreamError):
    """The client went away while it was being written to."""


class Stream:
    """Follows a view for one client. The session decides, the loop reads, writes and waits."""

    def __init__(
        self,
        transport: Transport,
        engine: Engine,
        session: Session,
        decoder: RequestDecoder,
        budget: Budget,
        stalls: StallWatch,
        *,
        identify: Callable[[Request], Proxy],
        fixed_type: ResourceType | None,
        on_reject: Callable[["Stream", Rejection, str], None],
        on_identified: Callable[["Stream"], None],
        on_stalled: Callable[["Stream"], None],
    ) -> None:
        self.session: Final = session
        self.peer: Final = transport.peer
        self.proxy: Proxy | None = None
        self.connected_at: Final = engine.clock()
        self._transport: Final = transport
        self._engine: Final = engine
        self._decoder: Final = decoder
        self._budget: Final = budget
        self._stalls: Final = stalls
        self._identify: Final = identify
        self._fixed_type: Final = fixed_type
        self._on_reject: Final = on_reject
        self._on_identified: Final = on_identified
        self._on_stalled: Final = on_stalled
        self._stalled = False
        self._ended = False
        self._wake: Final = asyncio.Event()
        self._log = log

    # What the engine tells

    def view_changed(self, diff: ViewDiff, cause: Cause) -> None:
        """Take note and wake the writer."""
        self.session.view_changed(diff, cause)
        self._wake.set()

    def view_moved(self, view: ViewState) -> None:
        """Take note and wake the writer."""
        self.session.view_moved(view, self._engine.clock())
        self._wake.set()

    def stalled(self) -> None:
        """The client takes nothing: it gets nothing more, and is told once it can be."""
        self._stalled = True
        self._engine.metrics.write_timeouts.inc()
        self._engine.detach(self)
        self.session.view = None
        self._on_stalled(self)

    # The loop

    async def run(self) -> None:
        """Serve until the client closes or is cancelled; raises StreamError for a broken client.

        When it raises nothing is being written: gRPC can only tell the client why after that.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write_all())
                failure = await self._read_until_end()
                self._ended = True
                self._wake.set()
        except* StreamError as errors:
            raise errors.exceptions[0] from None
        finally:
            self._engine.detach(self)
        if failure is not None:
            try:
                raise failure
            finally:
                # Its traceback holds this frame: a stream that ended would be its own prisoner.
                del failure

    async def _read_until_end(self) -> Exception | None:
        try:
            await self._read_all()
        except Exception as error:  # noqa: BLE001 - raised again when the writer is at rest
            return error
        return None

    async def _read_all(self) -> None:
        metrics = self._engine.metrics
        async for raw in self._transport.requests():
            if self._stalled:
                continue
            await self._engine.turn.breathe()
            request = self._decoder.decode(raw)
            if self._fixed_type is not None:
                request = _with_type(request, self._fixed_type)
            if self.proxy is None:
                await self._begin(request)
            now = self._engine.clock()
            if request.error is not None:
                self._note_nack(request)
            for rejection in self.session.receive(request, now):
                self._on_reject(self, rejection, request.nonce)
            for each in self.session.take_converged():
                metrics.converged(each.kind.label, each.registries, each.seconds)
            for kind in self.session.take_expired():
                metrics.expired_nonces.labels(kind.label).inc()
            if self.session.has_work:
                self._wake.set()

    async def _begin(self, request: Request) -> None:
        self.proxy = self._identify(request)
        self._log = log.bind(proxy=self.proxy.id)
        self.session.begin(drain=self.proxy.drain_seconds)
        vhds = self.session.delta and self.session.aggregated and self.proxy.user_agent == "envoy"
        view = await self._engine.attach(self, self.proxy, vhds=vhds)
        self.session.view = view
        self._on_identified(self)

    def _note_nack(self, request: Request) -> None:
        kind = self.session.kind(request.type_url)
        if kind is not None:
            self._engine.metrics.rejects.labels(kind.label).inc()
        self._log.debug(
            "response_rejected", type_url=request.type_url, nonce=request.nonce, error=request.error
        )

    async def _write_all(self) -> None:
        while not self._ended:
            await self._wait()
            while self.session.view is not None and not self._ended:
                await self._engine.turn.breathe()
                response = self.session.next_response(self._engine.clock())
                if response is None:
                    self._engine.flushed(self)
                    break
                await self._write(response)

    async def _wait(self) -> None:
        wake_at = self.session.wake_at()
        if wake_at == math.inf:
            await self._wake.wait()
        else:
            delay = max(0.0, wake_at - self._engine.clock())
            try:
                async with asyncio.timeout(delay):
                    await self._wake.wait()
            except TimeoutError:
                pass  # what waited for this time is due
        self._wake.clear()

    async def _write(self, response: Response) -> None:
        size = len(response.payload)
        share = await self._budget.take(size)
        self._stalls.begin(self, share)
        try:
            await self._transport.write(response.payload)
        finally:
            share.give_back()
            self._stalls.end(self)
        if self._stalled:
            message = f"the client took nothing for {self._stalls.longest:g} s"
            raise WriteTimeoutError(message)
        kind = self.session.kind(response.type_url)
        metrics = self._engine.metrics.of_type(kind.label if kind else response.type_url)
        metrics.pushes.inc()
        metrics.sent_bytes.inc(size)


def _with_type(request: Request, kind: ResourceType) -> Request:
    """The services of single types need no type URL in the request, and take no other."""
    if request.type_url not in ("", kind.type_url):
        message = f"this service has {kind.short} only, asked for {request.type_url!r}"
        raise StreamError(message)
    return Request(
        kind.type_url,
        request.names,
        request.nonce,
        request.error,
        request.version,
        request.unsubscribed,
        request.versions,
        request.node,
    )
