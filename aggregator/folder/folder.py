"""What is in a folder, and the text of one file in it. Blocking: called from worker threads.

Knows nothing of what the files say. Links are followed, so that mounted ConfigMaps, whose files are
links into a hidden folder, are read like any other.
"""

import errno
import io
import os
import stat
import time
from collections.abc import Iterable
from fnmatch import fnmatchcase
from hashlib import blake2b
from pathlib import Path
from typing import Final

from msgspec import Struct

from aggregator.model.errors import AdapterUnavailableError

LARGEST: Final = 64 * 2**20
DANGLING: Final = "the link leads nowhere"
NAMELESS: Final = "expected a name in UTF-8"
_LARGE: Final = 64 * 2**10
_QUIET: Final = 0.02
_QUIET_WHEN_EMPTY: Final = 0.5
_PATIENCE: Final = 1.0

_Identity = tuple[int, int]
"""Device and inode."""


class Stamp(Struct, frozen=True):
    """What stat tells of a file's content: another stamp may be another content."""

    device: int
    inode: int
    size: int
    modified: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        """The stamp in a stat result."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class Text(Struct, frozen=True):
    """A file's bytes, their digest, and when they were read (nanoseconds since the epoch)."""

    content: bytes
    digest: bytes
    stamp: Stamp
    read_at: int

    @property
    def settled(self) -> bool:
        """Whether a later change would show in the stamp, whose clock ticks coarsely."""
        return self.read_at - self.stamp.modified > 1_000_000_000


class Listing(Struct, frozen=True):
    """The files of a folder with their stamps, and what could not be looked at, with the reason.

    A path in `faults` that ends in a slash is a folder; what is below it is unknown, not gone.
    """

    files: dict[str, Stamp]
    faults: dict[str, str]

    def knows(self, scope: str) -> bool:
        """Whether the listing can say that a file is gone."""
        return scope not in self.faults and not any(
            fault.endswith("/") and scope.startswith(fault) for fault in self.faults
        )


class FileError(Exception):
    """One file cannot be read; the text says why."""


