"""What is found in a folder, whatever else lies there."""

import os
import threading
import time
from pathlib import Path

import pytest

from aggregator.folder.folder import LARGEST, NAMELESS, FileError, Folder
from aggregator.model.errors import AdapterUnavailableError

GLOB = ("*.yaml", "*.json")


def folder(path: Path, *, recursive: bool = True) -> Folder:
    """A folder with the usual names."""
    return Folder(path, GLOB, recursive=recursive)


def write(path: Path, text: str = "x") -> Path:
    """A file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_files_are_found_below_by_name(tmp_path: Path) -> None:
    """People sort services into folders of their own choice."""
    for name in ("a.yaml", "team/b.json", "team/deep/c.yaml", "README.md", "d.yaml~", "e.yaml.swp"):
        write(tmp_path / name)

    assert sorted(folder(tmp_path).list().files) == ["a.yaml", "team/b.json", "team/deep/c.yaml"]
    assert sorted(folder(tmp_path, recursive=False).list().files) == ["a.yaml"]


def test_hidden_files_and_folders_are_ignored(tmp_path: Path) -> None:
    """Editors and version control keep their own files there."""
    for name in (".a.yaml", ".#b.yaml", ".git/c.yaml", "team/.d.yaml"):
        write(tmp_path / name)

    assert folder(tmp_path).list().files == {}
    assert not folder(tmp_path).takes("team/.git/a.yaml")


def test_a_mounted_config_map_is_read_through_its_links(tmp_path: Path) -> None:
    """Each file is a link into a hidden folder, and counts once."""
    write(tmp_path / "..2026_01" / "a.yaml", "old")
    (tmp_path / "..data").symlink_to("..2026_01")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    before = folder(tmp_path).list()
    assert list(before.files) == ["a.yaml"]

    write(tmp_path / "..2026_02" / "a.yaml", "new")
    (tmp_path / "..data_tmp").symlink_to("..2026_02")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    after = folder(tmp_path).list()
    assert after.files["a.yaml"] != before.files["a.yaml"]
    text = folder(tmp_path).read("a.yaml")
    assert text is not None
    assert text.content == b"new"


def test_a_folder_named_like_a_file_is_a_folder(tmp_path: Path) -> None:
    """Names prove nothing."""
    write(tmp_path / "x.yaml" / "a.yaml")

    assert list(folder(tmp_path).list().files) == ["x.yaml/a.yaml"]
    with pytest.raises(IsADirectoryError):
        folder(tmp_path).read("x.yaml")


def test_links_that_loop_are_reported_and_end(tmp_path: Path) -> None:
    """A link to a folder above must not be followed for ever."""
    write(tmp_path / "team" / "a.yaml")
    (tmp_path / "team" / "up").symlink_to(tmp_path)
    (tmp_path / "self.yaml").symlink_to("self.yaml")

    listing = folder(tmp_path).list()

    assert list(listing.files) == ["team/a.yaml"]
    assert set(listing.faults) == {"team/up/", "self.yaml"}


def test_a_link_that_leads_nowhere_is_a_fault_and_not_an_absence(tmp_path: Path) -> None:
    """Its target may be on a disk that is not mounted right now."""
    (tmp_path / "a.yaml").symlink_to("nowhere")

    listing = folder(tmp_path).list()
    assert listing.faults == {"a.yaml": "the link leads nowhere"}
    assert not listing.knows("a.yaml")
    with pytest.raises(FileError, match="leads nowhere"):
        folder(tmp_path).read("a.yaml")


def test_a_file_that_vanished_is_gone_and_no_error(tmp_path: Path) -> None:
    """Between the event and the read anything may happen."""
    assert folder(tmp_path).read("a.yaml") is None
    write(tmp_path / "b.yaml")
    assert folder(tmp_path).read("b.yaml/below") is None


def test_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    """Reading a pipe would wait for ever."""
    os.mkfifo(tmp_path / "a.yaml")

    with pytest.raises(FileError, match="regular file"):
        folder(tmp_path).read("a.yaml")


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    """Somebody's database dump must not fill our memory."""
    with (tmp_path / "a.yaml").open("wb") as file:
        file.truncate(LARGEST + 1)

    with pytest.raises(FileError, match="at most 64 MiB"):
        folder(tmp_path).read("a.yaml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    """Permissions go wrong; the file is not gone."""
    write(tmp_path / "a.yaml").chmod(0)

    with pytest.raises(FileError, match="permission denied"):
        folder(tmp_path).read("a.yaml")


def test_below_an_unreadable_folder_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be looked at must not be taken for deleted."""
    write(tmp_path / "team" / "a.yaml")
    real = os.scandir

    def scandir(path: Path) -> object:
        if path.name == "team":
            raise PermissionError(13, "Permission denied")
        return real(path)

    # The system's own answer, which root would never get.
    monkeypatch.setattr("os.scandir", scandir)
    listing = folder(tmp_path).list()

    assert listing.faults == {"team/": "permission denied"}
    assert not listing.knows("team/a.yaml")
    assert listing.knows("other/a.yaml")


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    """Error is not empty."""
    with pytest.raises(AdapterUnavailableError, match=r"gone: no such file or directory"):
        folder(tmp_path / "gone")


def test_another_folder_under_the_same_path_is_noticed(tmp_path: Path) -> None:
    """Deployments switch a link from one release to the next."""
    for name in ("one", "two"):
        write(tmp_path / name / "a.yaml")
    (tmp_path / "now").symlink_to("one")
    watched = folder(tmp_path / "now")
    assert watched.same()

    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "now")
    assert not watched.same()

    (tmp_path / "now").unlink()
    with pytest.raises(AdapterUnavailableError):
        watched.same()


