"""A server's process: started, waited for, frozen, killed, and back on the same port and data."""

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pytest

from tests.support.poll import eventually
from tests.support.servers.build import Program, program_path

STOP_SECONDS: Final = 10.0
LOG_TAIL: Final = 6_000


class Server:
    """A process with a folder of its own. Subclasses say its command and when it is ready.

    Everything that waits has two forms: `start` and `stop` for tests, and `start_now` and `kill`
    for fixtures that outlive an event loop.
    """

    seconds_to_start: float = 30.0

    def __init__(self, name: str, folder: Path) -> None:
        self.name: Final = name
        self.folder: Final = folder
        self.log: Final = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def command(self) -> Sequence[str]:
        """The program and its arguments; asked anew at each start."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Whether it answers. May block for a second; OSError means that it does not."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            error.add_note(f"{self.name}'s log:\n{self.log_tail()}")
        self.kill()

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id. Raises AssertionError if it was not started."""
        assert self._process is not None
        return self._process.pid

    def launch(self) -> None:
        """Start the process and do not wait for it."""
        assert not self.running, f"{self.name} is running"
        command = list(self.command())
        # So that it ends with us however we end.
        if guard := shutil.which("setpriv"):
            command = [guard, "--pdeathsig", "KILL", *command]
        with self.log.open("ab") as sink:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, cwd=self.folder
            )

    async def start(self) -> None:
        """Start it and return once it answers."""
        self.launch()
        try:
            await eventually(
                lambda: asyncio.to_thread(self._check),
                seconds=self.seconds_to_start,
                every=0.05,
                hint=f"{self.name} did not start",
            )
        except BaseException as error:
            error.add_note(f"{self.name}'s log:\n{self.log_tail()}")
            self.kill()
            raise

    def start_now(self) -> None:
        """`start` where no event loop runs."""
        self.launch()
        deadline = time.monotonic() + self.seconds_to_start
        while True:
            try:
                if self._check():
                    return
            except OSError:
                pass
            if time.monotonic() > deadline:
                tail = self.log_tail()
                self.kill()
                message = f"{self.name} did not start in {self.seconds_to_start} s:\n{tail}"
                raise RuntimeError(message)
            time.sleep(0.05)

    async def stop(self) -> None:
        """Ask it to end, as one who maintains it would."""
        if self.running:
            self._send(signal.SIGTERM)
            try:
                await eventually(lambda: not self.running, seconds=STOP_SECONDS)
            except AssertionError:
                self.kill()

    def kill(self) -> None:
        """End it at once, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """Let connections open and answer nothing, until `thaw`."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on."""
        self._send(signal.SIGCONT)

    async def restart(self) -> None:
        """Kill it if it runs, and start it on the same port and data."""
        self.kill()
        await self.start()

    def log_tail(self) -> str:
        """The end of what it logged."""
        return self.log.read_text(errors="replace")[-LOG_TAIL:] if self.log.exists() else ""

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _check(self) -> bool:
        if not self.running:
            code = self._process.returncode if self._process else None
            message = f"{self.name} ended with {code}:\n{self.log_tail()}"
            raise RuntimeError(message)
        return self.is_ready()


class StoredServer(Server):
    """A server that keeps what it knows in `data`, which can be set back while it does not run."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name, folder)
        self.data: Final = folder / "data"

    def back_up(self) -> Path:
        """Copy what it knows; `restore` takes it back. It must not run."""
        self._must_not_run()
        number = len(list(self.folder.glob("backup-*")))
        return Path(shutil.copytree(self.data, self.folder / f"backup-{number}"))

    def restore(self, backup: Path) -> None:
        """Know what it knew then, with the revisions of that time. It must not run."""
        self.wipe()
        shutil.copytree(backup, self.data)

    def wipe(self) -> None:
        """Know nothing. It must not run."""
        self._must_not_run()
        shutil.rmtree(self.data, ignore_errors=True)

    def _must_not_run(self) -> None:
        assert not self.running, f"{self.name} is running"


def need(program: Program) -> str:
    """The path of a program that is built from source. Where it is missing the test is skipped on a
    developer's machine and fails in CI.
    """
    path = program_path(program)
    if path.exists():
        return str(path)
    message = f"{program.name} is not built; `make servers` does it"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
