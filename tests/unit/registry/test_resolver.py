"""Addresses of gateways that have names."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from structlog.testing import capture_logs

from aggregator.model.registry import Content, NetworkGateway, RegistrySink, ShardKey
from aggregator.registry.aggregate import Aggregate
from aggregator.registry.resolver import GatewayResolver
from tests.support.clock import FakeClock
from tests.support.poll import eventually

NAME: Final = "lb.example.com"
WAY: Final = NetworkGateway("net2", NAME, 15443, "west")
SHARD: Final = ShardKey("west", "all", Content.PLACES)
Answer = tuple[str, ...] | OSError


class Names:
    """A resolver whose answers the test sets; counts the questions."""

    def __init__(self, **answers: Answer) -> None:
        self.answers: dict[str, Answer] = dict(answers)
        self.asked: list[str] = []

    async def look_up(self, name: str) -> tuple[str, ...]:
        self.asked.append(name)
        answer = self.answers.get(name, socket.gaierror(socket.EAI_NONAME, "no such name"))
        if isinstance(answer, OSError):
            raise answer
        return answer


class Mesh:
    """An aggregate with a registry that tells of gateways."""

    def __init__(self, names: Names, refresh: float) -> None:
        self.names: Final = names
        self.aggregate: Final = Aggregate(lambda _changes: None, clock=FakeClock())
        self.sink: Final[RegistrySink] = self.aggregate.sink("west")
        self.resolver: Final = GatewayResolver(
            self.aggregate, refresh=lambda: refresh, look_up=names.look_up
        )

    def addresses(self) -> list[str]:
        return [each.address for each in self.aggregate.gateways("net2")]

    async def has(self, *expected: str) -> None:
        await eventually(self.addresses, lambda found: found == list(expected), seconds=5)

    async def asks_again(self, times: int = 2) -> None:
        before = len(self.names.asked)
        await eventually(lambda: len(self.names.asked), lambda now: now >= before + times)


@asynccontextmanager
async def running(names: Names, *, refresh: float = 0.01) -> AsyncIterator[Mesh]:
    mesh = Mesh(names, refresh)
    task = asyncio.create_task(mesh.resolver.run())
    try:
        yield mesh
    finally:
        task.cancel()
        await asyncio.wait([task])


def resolved(*addresses: str) -> Names:
    names = Names()
    names.answers[NAME] = addresses
    return names


async def test_a_name_becomes_its_addresses_and_follows_them() -> None:
    """A load balancer's addresses change without anybody telling the registry."""
    names = resolved("192.0.2.1", "192.0.2.2")
    async with running(names) as mesh:
        mesh.sink.update(SHARD, "a", WAY)
        await mesh.has("192.0.2.1", "192.0.2.2")
        names.answers[NAME] = ("192.0.2.3",)
        await mesh.has("192.0.2.3")
        [found] = mesh.aggregate.gateways("net2")
        assert (found.port, found.cluster_id) == (15443, "west")


async def test_a_new_name_is_looked_up_at_once_and_not_more_often_than_it_is_due() -> None:
    """Whoever waits for a gateway does not wait for the end of an interval; nobody else asks."""
    names = resolved("192.0.2.1")
    async with running(names, refresh=3600) as mesh:
        mesh.sink.update(SHARD, "a", WAY)
        await mesh.has("192.0.2.1")
        mesh.sink.update(SHARD, "b", NetworkGateway("net3", "198.51.100.1", 15443))
        names.answers["other.example.com"] = ("192.0.2.9",)
        mesh.sink.update(SHARD, "c", NetworkGateway("net2", "other.example.com", 15443))
        await mesh.has("192.0.2.1", "192.0.2.9")

    assert names.asked.count("other.example.com") == 1
    assert names.asked.count(NAME) == 2


async def test_what_was_known_stays_while_nobody_answers() -> None:
    """An outage of DNS takes no network away; it is told once."""
    names = resolved("192.0.2.1")
    with capture_logs() as logs:
        async with running(names) as mesh:
            mesh.sink.update(SHARD, "a", WAY)
            await mesh.has("192.0.2.1")
            for error in (TimeoutError(), socket.gaierror(socket.EAI_AGAIN, "try again")):
                names.answers[NAME] = error
                await mesh.asks_again()
                assert mesh.addresses() == ["192.0.2.1"]

    told = [each for each in logs if each["event"] == "gateway_unresolved"]
    assert [(each["gateway"], each["kept"]) for each in told] == [(NAME, ["192.0.2.1"])]


async def test_a_name_that_is_gone_is_believed_the_second_time() -> None:
    """Its addresses may be somebody else's by then; the name itself leads nowhere."""
    names = resolved("192.0.2.1")
    async with running(names) as mesh:
        mesh.sink.update(SHARD, "a", WAY)
        await mesh.has("192.0.2.1")
        del names.answers[NAME]
        await mesh.has(NAME)
        names.answers[NAME] = ("192.0.2.4",)
        await mesh.has("192.0.2.4")


async def test_a_gateway_that_goes_takes_its_name_along() -> None:
    """Nobody asks for it any more."""
    names = resolved("192.0.2.1")
    async with running(names, refresh=3600) as mesh:
        mesh.sink.update(SHARD, "a", WAY)
        await mesh.has("192.0.2.1")
        names.answers["other.example.com"] = ("192.0.2.9",)
        mesh.sink.update(SHARD, "a", NetworkGateway("net2", "other.example.com", 15443))
        await mesh.has("192.0.2.9")

    assert names.asked == [NAME, "other.example.com"]
