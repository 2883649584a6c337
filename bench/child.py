"""Processes of the benchmark: commands go in and answers come out, one at a time.

A child ends with its parent, however that ends, and with an interrupt only when the parent says so.
"""

import asyncio
import ctypes
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Coroutine
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import uvloop
from msgspec import Struct

T = TypeVar("T")

PR_SET_PDEATHSIG: Final = 1


class BenchError(Exception):
    """The benchmark cannot go on."""


class Usage(Struct, frozen=True):
    """What a process has used up to now."""

    cpu_seconds: float
    peak_mb: float
    rss_mb: float


class AskUsage(Struct, frozen=True):
    """A command that every child understands."""


class _Failed(Struct, frozen=True):
    """The answer to a command that could not be carried out."""

    reason: str


class Commands:
    """The child's end."""

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self._connection: Final = connection
        self._readable: Final = asyncio.Event()
        asyncio.get_running_loop().add_reader(connection.fileno(), self._readable.set)
        # The loop would have answers larger than the pipe fail.
        os.set_blocking(connection.fileno(), True)

    async def take(self) -> Any:
        """The next command. The process ends when the parent is gone."""
        while True:
            self._readable.clear()
            while not self._connection.poll():
                await self._readable.wait()
                self._readable.clear()
            try:
                command = self._connection.recv()
            except EOFError:
                os._exit(1)
            if not isinstance(command, AskUsage):
                return command
            self.answer(_own_usage())

    def answer(self, value: object) -> None:
        """Answer the command that was taken."""
        self._connection.send(value)


Main = Callable[[Commands], Coroutine[Any, Any, None]]


class Child:
    """The parent's end: a started process that runs *main* until it is closed."""

    def __init__(self, main: Main, log: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._log: Final = log
        self._process: Final = context.Process(
            target=_run, args=(main, theirs, log, os.getpid()), daemon=True
        )
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        """Close it at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Kill it: nothing that it has is to be kept."""
        self._process.kill()
        self._process.join()
        self._connection.close()

    def tell(self, command: object) -> None:
        """Give a command whose answer is collected later."""
        self._connection.send(command)

    def answer(self, of: type[T], seconds: float = 60.0) -> T:
        """The answer to the command that was given last.

        Raises BenchError if there is none in time, or another one than expected.
        """
        try:
            if not self._connection.poll(seconds):
                message = f"no answer within {seconds:g} s{self._last_words()}"
                raise BenchError(message)
            value = self._connection.recv()
        except (EOFError, OSError) as error:
            message = f"the process ended{self._last_words()}"
            raise BenchError(message) from error
        if isinstance(value, _Failed):
            raise BenchError(value.reason)
        if not isinstance(value, of):
            message = f"expected {of.__name__}, got {value!r}"
            raise BenchError(message)
        return value

    def ask(self, command: object, of: type[T], seconds: float = 60.0) -> T:
        """Give a command and wait for its answer."""
        self.tell(command)
        return self.answer(of, seconds)

    def usage(self) -> Usage:
        """What it has used, as it says itself: the system's own table counts in hundredths."""
        return self.ask(AskUsage(), Usage)

    def _last_words(self) -> str:
        text = self._log.read_text(errors="replace").strip() if self._log.exists() else ""
        return "; its last words:\n" + "\n".join(text.splitlines()[-20:]) if text else ""


def _run(main: Main, connection: "Connection[Any, Any]", log: Path, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 2)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(main, connection))
    except BaseException:
        connection.send(_Failed(traceback.format_exc()))
        raise


async def _serve(main: Main, connection: "Connection[Any, Any]") -> None:
    await main(Commands(connection))


def usage_of(pid: int) -> Usage:
    """What another process has used; CPU in hundredths of a second."""
    proc = Path("/proc") / str(pid)
    fields = (proc / "stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return _usage(proc, ticks / os.sysconf("SC_CLK_TCK"))


def _own_usage() -> Usage:
    return _usage(Path("/proc/self"), time.process_time())


def _usage(proc: Path, cpu_seconds: float) -> Usage:
    lines = (proc / "status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    return Usage(cpu_seconds, _megabytes(status["VmHWM"]), _megabytes(status["VmRSS"]))


def _megabytes(text: str) -> float:
    return int(text.split()[0]) * 1024 / 1e6
