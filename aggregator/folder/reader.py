"""Reads files of a folder and remembers what each said last. Blocking: called from worker threads.

Says what is new, what is broken and what is gone; feeding the mesh is the adapter's work.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Final

from msgspec import Struct

from aggregator.folder.folder import FileError, Folder, Listing, Stamp
from aggregator.model.errors import Origin, Problem
from aggregator.model.registry import Content, Item

MOST_AT_ONCE: Final = 64


class FileContent(Struct, frozen=True):
    """What one file gives: items by key, for each kind of content that files of its sort may have.

    If it is `broken`, `problems` are errors and the items do not count.
    """

    items: Mapping[Content, Mapping[str, Item]]
    problems: tuple[Problem, ...] = ()
    broken: bool = False


Decode = Callable[[bytes, str], FileContent]
"""A file's text, and what messages call it, to what it gives. Pure."""


class Remembered(Struct, frozen=True):
    """A file as it was last read; `stamp` is None where a look at it must not be believed."""

    digest: bytes
    stamp: Stamp | None
    empty: bool


UNREADABLE: Final = Remembered(b"", None, empty=False)


class Result(Struct, frozen=True):
    """What came of reading one file.

    `content` is None if it is unchanged, broken or gone; then the last good content stays.
    """

    scope: str
    remembered: Remembered | None = None
    content: FileContent | None = None
    problems: tuple[Problem, ...] = ()
    gone: bool = False
    unchanged: bool = False


class Batch(Struct, frozen=True):
    """What came of some changed paths; if `unclear`, only a listing tells what is there."""

    same_folder: bool = True
    unclear: bool = False
    results: tuple[Result, ...] = ()


class Reader:
    """Reads on behalf of one run of the adapter. The memory is the caller's, who keeps it."""

    def __init__(self, folder: Folder, decode: Decode) -> None:
        self._folder = folder
        self._decode = decode

    def take(self, paths: Set[str], memory: Mapping[str, Remembered]) -> Batch:
        """Read what the watcher told of, unless that were better listed.

        Raises AdapterUnavailableError if the folder is gone.
        """
        if not self._folder.same():
            return Batch(same_folder=False)
        scopes = sorted(path for path in paths if self._folder.takes(path))
        others = paths - set(scopes)
        if len(paths) > MOST_AT_ONCE or any(self._concerns_folder(each, memory) for each in others):
            return Batch(unclear=True)
        results = self.read(scopes, memory)
        return Batch(unclear=len(results) < len(scopes), results=tuple(results))

    def _concerns_folder(self, path: str, memory: Mapping[str, Remembered]) -> bool:
        """Whether a path that is no file of ours may have brought or taken files."""
        parts = path.split("/")
        if path == "." or any(part.startswith("..") for part in parts):
            return True  # The folder itself, or the hidden one that a ConfigMap's links lead into.
        if any(part.startswith(".") for part in parts):
            return False
        return self._folder.has_folder(path) or any(
            scope.startswith(path + "/") for scope in memory
        )

    def read(self, scopes: Iterable[str], memory: Mapping[str, Remembered]) -> list[Result]:
        """Read files; those that turn out to be folders are left out."""
        results = []
        for scope in scopes:
            with contextlib.suppress(IsADirectoryError):
                results.append(self._read(scope, memory.get(scope)))
        return results

    def _read(self, scope: str, known: Remembered | None) -> Result:
        try:
            text = self._folder.read(scope, was_empty=known is None or known.empty)
        except FileError as error:
            problem = self.fault(scope, str(error))
            return Result(scope, UNREADABLE, problems=(problem,))
        if text is None:
            return Result(scope, gone=True)
        stamp = text.stamp if text.settled else None
        remembered = Remembered(text.digest, stamp, empty=not text.content)
        if known is not None and known.digest == text.digest:
            return Result(scope, remembered, unchanged=True)
        content = self._decode(text.content, self.source(scope))
        if content.broken:
            return Result(scope, remembered, problems=content.problems)
        return Result(scope, remembered, content, content.problems)

    def source(self, scope: str) -> str:
        """How messages call a file."""
        return str(self._folder.path / scope)

    def fault(self, scope: str, message: str) -> Problem:
        """The problem of a file or folder that cannot be read."""
        return Problem(Origin(self.source(scope)), "", message)


def stale(listing: Listing, memory: Mapping[str, Remembered]) -> list[str]:
    """Listed files that may have changed since they were read, sorted."""
    return sorted(
        scope
        for scope, stamp in listing.files.items()
        if scope not in memory or memory[scope].stamp != stamp
    )


def chunks(listing: Sequence[str], sizes: Mapping[str, Stamp]) -> Iterator[list[str]]:
    """Cut a long list of files so that reading each part takes some 20 ms."""
    part: list[str] = []
    weight = 0
    for scope in listing:
        part.append(scope)
        weight += 1000 + (sizes[scope].size if scope in sizes else 0)
        if weight >= 100_000:
            yield part
            part, weight = [], 0
    if part:
        yield part
