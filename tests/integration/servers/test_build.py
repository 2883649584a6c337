"""Servers are built once, by whichever process comes first; Go is a script here."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.servers.build import BuildError, Program, build, cache_folder, program_path

GO = """#!/bin/sh
[ "$1" = env ] && { echo go{version}; exit; }
echo built >> {log}
{also}
while [ "$1" != -o ]; do shift; done
sleep 0.1
echo program > "$2"
"""


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """A module with one program."""
    folder = tmp_path / "module"
    folder.mkdir()
    for name in ("go.mod", "go.sum", "tools.go"):
        (folder / name).write_text(name)
    return Program("server", folder, "example.test/server", 1)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A line for each build."""
    return tmp_path / "log"


@pytest.fixture(autouse=True)
def _go(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Go that is new enough."""
    install_go(tmp_path, log)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")


def install_go(folder: Path, log: Path, *, version: str = "1.26.1", also: str = "") -> None:
    """Have a script for Go."""
    path = folder / "bin" / "go"
    path.parent.mkdir(exist_ok=True)
    text = GO.replace("{version}", version).replace("{log}", str(log)).replace("{also}", also)
    path.write_text(text)
    path.chmod(0o755)


def test_one_of_many_builds_and_all_have_it(program: Program, tmp_path: Path, log: Path) -> None:
    """Test runs that start at once do not build the same twice."""
    with ThreadPoolExecutor() as pool:
        paths = set(pool.map(lambda _: build(program, tmp_path / "cache"), range(4)))
    (path,) = paths
    assert path.read_text() == "program\n"
    assert log.read_text() == "built\n"


def test_another_version_is_another_program(program: Program, tmp_path: Path) -> None:
    """What is pinned anew is built anew, beside what is there."""
    before = program_path(program, tmp_path)
    (program.folder / "go.sum").write_text("other")
    assert program_path(program, tmp_path) != before


def test_a_build_that_fails_says_why_and_leaves_nothing(
    program: Program, tmp_path: Path, log: Path
) -> None:
    """Half a program is never taken for one."""
    install_go(tmp_path, log, also="echo no such package >&2; exit 1")
    with pytest.raises(BuildError, match="no such package"):
        build(program, tmp_path / "cache")
    assert not program_path(program, tmp_path / "cache").exists()
    install_go(tmp_path, log)
    assert build(program, tmp_path / "cache").exists()


def test_the_cache_is_where_the_environment_says(tmp_path: Path) -> None:
    """CI keeps it in a place of its own."""
    named = {"MESH_AGGREGATOR_SERVERS": str(tmp_path), "XDG_CACHE_HOME": "/elsewhere"}
    assert cache_folder(named) == tmp_path
    assert cache_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/mesh-aggregator/servers")
