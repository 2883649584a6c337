"""The plug-in of docs/adapters.md for the contract suite: a file that may be missing."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.contract.driver import Driver


class InventoryDriver(Driver):
    """All services in one file."""

    type = "inventory"

    def __init__(self, folder: Path, *, secure: bool = False) -> None:
        super().__init__(folder, secure=secure)
        self._file = folder / "hosts.json"
        self._away = folder / "away.json"
        self._backup = folder / "backup.json"
        self._known: dict[str, list[str]] = {}
        self._away.write_text("{}")

    def entry(self, port: int) -> dict[str, Any]:
        return {"type": "inventory", "file": str(self._file), "interval": 0.05}

    def host(self, service: str) -> str:
        return f"{service}.contract.mesh"

    async def start(self) -> None:
        self._away.rename(self._file)

    async def stop(self) -> None:
        await self.kill()

    async def kill(self) -> None:
        self._file.rename(self._away)

    async def wipe(self) -> None:
        self._known.clear()
        self._write()

    async def back_up(self) -> None:
        shutil.copy(self._away, self._backup)

    async def restore(self) -> None:
        shutil.copy(self._backup, self._away)
        self._known = json.loads(self._away.read_text())

    async def aclose(self) -> None:
        pass

    async def put(self, service: str, addresses: Sequence[str]) -> None:
        await self.put_all({service: addresses})

    async def put_all(self, services: Mapping[str, Sequence[str]]) -> None:
        self._known |= {self.host(name): list(found) for name, found in services.items()}
        self._write()

    async def remove(self, service: str) -> None:
        del self._known[self.host(service)]
        self._write()

    def _write(self) -> None:
        new = self.folder / "new.json"
        new.write_text(json.dumps(self._known))
        new.rename(self._file if self._file.exists() else self._away)
