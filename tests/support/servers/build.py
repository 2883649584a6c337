"""Builds the registries' servers from their Go modules, once on a machine.

``python -m tests.support.servers.build`` builds what is missing. Programs lie in a cache folder,
keyed by what they are built from; `MESH_AGGREGATOR_SERVERS` names another one than the user's.
"""

import argparse
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

HERE: Final = Path(__file__).parent
MODULE_FILES: Final = ("go.mod", "go.sum", "tools.go")
FLAGS: Final = ("-trimpath", "-buildvcs=false", "-ldflags=-s -w")
OLDEST_GO: Final = (1, 26)
CACHE_VARIABLE: Final = "MESH_AGGREGATOR_SERVERS"
PROGRESS_SECONDS: Final = 30.0


class Program(Struct, frozen=True):
    """One program: its package, the Go module that pins it, and the minutes it takes on two
    cores.
    """

    name: str
    folder: Path
    package: str
    minutes: int


KUBE_APISERVER: Final = Program(
    "kube-apiserver", HERE / "go" / "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", 4
)
CONSUL: Final = Program("consul", HERE / "go" / "consul", "github.com/hashicorp/consul", 7)
PROGRAMS: Final = (KUBE_APISERVER, CONSUL)


class BuildError(Exception):
    """A server could not be built; the message says why."""


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where programs are kept."""
    if named := environment.get(CACHE_VARIABLE):
        return Path(named)
    home = environment.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "mesh-aggregator" / "servers"


def program_path(program: Program, cache: Path | None = None) -> Path:
    """Where *program* is once it was built; another one as soon as its module changes."""
    digest = hashlib.sha256()
    parts = [(program.folder / name).read_bytes() for name in MODULE_FILES]
    parts += [part.encode() for part in (program.package, *FLAGS, sys.platform, platform.machine())]
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    folder = cache_folder() if cache is None else cache
    return folder / f"{program.name}-{digest.hexdigest()[:16]}" / program.name


def find_go() -> str:
    """The Go of the machine if it is new enough, else the one that was installed as a package.

    Raises `BuildError` if there is neither.
    """
    own = Path(sys.executable).parent
    path = os.pathsep.join(
        entry for entry in os.get_exec_path() if entry and Path(entry).absolute() != own
    )
    seen = []
    for found in (shutil.which("go", path=path), shutil.which("go", path=str(own))):
        if found is None:
            continue
        version = _go_version(found)
        if version >= OLDEST_GO:
            return found
        seen.append(f"{found} is {'.'.join(map(str, version))}")
    wanted = ".".join(map(str, OLDEST_GO))
    message = f"building needs Go {wanted} or newer: {', '.join(seen) or 'there is none'}"
    raise BuildError(message)


def _go_version(go: str) -> tuple[int, int]:
    answer = subprocess.run(
        [go, "env", "GOVERSION"],
        env=os.environ | {"GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        check=False,
    )
    match = re.match(r"go(\d+)\.(\d+)", answer.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def build(program: Program, cache: Path | None = None) -> Path:
    """The program's path, after building it if it is missing.

    Any number of processes may ask at once; one builds, the others wait. Raises `BuildError`.
    """
    path = program_path(program, cache)
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.with_name("lock"), program.name):
        if not path.exists():
            _build(program, path)
    return path


@contextmanager
def _locked(path: Path, name: str) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"{name}: waiting for another process that builds it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(program: Program, path: Path) -> None:
    go = find_go()
    _say(f"{program.name}: building {program.package}, about {program.minutes} minutes")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        made = Path(scratch) / program.name
        with _progress(program.name, started):
            _run([go, "build", *FLAGS, "-o", str(made), program.package], program.folder)
        made.replace(path)
    size = path.stat().st_size / 1e6
    _say(f"{program.name}: built in {time.monotonic() - started:.0f} s, {size:.0f} MB, {path}")


def _run(command: Sequence[str], folder: Path) -> None:
    own = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}
    done = subprocess.run(
        command, cwd=folder, env=os.environ | own, capture_output=True, text=True, check=False
    )
    if done.returncode:
        message = f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-4000:]}"
        raise BuildError(message)


@contextmanager
def _progress(name: str, started: float) -> Iterator[None]:
    done = threading.Event()

    def report() -> None:
        while not done.wait(PROGRESS_SECONDS):
            _say(f"{name}: still building, {time.monotonic() - started:.0f} s so far")

    reporter = threading.Thread(target=report, name=f"build {name}")
    reporter.start()
    try:
        yield
    finally:
        done.set()
        reporter.join()


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the named programs, or all; 1 if one could not be built."""
    names = [program.name for program in PROGRAMS]
    parser = argparse.ArgumentParser(prog="tests.support.servers.build", description=main.__doc__)
    parser.add_argument("--only", choices=names, action="append", help="build this one")
    wanted = parser.parse_args(arguments).only or names
    try:
        for program in PROGRAMS:
            if program.name in wanted:
                build(program)
    except BuildError as error:
        _say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
