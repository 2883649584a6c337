"""What the proxy that breaks connections does to them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from tests.support.fault_proxy import Cut, Fault, FaultProxy, Garbage, Hang, Pass, Refuse, Slow
from tests.support.poll import eventually

ANSWER = b"0123456789" * 100


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A thousand bytes for each byte that comes."""
    with suppress(ConnectionError):
        while await reader.read(1):
            writer.write(ANSWER)
    writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    """A proxy before a server."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with FaultProxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy
    server.close()


async def connect(proxy: FaultProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection through it."""
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def ask(proxy: FaultProxy, fault: Fault) -> bytes:
    """All that a connection answers with a fault."""
    await proxy.set(fault)
    reader, writer = await connect(proxy)
    writer.write(b"?")
    writer.write_eof()
    async with asyncio.timeout(5):
        found = await reader.read()
    writer.close()
    return found


async def test_it_passes_and_counts_what_is_said(proxy: FaultProxy) -> None:
    """Without a fault nobody notices it, and what went through is counted."""
    reader, writer = await connect(proxy)
    for _ in range(3):
        writer.write(b"?")
        assert await reader.readexactly(1000) == ANSWER
    counted = proxy.connections, proxy.requests, proxy.bytes_up, proxy.bytes_down
    assert counted == (1, 3, 3, 3000)
    writer.close()
    await eventually(lambda: proxy.open == 0)


async def test_refused_connections_are_refused_and_open_ones_end(proxy: FaultProxy) -> None:
    """As if the server's machine had lost its server; it comes back on the same port."""
    reader, writer = await connect(proxy)
    await eventually(lambda: proxy.open)
    await proxy.set(Refuse())
    with pytest.raises(ConnectionError):
        await reader.readexactly(1)
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await connect(proxy)
    assert await ask(proxy, Cut(1000)) == ANSWER


async def test_what_hangs_goes_on_later(proxy: FaultProxy) -> None:
    """An open connection stops and goes on, without a byte lost."""
    reader, writer = await connect(proxy)
    await eventually(lambda: proxy.open)
    await proxy.set(Hang())
    writer.write(b"?")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await reader.read(1)
    await proxy.set(Pass())
    assert await reader.readexactly(1000) == ANSWER
    writer.close()


async def test_slow_answers_come_in_drops_until_it_is_over(proxy: FaultProxy) -> None:
    """All arrives, late; and at once when the fault ends."""
    await proxy.set(Slow(100))
    reader, writer = await connect(proxy)
    writer.write(b"?")
    assert 0 < len(await reader.read(1000)) < 1000
    assert proxy.bytes_down < 100
    await proxy.set(Pass())
    async with asyncio.timeout(1):
        while proxy.bytes_down < 1000:
            await reader.read(1000)
    writer.close()


async def test_answers_end_in_the_middle(proxy: FaultProxy) -> None:
    """With a FIN, which looks like an end, or with a reset."""
    assert await ask(proxy, Cut(300)) == ANSWER[:300]
    with pytest.raises(ConnectionResetError):
        await ask(proxy, Cut(0, reset=True))


async def test_garbage_comes_after_what_was_right(proxy: FaultProxy) -> None:
    """As many bytes as were to come, others."""
    found = await ask(proxy, Garbage(500))
    assert found[:500] == ANSWER[:500]
    assert len(found) == 1000
    assert found != ANSWER
