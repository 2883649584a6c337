"""`registries` shows how the registries of a running daemon fare."""

import asyncio
import json
import sys

import pytest

from aggregator.model.errors import Origin, Problem
from aggregator.model.registry import Content, ServiceItem, ShardKey
from tests.support.builders import endpoint, service
from tests.support.daemon import Running, running_parts
from tests.support.port import free_port

HOST = "reviews.shop.mesh"


async def registries(*arguments: str) -> tuple[int, str, str]:
    """Exit code and output of the command."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aggregator.cli.main", "registries", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


def feed(running: Running) -> None:
    """A service, a problem; then in sync."""
    item = ServiceItem("shop", HOST, service(HOST), (endpoint("10.0.0.1"), endpoint("10.0.0.2")))
    running.sink.replace(ShardKey("fed", "a.yaml", Content.SERVICES), {"reviews": item})
    running.sink.report("b.yaml", [Problem(Origin("b.yaml", 3), "spec.hosts", "required")])
    running.sink.synced()


async def test_a_line_for_each_registry_says_how_it_fares() -> None:
    """Piped, the columns are named and separated by tabs."""
    async with running_parts() as running:
        before = await registries("--http-address", running.http.removeprefix("http://"))
        feed(running)
        address = running.http.removeprefix("http://")
        code, out, _ = await registries("--http-address", address, "--problems")

    assert "\tstarting\t" in before[1]
    header, row, *problems = out.splitlines()
    shown = dict(zip(header.split("\t"), row.split("\t"), strict=True))
    assert code == 0
    assert (shown["registry"], shown["cluster"], shown["state"]) == ("fed", "fed", "synced")
    assert (shown["services"], shown["endpoints"], shown["problems"]) == ("1", "2", "1")
    assert (shown["held"], shown["reconnects"], shown["last error"]) == ("", "0", "")
    assert problems == ["error: fed: b.yaml:3: spec.hosts: required"]


async def test_what_is_not_believed_yet_is_told() -> None:
    """Whoever took things out on purpose sees why they are still served, and for how long."""
    many = {
        f"s{number}": ServiceItem(
            "shop", f"s{number}.mesh", service(f"s{number}.mesh"), (endpoint(f"10.0.0.{number}"),)
        )
        for number in range(1, 31)
    }
    async with running_parts() as running:
        shard = ShardKey("fed", "a.yaml", Content.SERVICES)
        running.sink.replace(shard, many)
        running.sink.synced()
        running.sink.replace(shard, {})
        _, out, _ = await registries("--http-address", running.http.removeprefix("http://"))

    header, row = out.splitlines()
    shown = dict(zip(header.split("\t"), row.split("\t"), strict=True))
    assert shown["endpoints"] == "30"
    assert "30 -> 0 endpoints, believed in " in shown["held"]


async def test_scripts_get_everything() -> None:
    """What the table leaves out is in the JSON."""
    async with running_parts() as running:
        feed(running)
        address = running.http.removeprefix("http://")
        _, out, _ = await registries("--http-address", address, "-o", "json")

    found = json.loads(out)
    (registry,) = found["registries"]
    assert registry["lastSuccessSecondsAgo"] >= 0
    assert found["problems"][0]["problems"][0]["source"] == "b.yaml:3"


@pytest.mark.parametrize("path", ["", "/nothing"])
async def test_without_a_daemon_it_says_so(path: str) -> None:
    """A wrong port is told in one line."""
    code, out, err = await registries("--http-address", f"127.0.0.1:{free_port()}{path}")

    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("http://127.0.0.1:")