def test_a_single_file_is_a_folder_of_one(tmp_path: Path) -> None:
    """Five services need no folder; the name may be any."""
    write(tmp_path / "other.yaml")
    single = folder(write(tmp_path / "services.conf"))

    assert list(single.list().files) == ["services.conf"]
    assert not single.takes("other.yaml")


def test_an_emptied_file_is_read_again_before_it_is_believed(tmp_path: Path) -> None:
    """Writing in place cuts a file to nothing first."""
    path = write(tmp_path / "a.yaml", "")
    writer = threading.Timer(0.03, lambda: path.write_text("whole"))
    writer.start()

    text = folder(tmp_path).read("a.yaml", was_empty=False)
    writer.join()

    assert text is not None
    assert text.content == b"whole"


def test_a_large_file_is_read_once_its_writer_is_done(tmp_path: Path) -> None:
    """The first half of a YAML file is often a valid file too."""
    half = b"#" * 100_000
    path = tmp_path / "a.yaml"
    path.write_bytes(half)

    def append() -> None:
        for _ in range(5):
            with path.open("ab") as file:
                file.write(half)
            time.sleep(0.005)

    writer = threading.Thread(target=append)
    writer.start()
    text = folder(tmp_path).read("a.yaml")
    writer.join()

    assert text is not None
    assert len(text.content) == 600_000


def test_a_file_that_stays_empty_is_empty(tmp_path: Path) -> None:
    """Somebody may mean it."""
    write(tmp_path / "a.yaml", "")

    text = folder(tmp_path).read("a.yaml", was_empty=False)

    assert text is not None
    assert text.content == b""


def test_a_stamp_of_a_fresh_file_is_not_settled(tmp_path: Path) -> None:
    """Two writes within one tick of the file system's clock have the same stamp."""
    path = write(tmp_path / "a.yaml")
    fresh = folder(tmp_path).read("a.yaml")
    os.utime(path, (time.time() - 5, time.time() - 5))
    old = folder(tmp_path).read("a.yaml")

    assert fresh is not None
    assert old is not None
    assert (fresh.settled, old.settled) == (False, True)


def test_names_that_are_no_text_are_reported_and_not_read(tmp_path: Path) -> None:
    """They could be shown neither in a log nor in a debug view."""
    for name in (b"a\xff.yaml", b"notes\xff", b"team\xff/b.yaml", "ü.yaml".encode()):
        write(tmp_path / os.fsdecode(name))

    listing = folder(tmp_path).list()

    assert list(listing.files) == ["ü.yaml"]
    assert listing.faults == {"a\\udcff.yaml": NAMELESS, "team\\udcff/": NAMELESS}


def test_links_beside_a_single_file_are_none_of_its_business(tmp_path: Path) -> None:
    """Folders that are not read cannot be wrong."""
    (tmp_path / "self").symlink_to(".")
    write(tmp_path / "a.yaml")

    assert folder(tmp_path / "a.yaml").list().faults == {}
    assert folder(tmp_path, recursive=False).list().faults == {}
