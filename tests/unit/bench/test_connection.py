"""The load's few words of HTTP/2: messages come out whole, and windows are kept."""

import asyncio
from typing import cast

from bench.connection import Connection


class Wire(asyncio.Transport):
    """What the connection writes to."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: object) -> None:
        """Keep it."""
        self.written += cast(bytes, data)


class Client:
    """A connection with what it told."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.ends: list[str] = []
        self.wire = Wire()
        self.connection = Connection(
            "/a.Service/Method",
            {"bench-class": "1"},
            lambda message, _: self.messages.append(message),
            self.ends.append,
        )
        self.connection.connection_made(self.wire)
        self.wire.written = b""

    def sent(self) -> bytes:
        """The bytes of all data frames that were written."""
        data, rest = b"", self.wire.written
        while rest:
            length = int.from_bytes(rest[:3], "big")
            if rest[3] == 0:
                data += rest[9 : 9 + length]
            rest = rest[9 + length :]
        return data


def frame(kind: int, payload: bytes, stream: int = 1, flags: int = 0) -> bytes:
    """A frame as a server writes it."""
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


def message(body: bytes) -> bytes:
    """A gRPC message."""
    return b"\x00" + len(body).to_bytes(4, "big") + body


def test_messages_come_out_however_they_are_cut() -> None:
    """Frames end where they like, and so do reads."""
    client = Client()
    bodies = [b"", b"x" * 70_000, b"yes", b""]
    text = b"".join(message(body) for body in bodies)
    frames = b"".join(frame(0, text[at : at + 16_384]) for at in range(0, len(text), 16_384))

    for at in range(0, len(frames), 1000):
        client.connection.data_received(frames[at : at + 1000])

    assert client.messages == bodies


def test_frames_in_between_are_no_part_of_a_message() -> None:
    """Pings and padding of the protocol come at any time; a ping is answered."""
    client = Client()
    text = message(b"whole")

    client.connection.data_received(
        frame(0, text[:3]) + frame(6, b"12345678", stream=0) + frame(0, text[3:])
    )

    assert client.messages == [b"whole"]
    assert client.wire.written == frame(6, b"12345678", stream=0, flags=1)


def test_sends_no_more_than_the_server_has_room_for() -> None:
    """An acknowledgement with thousands of names is larger than the first window."""
    client = Client()
    body = b"n" * 100_000

    client.connection.send(body)
    assert len(client.sent()) == 65_535

    grant = (50_000).to_bytes(4, "big")
    client.connection.data_received(frame(8, grant, stream=0))
    assert len(client.sent()) == 65_535
    client.connection.data_received(frame(8, grant))
    assert client.sent() == message(body)


def test_larger_first_window_counts_at_once() -> None:
    """The server's settings may come after the first request."""
    client = Client()
    client.connection.send(b"n" * 100_000)
    client.connection.data_received(frame(8, (1 << 20).to_bytes(4, "big"), stream=0))

    client.connection.data_received(frame(4, b"\x00\x04" + (1 << 20).to_bytes(4, "big"), stream=0))

    assert len(client.sent()) == 100_005


def test_end_of_the_stream_is_told() -> None:
    """A server that hangs up must not look like one that is quiet."""
    client = Client()

    client.connection.data_received(frame(1, b"trailers", flags=5))

    assert len(client.ends) == 1
