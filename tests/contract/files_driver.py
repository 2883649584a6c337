"""Files for the suite: a folder that may be missing, as when a volume is not mounted."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.contract.driver import Ability, Driver


class FilesDriver(Driver):
    """A file for each service."""

    type = "files"
    abilities = frozenset({Ability.BAD})
    changes_per_second = 1000

    def __init__(self, folder: Path, *, secure: bool = False) -> None:
        super().__init__(folder, secure=secure)
        self._mounted = folder / "services"
        self._away = folder / "away"
        self._backup = folder / "backup"
        self._away.mkdir()

    def entry(self, port: int) -> dict[str, Any]:
        return {"type": "files", "path": str(self._mounted)}

    def host(self, service: str) -> str:
        return f"{service}.contract.mesh"

    async def start(self) -> None:
        self._away.rename(self._mounted)

    async def stop(self) -> None:
        await self.kill()

    async def kill(self) -> None:
        self._mounted.rename(self._away)

    async def wipe(self) -> None:
        shutil.rmtree(self._away)
        self._away.mkdir()

    async def back_up(self) -> None:
        shutil.copytree(self._away, self._backup)

    async def restore(self) -> None:
        shutil.rmtree(self._away)
        shutil.copytree(self._backup, self._away)

    async def aclose(self) -> None:
        pass

    async def put(self, service: str, addresses: Sequence[str]) -> None:
        text = (
            f"services:\n- host: {self.host(service)}\n  ports: [{{number: 80, protocol: HTTP}}]\n"
        )
        if addresses:
            listed = "".join(f"  - address: {address}\n" for address in addresses)
            text = f"{text}  endpoints:\n{listed}"
        self._write(service, text)

    async def remove(self, service: str) -> None:
        self._file(service).unlink()

    async def spoil(self, service: str) -> None:
        self._write(service, "services: [{host: ")

    def _file(self, service: str) -> Path:
        folder = self._mounted if self._mounted.exists() else self._away
        return folder / f"{service}.yaml"

    def _write(self, service: str, text: str) -> None:
        path = self._file(service)
        aside = path.with_name(f".{path.name}.tmp")
        aside.write_text(text)
        aside.rename(path)