class Folder:
    """A folder, or a single file taken as the only one of its folder."""

    def __init__(self, path: Path, patterns: Iterable[str], *, recursive: bool) -> None:
        try:
            status = path.stat()
        except OSError as error:
            raise unavailable(path, error) from error
        self.is_file: Final = not stat.S_ISDIR(status.st_mode)
        self.path: Final = path.parent if self.is_file else path
        # The watcher tells absolute paths; messages say what people wrote.
        self.absolute: Final = self.path.absolute()
        self.recursive: Final = recursive and not self.is_file
        self._names: Final = (path.name,) if self.is_file else tuple(patterns)
        self._given: Final = path
        self._identity: Final = self._identify()

    def same(self) -> bool:
        """Whether the path still leads to the same folder.

        Raises AdapterUnavailableError if it leads nowhere.
        """
        return self._identify() == self._identity

    def _identify(self) -> _Identity:
        try:
            status = self.path.stat()
            if self.is_file:
                self._given.stat()
        except OSError as error:
            raise unavailable(self._given, error) from error
        return (status.st_dev, status.st_ino)

    def takes(self, scope: str) -> bool:
        """Whether a path in the folder is one of its files, by name."""
        *above, name = scope.split("/")
        if any(part.startswith(".") for part in (*above, name)) or (above and not self.recursive):
            return False
        if self.is_file:
            return name in self._names
        return any(fnmatchcase(name, pattern) for pattern in self._names)

    def has_folder(self, path: str) -> bool:
        """Whether there is a folder of that name that is listed too."""
        return self.recursive and (self.path / path).is_dir()

    def list(self) -> Listing:
        """All files. Raises AdapterUnavailableError if the folder itself cannot be listed."""
        listing = Listing({}, {})
        status = self.path.stat()
        folders: list[tuple[str, tuple[_Identity, ...]]]
        folders = [("", ((status.st_dev, status.st_ino),))]
        while folders:
            above, ancestors = folders.pop()
            try:
                with os.scandir(self.path / above) as entries:
                    for entry in entries:
                        inner = self._look(entry, above + entry.name, ancestors, listing)
                        if inner is not None:
                            folders.append((above + entry.name + "/", (*ancestors, inner)))
            except FileNotFoundError as error:
                if not above:
                    raise unavailable(self.path, error) from error
            except OSError as error:
                if not above:
                    raise unavailable(self.path, error) from error
                listing.faults[above] = _reason(error)
        return listing

    def _look(
        self,
        entry: "os.DirEntry[str]",
        scope: str,
        ancestors: tuple[_Identity, ...],
        listing: Listing,
    ) -> _Identity | None:
        """Note a file; the identity of a folder that is to be listed too."""
        if entry.name.startswith("."):
            return None
        if not _is_text(entry.name):
            # Such a name cannot be shown, nor sent anywhere.
            self._note_nameless(entry, scope, listing)
            return None
        try:
            status = entry.stat()
        except OSError as error:
            if self.takes(scope) and (error.errno != errno.ENOENT or entry.is_symlink()):
                dangling = error.errno == errno.ENOENT
                listing.faults[scope] = DANGLING if dangling else _reason(error)
            return None
        if stat.S_ISDIR(status.st_mode):
            if not self.recursive:
                return None
            identity = (status.st_dev, status.st_ino)
            if identity in ancestors:
                listing.faults[scope + "/"] = "the link leads back to a folder above it"
                return None
            return identity
        if self.takes(scope):
            listing.files[scope] = Stamp.of(status)
        return None

    def _note_nameless(self, entry: "os.DirEntry[str]", scope: str, listing: Listing) -> None:
        shown = scope.encode(errors="backslashreplace").decode()
        if self.takes(shown):
            listing.faults[shown] = NAMELESS
        elif self.recursive and entry.is_dir():
            listing.faults[shown + "/"] = NAMELESS

    def read(self, scope: str, *, was_empty: bool = True) -> Text | None:
        """A file's text once nobody seems to be writing it; None if it is gone.

        Raises FileError for one that is there and cannot be read, and IsADirectoryError.
        """
        path = self.path / scope
        began = time.monotonic()
        try:
            text = _read(path)
            while _unsteady(text, was_empty=was_empty) and time.monotonic() - began < _PATIENCE:
                time.sleep(_QUIET / 2)
                text = _read(path)
        except FileNotFoundError as error:
            if path.is_symlink():
                raise FileError(DANGLING) from error
            return None
        except NotADirectoryError:
            return None
        except IsADirectoryError:
            raise
        except OSError as error:
            raise FileError(_reason(error)) from error
        return text


def _unsteady(text: Text, *, was_empty: bool) -> bool:
    """Whether a writer may be at it: very fresh, and large or just cut to nothing."""
    age = (text.read_at - text.stamp.modified) / 1e9
    if not text.content and not was_empty:
        return 0 <= age < _QUIET_WHEN_EMPTY
    return len(text.content) >= _LARGE and 0 <= age < _QUIET


def _read(path: Path) -> Text:
    # Opening a pipe would wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with io.FileIO(descriptor) as file:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(path)
        if not stat.S_ISREG(status.st_mode):
            message = "expected a regular file"
            raise FileError(message)
        read_at = time.time_ns()
        if status.st_size <= LARGEST:
            content = file.readall()
            if len(content) <= LARGEST:
                return Text(content, digest(content), Stamp.of(status), read_at)
        message = f"expected at most {LARGEST // 2**20} MiB, found {status.st_size} bytes"
        raise FileError(message)


def _is_text(name: str) -> bool:
    """Whether the bytes of a file's name are UTF-8; others come as lone surrogates."""
    return name.isascii() or not any("\ud800" <= each <= "\udfff" for each in name)


def digest(content: bytes) -> bytes:
    """Equal for equal content."""
    return blake2b(content, digest_size=16).digest()


def unavailable(path: Path, error: OSError) -> AdapterUnavailableError:
    """The error for a folder that cannot be looked at."""
    return AdapterUnavailableError(f"{path}: {_reason(error)}")


def _reason(error: OSError) -> str:
    """The system's own word, in our form."""
    return (error.strerror or str(error)).lower()
