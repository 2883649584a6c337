"""Questions to Consul, with agents that a test speaks for."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
from consul import base
from consul.aio import HTTPClient

from adapters.consul.client import AgentBusyError, ConsulClient
from adapters.consul.settings import Consistency, ConsulSettings
from adapters.consul.token import Token
from aggregator.model.errors import AdapterRejectedError, AdapterUnavailableError
from config.duration import Duration
from tests.support.clock import FakeClock, settle

T = TypeVar("T")
Reply = base.Response | Exception


def reply(
    code: int = 200, body: bytes = b"[1]", headers: Mapping[str, str] | None = None
) -> base.Response:
    """An answer."""
    return base.Response(code, dict(headers or {}), body)


class Agent(HTTPClient):
    """Gives its replies in turn, the last one for ever, and notes what it was asked."""

    def __init__(self, *replies: Reply) -> None:
        self.base_uri = "http://agent"
        self.replies = list(replies)
        self.asked: list[dict[str, str]] = []
        self.tokens: list[str] = []

    async def get(  # type: ignore[override]
        self,
        callback: Callable[[base.Response], T],
        path: str,
        params: list[tuple[str, str]] | None = None,
        headers: dict[str, str] | None = None,
        **_: Any,
    ) -> T:
        """The next reply."""
        self.asked.append({"path": path, **dict(params or ())})
        self.tokens.append((headers or {}).get("X-Consul-Token", ""))
        found = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(found, Exception):
            raise found
        return callback(found)


def client(*agents: Agent, token: Token | None = None, **settings: Any) -> ConsulClient:
    """A client of these agents."""
    return ConsulClient(ConsulSettings(**settings), token or Token(None), agents)


DOWN = aiohttp.ClientConnectionError("refused")


async def test_an_answer_tells_its_index_and_whether_something_is_hidden() -> None:
    """What watches and absences hang on."""
    agent = Agent(
        reply(headers={"X-Consul-Index": "7", "X-Consul-Results-Filtered-By-ACLs": "true"}),
        reply(),
        reply(404),
        reply(headers={"X-Consul-Index": "nonsense", "X-Consul-Default-ACL-Policy": "deny"}),
    )
    consul = client(agent)

    first = await consul.get("/v1/x")
    assert (first.index, first.filtered, first.found) == (7, True, True)
    second = await consul.get("/v1/x")
    assert (second.index, second.filtered) == (0, False)
    assert not (await consul.get("/v1/x")).found
    last = await consul.get("/v1/x")
    assert (last.index, last.filtered) == (0, True)


async def test_only_with_an_index_is_news_waited_for() -> None:
    """And for as long as the settings say."""
    agent = Agent(reply())
    consul = client(agent, wait=Duration(30))

    await consul.get("/v1/x", [("dc", "dc1")])
    await consul.get("/v1/x", index=5)

    assert agent.asked == [
        {"path": "/v1/x", "dc": "dc1", "stale": ""},
        {"path": "/v1/x", "stale": "", "index": "5", "wait": "30000ms"},
    ]


@pytest.mark.parametrize(
    ("headers", "believed"),
    [
        ({"X-Consul-LastContact": "10000", "X-Consul-KnownLeader": "true"}, True),
        ({"X-Consul-LastContact": "10001", "X-Consul-KnownLeader": "true"}, False),
        ({"X-Consul-LastContact": "0", "X-Consul-KnownLeader": "false"}, False),
    ],
    ids=["near", "far", "no leader"],
)
async def test_a_server_that_lost_touch_is_not_believed(
    headers: dict[str, str], believed: bool
) -> None:
    """The leader is asked in its place."""
    agent = Agent(reply(headers=headers), reply(body=b"[2]"))

    answer = await client(agent).get("/v1/x")

    assert answer.body == (b"[1]" if believed else b"[2]")
    assert ["stale" in each for each in agent.asked] == ([True] if believed else [True, False])


async def test_the_consistency_of_the_settings_is_asked_for() -> None:
    """Consul's own words."""
    agent = Agent(reply())
    await client(agent, consistency=Consistency.CONSISTENT).get("/v1/x")
    await client(agent, consistency=Consistency.DEFAULT).get("/v1/x")
    await client(agent).get("/v1/x", by_leader=True)

    assert agent.asked == [
        {"path": "/v1/x", "consistent": ""},
        {"path": "/v1/x"},
        {"path": "/v1/x"},
    ]


