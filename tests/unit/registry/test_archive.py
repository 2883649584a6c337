"""Saved states on a disk."""

import os
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from aggregator.model.registry import Content, ServiceItem, ShardKey
from aggregator.registry.archive import Archive
from aggregator.registry.saved import Head
from tests.support.builders import endpoint, service

SHARD = ShardKey("east", "all", Content.SERVICES)
ITEM = ServiceItem("shop", "a.mesh", service("a.mesh", namespace="shop"), (endpoint(),))
HEAD = Head("east", "fake")


class Time:
    """The world's time."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Folder:
    """An archive in a folder, and what it logs."""

    def __init__(self, path: Path, max_age: float = 3600.0) -> None:
        self.path = path / "state"
        self.time = Time()
        self.logged = LogCapture()
        log = structlog.wrap_logger(None, processors=[self.logged])
        self.archive = Archive(self.path, max_age, clock=self.time, log=log)

    @property
    def reasons(self) -> list[Any]:
        """Why states were not used."""
        return [each["reason"] for each in self.logged.entries]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """An archive without files."""
    return Folder(tmp_path)


async def test_what_was_saved_is_recalled_with_its_age(folder: Folder) -> None:
    """The age is that of the last moment in sync."""
    await folder.archive.save(HEAD, {SHARD: {"a": ITEM}})
    folder.time.now += 100
    recalled = await folder.archive.recall("east", "fake")

    assert recalled.state is not None
    assert recalled.state.shards == {SHARD: {"a": ITEM}}
    assert recalled.age == 100
    await folder.archive.touch("east")
    assert (await folder.archive.recall("east", "fake")).age == 0


async def test_nothing_saved_is_no_fault(folder: Folder) -> None:
    """The first start is nobody's mistake."""
    recalled = await folder.archive.recall("east", "fake")

    assert (recalled.state, recalled.fault, folder.reasons) == (None, "", [])


async def test_state_that_is_too_old_is_not_used(folder: Folder) -> None:
    """After days most of it would be wrong."""
    await folder.archive.save(HEAD, {})
    folder.time.now += 3601
    recalled = await folder.archive.recall("east", "fake")

    assert recalled.state is None
    assert folder.reasons == ["it is 3601 s old; more than the set age"]


async def test_a_clock_that_was_set_back_makes_nothing_old(folder: Folder) -> None:
    """Machines without a battery start in the past."""
    await folder.archive.save(HEAD, {})
    folder.time.now -= 10_000_000
    recalled = await folder.archive.recall("east", "fake")

    assert recalled.state is not None
    assert recalled.age == 0


async def test_state_of_another_registry_is_not_used(folder: Folder) -> None:
    """Names get new meanings, and files are copied."""
    await folder.archive.save(HEAD, {})
    assert (await folder.archive.recall("east", "other")).state is None
    (folder.path / "east.state").rename(folder.path / "west.state")
    assert (await folder.archive.recall("west", "fake")).state is None

    assert folder.reasons == ["it is of the registry 'east' of type 'fake'"] * 2


async def test_a_damaged_file_is_told_of(folder: Folder) -> None:
    """The registry is then read as if there were none."""
    await folder.archive.save(HEAD, {SHARD: {"a": ITEM}})
    path = folder.path / "east.state"
    path.write_bytes(path.read_bytes()[:-3])
    recalled = await folder.archive.recall("east", "fake")

    assert recalled.state is None
    assert folder.reasons == ["it is damaged: its checksum is another one"]


async def test_a_file_that_cannot_be_read_is_told_of(folder: Folder) -> None:
    """A folder in its place, for example."""
    (folder.path / "east.state").mkdir(parents=True)
    recalled = await folder.archive.recall("east", "fake")

    assert recalled.fault.startswith("it cannot be read: ")


async def test_only_the_owner_reads_the_files(folder: Folder) -> None:
    """They tell the whole network."""
    await folder.archive.save(HEAD, {})

    assert (folder.path / "east.state").stat().st_mode & 0o077 == 0
    assert folder.path.stat().st_mode & 0o077 == 0


async def test_a_failed_save_leaves_the_old_file(folder: Folder) -> None:
    """A full disk must not cost what was there."""
    await folder.archive.save(HEAD, {SHARD: {"a": ITEM}})
    (folder.path / "east.new").mkdir()
    with pytest.raises(OSError, match=os.strerror(21)):
        await folder.archive.save(HEAD, {})
    recalled = await folder.archive.recall("east", "fake")

    assert recalled.state is not None
    assert list(recalled.state.shards) == [SHARD]


async def test_a_forgotten_registry_has_no_file(folder: Folder) -> None:
    """Nor is there a fault if it never had one."""
    await folder.archive.save(HEAD, {})
    await folder.archive.forget("east")
    await folder.archive.forget("east")

    assert list(folder.path.iterdir()) == []
