"""What drivers of registries share that are one server's process with a folder of data."""

import asyncio
from pathlib import Path
from typing import Final

from tests.contract.driver import Ability, Driver
from tests.support.certificate import Authority
from tests.support.poll import eventually
from tests.support.servers.process import Server, StoredServer


class ServerDriver(Driver):
    """Subclasses make `server`, and the `authority` whose certificate that has."""

    abilities = frozenset({Ability.SERVER, Ability.REVOKE, Ability.TLS})

    def __init__(
        self, folder: Path, server: Server, stored: StoredServer, port: int, *, secure: bool
    ) -> None:
        super().__init__(folder, secure=secure)
        self._server: Final = server
        self._stored: Final = stored
        self._port: Final = port
        self._backup: tuple[Path, dict[str, set[str]]] | None = None
        self._known: dict[str, set[str]] = {}
        """Addresses by service, as the server has them."""

    @property
    def authority(self) -> Authority:
        """Who issues the server's certificate."""
        raise NotImplementedError

    @property
    def port(self) -> int:
        return self._port

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop()

    async def kill(self) -> None:
        self._server.kill()

    async def wipe(self) -> None:
        self._stored.wipe()
        self._known.clear()

    async def back_up(self) -> None:
        known = {service: set(addresses) for service, addresses in self._known.items()}
        self._backup = (self._stored.back_up(), known)

    async def restore(self) -> None:
        assert self._backup is not None
        data, known = self._backup
        self._stored.restore(data)
        self._known = {service: set(addresses) for service, addresses in known.items()}

    def freeze(self) -> None:
        self._server.freeze()

    def thaw(self) -> None:
        self._server.thaw()

    async def aclose(self) -> None:
        self._server.kill()

    async def expire_certificate(self) -> None:
        self._server.kill()
        self._issue(expired=True)
        self._server.launch()
        await eventually(self._listens, seconds=self._server.seconds_to_start)

    async def renew_certificate(self) -> None:
        self._server.kill()
        self._issue(expired=False)
        await self._server.start()

    def _issue(self, *, expired: bool) -> None:
        self.authority.issue("localhost", ["127.0.0.1"], expired=expired)

    async def _listens(self) -> bool:
        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.close()
        return True
