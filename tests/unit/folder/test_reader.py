"""What is read again, and what came of it."""

import os
from pathlib import Path

from aggregator.folder.folder import Folder, Stamp
from aggregator.folder.reader import (
    MOST_AT_ONCE,
    FileContent,
    Reader,
    Remembered,
    chunks,
    stale,
)
from aggregator.model.errors import Origin, Problem

GOOD = "good %d"


def decode(text: bytes, source: str) -> FileContent:
    """A file is broken if it says so."""
    broken = b"broken" in text
    problems = (Problem(Origin(source), "", "it is broken"),) if broken else ()
    return FileContent({}, problems, broken=broken)


def reader(path: Path) -> tuple[Folder, Reader]:
    """A reader of a folder."""
    folder = Folder(path, ("*.yaml",), recursive=True)
    return folder, Reader(folder, decode)


def test_a_file_with_the_same_bytes_is_not_decoded_again(tmp_path: Path) -> None:
    """A thousand files that a tool has written anew cost a thousand reads and nothing else."""
    (tmp_path / "a.yaml").write_text(GOOD % 1)
    _, files = reader(tmp_path)
    (first,) = files.read(["a.yaml"], {})
    assert first.content is not None
    assert first.remembered is not None

    (second,) = files.read(["a.yaml"], {"a.yaml": first.remembered})

    assert second.unchanged
    assert second.content is None


def test_a_broken_file_has_problems_and_no_content(tmp_path: Path) -> None:
    """The last good content is not touched."""
    (tmp_path / "a.yaml").write_text("broken")
    _, files = reader(tmp_path)
    (result,) = files.read(["a.yaml"], {})

    assert result.content is None
    assert result.problems
    assert not result.gone


def test_a_fresh_file_is_read_again_at_the_next_look(tmp_path: Path) -> None:
    """A second write within one tick of the file system's clock leaves no mark but its bytes."""
    path = tmp_path / "a.yaml"
    path.write_text(GOOD % 1)
    folder, files = reader(tmp_path)
    (first,) = files.read(["a.yaml"], {})
    assert first.remembered is not None
    times = path.stat()
    path.write_text(GOOD % 2)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert Stamp.of(path.stat()) == Stamp.of(times)

    assert stale(folder.list(), {"a.yaml": first.remembered}) == ["a.yaml"]


def test_an_old_file_with_the_same_stamp_is_not_read_again(tmp_path: Path) -> None:
    """A rescan of a thousand files that nobody touched costs a listing."""
    path = tmp_path / "a.yaml"
    path.write_text(GOOD % 1)
    os.utime(path, (1.0, 1.0))
    folder, files = reader(tmp_path)
    (first,) = files.read(["a.yaml"], {})
    assert first.remembered is not None
    memory = {"a.yaml": first.remembered}
    assert stale(folder.list(), memory) == []

    os.utime(path, (2.0, 2.0))
    assert stale(folder.list(), memory) == ["a.yaml"]


def test_only_paths_that_concern_files_ask_for_a_listing(tmp_path: Path) -> None:
    """Editors leave all sorts of files while they work; listing a large folder is not free."""
    (tmp_path / "team").mkdir()
    _, files = reader(tmp_path)
    memory = {"gone/a.yaml": Remembered(b"", None, empty=False)}

    for path in ("a.yaml~", "4913", ".a.yaml.swp", ".git/index", "README.md"):
        assert not files.take({path}, memory).unclear, path
    for path in ("team", "gone", "..data", "..2026/a.yaml", "."):
        assert files.take({path}, memory).unclear, path
    burst = {f"s{number}.yaml" for number in range(MOST_AT_ONCE + 1)}
    assert files.take(burst, memory).unclear


def test_large_folders_are_read_in_parts() -> None:
    """Between the parts the event loop turns, and proxies are served."""
    small, large = Stamp(1, 1, 500, 0), Stamp(1, 1, 10_000_000, 0)
    names = [f"s{number}" for number in range(1000)]

    parts = list(chunks(names, dict.fromkeys(names, small) | {"s500": large}))

    assert [name for part in parts for name in part] == names
    assert 10 < len(parts) < 40
    assert parts[-1] != []
