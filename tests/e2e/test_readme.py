"""The five-minute start of README.md, with its very commands."""

import os
import re
import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from examples.demo.program import free_ports, put_ports
from tests.support.servers.envoy import find_envoy

ROOT: Final = Path(__file__).parents[2]
USUAL_PORTS: Final = (8001, 8002, 9080, 9901, 15010, 15014)

pytestmark = pytest.mark.e2e


def commands() -> list[str]:
    """What the section tells to type, in order."""
    section = re.split(r"^## ", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    start = next(part for part in section if part.startswith("Five minutes"))
    copy = re.findall(r"`(cp [^`]+)`", start)
    return [*copy, *"".join(re.findall(r"```sh\n(.*?)```", start, re.DOTALL)).splitlines()]


def a_copy(folder: Path, ports: dict[int, int]) -> None:
    """What the commands use of the tree, with free ports in place of the usual ones."""
    (folder / ".venv").symlink_to(ROOT / ".venv")
    shutil.copytree(ROOT / "examples", folder / "examples")
    for file in (folder / "examples").rglob("*.yaml"):
        file.write_text(put_ports(file.read_text(), ports))


def test_the_five_minute_start_ends_with_an_answer_through_envoy(tmp_path: Path) -> None:
    """Who follows it word by word arrives; a command that was renamed fails here."""
    find_envoy()
    chosen = dict(zip(USUAL_PORTS, free_ports(len(USUAL_PORTS)), strict=True))
    a_copy(tmp_path, chosen)
    *before, last = (put_ports(line, chosen) for line in commands())
    serve = f" --grpc-address 127.0.0.1:{chosen[15010]} --http-address 127.0.0.1:{chosen[15014]}"
    with ExitStack() as stack, (tmp_path / "log").open("wb") as log:
        for line in before:
            words = line.split("#")[0] + (serve if " serve " in line else "")
            if line.startswith("cp "):
                subprocess.run(words.split(), cwd=tmp_path, check=True)
                continue
            # Each test has an Envoy of its own on the machine.
            words += " --use-dynamic-base-id" if "envoy -c" in line else ""
            process = subprocess.Popen(words.split(), cwd=tmp_path, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        answer = ask(last, tmp_path)

    assert answer in {"hello from v1\n", "hello from v2\n"}, (tmp_path / "log").read_text()


def ask(command: str, folder: Path) -> str:
    """Repeat the request until somebody answers; the last answer in the end."""
    deadline = time.monotonic() + 30
    answer = ""
    while "hello" not in answer and time.monotonic() < deadline:
        time.sleep(0.1)
        run = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env={**os.environ, "NO_PROXY": "127.0.0.1"},
            capture_output=True,
            text=True,
            check=False,
        )
        answer = run.stdout
    return answer
