"""The ACL token, which lies in a file that somebody may exchange at any time."""

import asyncio
from pathlib import Path
from typing import Final

from aggregator.model.errors import AdapterRejectedError

_LONGEST: Final = 4096


class Token:
    """The file's word, as it was last read; without a file there is no token."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.value = ""

    async def read(self) -> bool:
        """Read the file again; whether it says something else than before.

        Raises AdapterRejectedError if it cannot be used.
        """
        if self._path is None:
            return False
        before, self.value = self.value, await asyncio.to_thread(_read, self._path)
        return self.value != before


def _read(path: Path) -> str:
    try:
        text = path.read_bytes()[: _LONGEST + 1].decode("ascii").strip()
    except OSError as error:
        message = f"token_file {path}: {(error.strerror or str(error)).lower()}"
        raise AdapterRejectedError(message) from error
    except UnicodeDecodeError as error:
        message = f"token_file {path}: expected a token in plain characters"
        raise AdapterRejectedError(message) from error
    if not text or not text.isprintable() or " " in text or len(text) > _LONGEST:
        message = (
            f"token_file {path}: expected one token, found {'nothing' if not text else 'more'}"
        )
        raise AdapterRejectedError(message)
    return text
