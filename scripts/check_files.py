"""Checks the form of every text file: line ends, trailing blanks, final newline, conflicts, size.

Without arguments it checks what git tracks; otherwise the files that are named.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

LARGEST = 1024 * 1024
CONFLICT = re.compile(rb"^(<{7}|>{7}|\|{7})( |$)", re.MULTILINE)
TRAILING = re.compile(rb"[ \t]+$", re.MULTILINE)


def tracked_files() -> list[Path]:
    """Return the files that git knows and that are still there."""
    listed = subprocess.run(["git", "ls-files", "-z"], stdout=subprocess.PIPE, check=True)
    paths = [Path(name) for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def line_of(content: bytes, offset: int) -> int:
    """Return the number of the line that holds *offset*."""
    return content.count(b"\n", 0, offset) + 1


def complaints(path: Path) -> Iterator[str]:
    """Yield what is wrong with one file."""
    content = path.read_bytes()
    if len(content) > LARGEST:
        yield f"{path}: {len(content)} bytes; larger than {LARGEST}"
    if b"\0" in content[:8192]:
        return
    if b"\r\n" in content:
        yield f"{path}: line ends of another system"
    if content and not content.endswith(b"\n"):
        yield f"{path}: no newline at the end"
    if content.endswith(b"\n\n"):
        yield f"{path}: empty lines at the end"
    for pattern, what in ((CONFLICT, "unresolved conflict"), (TRAILING, "trailing blanks")):
        if found := pattern.search(content):
            yield f"{path}:{line_of(content, found.start())}: {what}"


def main() -> int:
    """Print the complaints and return whether there are any."""
    paths = [Path(name) for name in sys.argv[1:]] or tracked_files()
    found = [complaint for path in paths for complaint in complaints(path)]
    for complaint in found:
        print(complaint)
    print(f"{len(paths)} files checked, {len(found)} complaints.")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
