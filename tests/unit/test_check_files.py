"""The check of every file's form finds what reviewers should not have to."""

from pathlib import Path

import pytest

from scripts.check_files import LARGEST, complaints


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"fine\n", None),
        (b"", None),
        (b"bin\0ary \n\n", None),
        (b"fine\nblank \n", "2: trailing blanks"),
        (b"fine\r\n", "line ends of another system"),
        (b"fine", "no newline at the end"),
        (b"fine\n\n", "empty lines at the end"),
        (b"=======\n", None),
        (b"fine\n" + b"<" * 7 + b" ours\n", "2: unresolved conflict"),
        (b"x" * LARGEST + b"\n", "larger than"),
    ],
)
def test_finds_bad_form(content: bytes, complaint: str | None, tmp_path: Path) -> None:
    """Each fault is named, and good and binary files pass."""
    path = tmp_path / "file.txt"
    path.write_bytes(content)

    found = list(complaints(path))

    if complaint is None:
        assert found == []
    else:
        assert any(complaint in each for each in found)
