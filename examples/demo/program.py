"""Programs that the demo starts and ends: each writes a log, and none outlives the demo."""

import asyncio
import re
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from random import SystemRandom
from typing import Final

import msgspec

STOP_SECONDS: Final = 5.0


class DemoError(Exception):
    """The demo cannot go on; its text tells the user why, and what to do."""


class Program:
    """A running child process."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name: Final = name
        self._process: Final = process
        self._log: Final = log

    def check(self) -> None:
        """Raise DemoError if it has ended by itself."""
        code = self._process.returncode
        if code is not None:
            message = f"{self.name} has ended with code {code}:\n{self.last_words()}"
            raise DemoError(message)

    def last_words(self) -> str:
        """The end of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-5:])

    def problems(self) -> list[str]:
        """What a log of JSON lines tells of rules that are wrong."""
        events = [msgspec.json.decode(line) for line in self._log.read_bytes().splitlines()]
        return [each["problem"] for each in events if "problem" in each]

    async def stop(self) -> None:
        """End it, by force if it does not heed the first word."""
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def running(name: str, command: Sequence[str], folder: Path) -> AsyncIterator[Program]:
    """Run *command* for the block, with its log in *folder*.

    It has a session of its own, so that an interrupt on the terminal reaches the demo alone, which
    then ends everything in order.
    """
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *_bound_to_us(command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    program = Program(name, process, log)
    try:
        yield program
    finally:
        await program.stop()


def _bound_to_us(command: Sequence[str]) -> Sequence[str]:
    """Let the kernel end it if the demo is killed and cannot."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "TERM", *command) if setpriv else command


def find_program(name: str, advice: str) -> str:
    """The program of this Python's environment, else of the machine."""
    beside = Path(sys.executable).parent / name
    found = shutil.which(beside) or shutil.which(name)
    if found is None:
        message = f"there is no `{name}` beside {sys.executable} or on the PATH. {advice}"
        raise DemoError(message)
    return found


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    with ExitStack() as stack:
        # All are held until the last one is found, so that they differ.
        return [stack.enter_context(_taken_port()).getsockname()[1] for _ in range(count)]


def _taken_port() -> socket.socket:
    """The system gives higher ports to clients, which would take one away now and then."""
    while True:
        taken = socket.socket()
        try:
            taken.bind(("127.0.0.1", SystemRandom().randrange(20_000, 32_000)))
        except OSError:
            taken.close()
        else:
            return taken


def put_ports(text: str, ports: Mapping[int, int]) -> str:
    """Replace whole numbers that are keys of *ports*."""
    return re.sub(r"\b\d+\b", lambda found: str(ports.get(int(found[0]), found[0])), text)