@pytest.mark.parametrize("empty", [reply(body=b"[]"), reply(404, b"")], ids=["empty", "none"])
async def test_a_late_empty_answer_is_asked_for_again_at_once(empty: base.Response) -> None:
    """Consul does not tell of late ones whether the rest was hidden."""
    agent = Agent(empty, reply(body=b"[]", headers={"X-Consul-Results-Filtered-By-ACLs": "true"}))

    answer = await client(agent).get("/v1/x", index=5)

    assert answer.filtered
    assert ["index" in each for each in agent.asked] == [True, False]


@pytest.mark.parametrize(
    "failure", [DOWN, TimeoutError(), OSError("reset"), reply(500, b"no leader")]
)
async def test_the_next_agent_is_asked_where_one_fails_and_from_then_on(failure: Reply) -> None:
    """Whatever the failure is."""
    bad, good = Agent(failure), Agent(reply())
    consul = client(bad, good)

    await consul.get("/v1/x")
    await consul.get("/v1/x")

    assert (len(bad.asked), len(good.asked)) == (1, 2)


@pytest.mark.parametrize(
    ("failure", "error", "text"),
    [
        (DOWN, AdapterUnavailableError, "refused"),
        (TimeoutError(), AdapterUnavailableError, "no answer within 10 s"),
        (
            reply(500, b"No path\nto datacenter"),
            AdapterUnavailableError,
            "500 No path to datacenter",
        ),
        (reply(500, b"rpc error: ACL not found"), AdapterRejectedError, "ACL not found"),
        (reply(403, b"Permission denied"), AdapterRejectedError, "403"),
        (reply(400, b"no namespaces here"), AdapterRejectedError, "400 no namespaces here"),
        (reply(429, b"too many"), AgentBusyError, "429"),
        (reply(500, b"x" * 9999), AdapterUnavailableError, "…"),
    ],
    ids=lambda each: str(getattr(each, "code", "")) or None,
)
async def test_errors_say_who_was_asked_and_what_was_said(
    failure: Reply, error: type[Exception], text: str
) -> None:
    """In one line of bounded length."""
    with pytest.raises(error) as raised:
        await client(Agent(failure)).get("/v1/x", patient=False)

    assert text in str(raised.value)
    assert str(raised.value).startswith("http://agent/v1/x: ")
    assert len(str(raised.value)) < 300


async def test_a_refused_token_is_read_again_before_anybody_is_told(tmp_path: Path) -> None:
    """It may have been exchanged while the question waited."""
    file = tmp_path / "token"
    file.write_text("old\n")
    token = Token(file)
    await token.read()
    file.write_text("new\n")
    agent = Agent(reply(403, b"ACL not found"), reply())

    await client(agent, token=token).get("/v1/x")

    assert agent.tokens == ["old", "new"]
    agent.replies = [reply(403, b"ACL not found")]
    with pytest.raises(AdapterRejectedError):
        await client(agent, token=token).get("/v1/x")
    assert agent.tokens == ["old", "new", "new"]


async def test_who_has_patience_gets_a_connection_once_others_have_ended() -> None:
    """Those of an earlier run live on in Consul for a while."""
    clock = FakeClock()
    busy = reply(429, b"too many")
    agent = Agent(busy, busy, busy, reply())
    settings = ConsulSettings(wait=Duration(30))
    consul = ConsulClient(settings, Token(None), [agent], clock=clock, sleep=clock.sleep)

    asking = asyncio.create_task(consul.get("/v1/x"))
    await settle()
    await clock.advance(60)
    assert (await asking).body == b"[1]"

    agent.replies = [busy]
    asking = asyncio.create_task(consul.get("/v1/x"))
    await settle()
    await clock.advance(200)
    with pytest.raises(AgentBusyError):
        await asking
