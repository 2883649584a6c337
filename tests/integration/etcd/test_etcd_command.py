"""`mesh-aggregator etcd` on a real server."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.poll import eventually
from tests.support.servers.etcd import EtcdServer

pytestmark = pytest.mark.servers
ROOT: Final = Path(__file__).parents[3]
INSTANCE: Final = """
apiVersion: mesh-aggregator/v1
kind: Instance
host: a.mesh
address: 10.0.0.1
"""


class Command:
    """Runs the command on keys of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        """Begin to run it in the folder."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "aggregator.cli.main", "etcd", *self.options, *arguments),
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str) -> tuple[int | None, str, str]:
        """Exit code, output and errors."""
        process = await self.start(*arguments)
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    async def keys(self) -> list[tuple[str, bool, str]]:
        """What is listed: key, whether it has a lease, state."""
        _, out, _ = await self.run("list")
        rows = [line.split("\t") for line in out.splitlines()[1:]]
        return [(key, bool(lease), state) for key, _, lease, state in rows]


@pytest.fixture
def command(etcd: EtcdServer, request: pytest.FixtureRequest, tmp_path: Path) -> Command:
    """The command on the shared server."""
    prefix = f"/{request.node.name}/"
    return Command(tmp_path, "--endpoint", etcd.address, "--prefix", prefix)


async def test_what_is_put_can_be_listed_shown_and_deleted(
    command: Command, tmp_path: Path
) -> None:
    """The round that everybody makes first."""
    (tmp_path / "a.yaml").write_text("services:\n- {host: a.mesh, ports: [{number: 80}]}\n")
    (tmp_path / "b.yaml").write_text(INSTANCE)
    service, instance = "services/default/a.mesh", "instances/default/a.mesh/10.0.0.1"

    put = await command.run("put", "a.yaml", "b.yaml")
    assert put == (0, f"{service}\n{instance}\n", "")
    assert await command.keys() == [(instance, False, "ok"), (service, False, "ok")]
    code, shown, _ = await command.run("get", service)
    assert (code, shown.splitlines()[:2]) == (
        0,
        ["apiVersion: mesh-aggregator/v1", "kind: Service"],
    )
    assert json.loads((await command.run("get", "--raw", service))[1])["host"] == "a.mesh"
    assert await command.run("delete", service, "x") == (1, "", "there is no key x\n")
    assert (await command.run("get", service))[0] == 1
    assert await command.keys() == [(instance, False, "ok")]


async def test_nothing_is_written_if_anything_is_wrong(command: Command, tmp_path: Path) -> None:
    """Half of what somebody meant may be worse than nothing."""
    (tmp_path / "good.yaml").write_text(INSTANCE)
    (tmp_path / "bad.yaml").write_text(INSTANCE.replace("10.0.0.1", "here"))

    code, out, err = await command.run("put", "good.yaml", "bad.yaml")

    assert (code, out) == (2, "")
    assert "bad.yaml:5: address: expected an IP address, found 'here'" in err
    assert await command.keys() == []


async def test_what_cannot_be_used_is_listed_with_the_reason(
    etcd: EtcdServer, command: Command
) -> None:
    """Others write there too, and whoever looks for a missing service looks here."""
    async with etcd.client() as client:
        await client.put(f"{command.options[-1]}services/shop/a.mesh", b"\xff")

    code, out, err = await command.run("list")

    assert code == 1
    assert out.splitlines()[1].endswith("unusable")
    assert "services/shop/a.mesh:1: expected UTF-8 text" in err


async def test_an_unknown_server_or_address_is_one_line(command: Command) -> None:
    """Nobody sees a traceback."""
    command.options = ("--endpoint", "127.0.0.1:1")
    code, _, err = await command.run("list")
    assert (code, err.count("\n")) == (1, 1)
    assert "127.0.0.1:1: " in err

    command.options = ("--endpoint", "https://127.0.0.1:1")
    code, _, err = await command.run("list")
    assert (code, err.count("\n")) == (2, 1)
    assert "`tls` says whether TLS is spoken" in err


async def test_a_settings_file_says_which_etcd(
    etcd: EtcdServer, command: Command, tmp_path: Path
) -> None:
    """With its defaults, which the daemon has too."""
    (tmp_path / "a.yaml").write_text(INSTANCE)
    settings = tmp_path / "settings.yaml"
    entry = "- {name: %s, type: etcd, namespace: shop, endpoints: ['%s'], prefix: %s}\n"
    prefix = command.options[-1]
    settings.write_text("registries:\n" + entry % ("one", etcd.address, prefix))
    command.options = ("-c", "settings.yaml")

    assert (await command.run("put", "a.yaml"))[0] == 0
    assert await command.keys() == [("instances/shop/a.mesh/10.0.0.1", False, "ok")]

    settings.write_text(settings.read_text() + entry % ("two", etcd.address, prefix))
    code, _, err = await command.run("list")
    assert code == 2
    assert "there are: one, two" in err
    command.options += ("-r", "two")
    assert len(await command.keys()) == 1


@pytest.mark.parametrize("end", ["itself", "signal"])
async def test_an_instance_is_registered_while_a_command_runs(
    etcd: EtcdServer, command: Command, end: str
) -> None:
    """It is gone before the command is, so that nobody is sent there any more."""
    (command.folder / "a.yaml").write_text(INSTANCE)
    script = "trap 'touch asked; exit 3' TERM; while [ ! -e stop ]; do sleep 0.05; done; exit 7"
    process = await command.start("register", "a.yaml", "--ttl", "5s", "--", "sh", "-c", script)
    async with etcd.client() as client:
        (stored,) = await eventually(lambda: client.get(command.options[-1]))
        assert stored.lease
        if end == "itself":
            (command.folder / "stop").touch()
        else:
            process.terminate()
        assert await process.wait() == (7 if end == "itself" else 3)
        assert await client.get(command.options[-1]) == []
    assert (command.folder / "asked").exists() is (end == "signal")
