"""One gRPC stream on a connection of its own, as little as HTTP/2 needs: the load has to cost less
than what it measures, and gRPC's own client costs as much as its server.

Trusts its server: frames are read, not checked. Everything happens in the event loop's callbacks.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, cast

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GO_AWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_HEADERS: Final = 4
ACK: Final = 1
INITIAL_WINDOW_SIZE: Final = 4
STREAM: Final = 1
FRAME_LIMIT: Final = 16_384
"""The largest frame that either side may send unless told otherwise, and nobody is."""

FIRST_WINDOW: Final = 65_535
WIDEST_WINDOW: Final = 2**31 - 1
REFILL: Final = 2**30

OnMessage = Callable[[bytes, int], None]
"""Called with a message and when its last byte was read, in nanoseconds of the monotonic clock."""

OnEnd = Callable[[str], None]
"""Called with a reason when the server ends the stream."""


class Connection(asyncio.Protocol):
    """A call of one method, from connecting on."""

    def __init__(
        self, path: str, metadata: dict[str, str], on_message: OnMessage, on_end: OnEnd
    ) -> None:
        self._path: Final = path
        self._metadata: Final = metadata
        self._on_message: Final = on_message
        self._on_end: Final = on_end
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._parts: Final[list[bytes]] = []
        self._have = 0
        self._need = 0
        self._received = 0
        self._unsent = b""
        self._window = FIRST_WINDOW
        self._stream_window = FIRST_WINDOW
        self._first_stream_window = FIRST_WINDOW

    def send(self, message: bytes) -> None:
        """Send a message as soon as the server has room for it."""
        self._unsent += b"\x00" + len(message).to_bytes(4, "big") + message
        self._flush()

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open the stream at once; the server's settings come while its headers travel."""
        self._transport = cast(asyncio.Transport, transport)
        window = INITIAL_WINDOW_SIZE.to_bytes(2, "big") + WIDEST_WINDOW.to_bytes(4, "big")
        self._write(
            PREFACE
            + _frame(SETTINGS, 0, 0, window)
            + _frame(WINDOW_UPDATE, 0, 0, (WIDEST_WINDOW - FIRST_WINDOW).to_bytes(4, "big"))
            + _frame(HEADERS, END_HEADERS, STREAM, _headers(self._path, self._metadata))
        )
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._on_end(f"connection lost: {exc}")

    def data_received(self, data: bytes) -> None:
        """Take frames apart."""
        now = time.monotonic_ns()
        if self._rest:
            data = self._rest + data
        position, end = 0, len(data)
        while end - position >= 9:
            stop = position + 9 + int.from_bytes(data[position : position + 3], "big")
            if stop > end:
                break
            kind = data[position + 3]
            if kind == DATA:
                self._take(data[position + 9 : stop], now)
            else:
                self._control(kind, data[position + 4], data[position + 5 : stop], now)
            position = stop
        self._rest = data[position:]

    # Messages

    def _take(self, part: bytes, now: int) -> None:
        """Put messages together. A frame may end one and begin the next."""
        self._received += len(part)
        if self._received >= REFILL:
            grant = self._received.to_bytes(4, "big")
            self._write(
                _frame(WINDOW_UPDATE, 0, 0, grant) + _frame(WINDOW_UPDATE, 0, STREAM, grant)
            )
            self._received = 0
        self._parts.append(part)
        self._have += len(part)
        while self._have >= max(self._need, 5):
            if len(self._parts) > 1:
                self._parts[:] = [b"".join(self._parts)]
            whole = self._parts[0]
            self._need = 5 + int.from_bytes(whole[1:5], "big")
            if self._have < self._need:
                break
            message = whole[5 : self._need]
            self._parts[:] = [whole[self._need :]]
            self._have -= self._need
            self._need = 0
            self._on_message(message, now)

    # The rest of HTTP/2

    def _control(self, kind: int, flags: int, body: bytes, now: int) -> None:
        stream, payload = int.from_bytes(body[:4], "big"), body[4:]
        if kind == SETTINGS and not flags & ACK:
            self._settings(payload)
        elif kind == PING and not flags & ACK:
            self._write(_frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE:
            grant = int.from_bytes(payload, "big")
            if stream:
                self._stream_window += grant
            else:
                self._window += grant
            self._flush()
        elif kind in (RESET, GO_AWAY) or (kind == HEADERS and flags & 1):
            self._on_end(f"the server ended the stream: {payload!r}")

    def _settings(self, payload: bytes) -> None:
        for start in range(0, len(payload), 6):
            value = int.from_bytes(payload[start + 2 : start + 6], "big")
            if int.from_bytes(payload[start : start + 2], "big") == INITIAL_WINDOW_SIZE:
                self._stream_window += value - self._first_stream_window
                self._first_stream_window = value
        self._write(_frame(SETTINGS, ACK, 0, b""))
        self._flush()

    def _flush(self) -> None:
        """Write what the server's windows let through."""
        frames = []
        while self._unsent and self._transport is not None:
            size = min(len(self._unsent), self._window, self._stream_window, FRAME_LIMIT)
            if size <= 0:
                break
            frames.append(_frame(DATA, 0, STREAM, self._unsent[:size]))
            self._unsent = self._unsent[size:]
            self._window -= size
            self._stream_window -= size
        if frames:
            self._write(b"".join(frames))

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return b"%b%b%b%b%b" % (
        len(payload).to_bytes(3, "big"),
        kind.to_bytes(1, "big"),
        flags.to_bytes(1, "big"),
        stream.to_bytes(4, "big"),
        payload,
    )


def _headers(path: str, metadata: dict[str, str]) -> bytes:
    """Literal fields, never indexed: POST, http, the path, and who speaks gRPC."""
    fields = {"content-type": "application/grpc", "te": "trailers", **metadata}
    return b"".join(
        (
            b"\x83\x86",
            b"\x04" + _text(path),
            b"\x01" + _text("localhost"),
            *(b"\x00" + _text(name) + _text(value) for name, value in fields.items()),
        )
    )


def _text(value: str) -> bytes:
    data = value.encode()
    if len(data) > 126:
        message = f"{value!r} is too long for one byte of length"
        raise ValueError(message)
    return bytes([len(data)]) + data
