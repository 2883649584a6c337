"""What the suite asks of a registry: to know services, to die, to come back, to turn away.

An adapter passes the suite with a `Driver` of its own: `pytest tests/contract --contract
package.module:Class`. One that lives elsewhere needs no change here.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Final


class Ability(StrEnum):
    """What a registry can be put through; cases that need more than it has are left out."""

    SERVER = "server"  # answers on a TCP port, so connections can be broken
    REVOKE = "revoke"  # asks for credentials that it can refuse
    TLS = "tls"  # has a certificate that can expire
    BAD = "bad"  # takes items that cannot be understood


class Driver:
    """One registry of a test's own, in *folder*. Names of services are DNS labels. With *secure* it
    has to speak TLS; it speaks it without where it can, so that faults reach what is inside.

    Between `start` and `aclose` it may be killed and started any number of times. What a subclass
    does not change raises NotImplementedError, and is asked for only with the ability.
    """

    type: ClassVar[str]
    abilities: ClassVar[frozenset[Ability]] = frozenset()
    tells_deletions: ClassVar[bool] = True
    """Whether the registry says that a service was deleted. Otherwise it stays without endpoints
    for the grace."""
    asks_per_second: ClassVar[float] = 10.0
    """How many connections and questions a second are no hammering of a registry in trouble."""
    changes_per_second: ClassVar[int] = 0
    """How fast the suite changes it; 0 for as fast as it goes."""

    def __init__(self, folder: Path, *, secure: bool = False) -> None:
        self.secure: Final = secure
        self.folder: Final = folder
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def ignored(self) -> frozenset[str]:
        """Hosts of services that the registry has of its own."""
        return frozenset()

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1; for `SERVER`."""
        raise NotImplementedError

    def entry(self, port: int) -> dict[str, Any]:
        """Its entry in the settings, without a name. *port* is where it is reached: its own or a
        proxy's, 0 without `SERVER`.
        """
        raise NotImplementedError

    def host(self, service: str) -> str:
        """The host that a service becomes."""
        raise NotImplementedError

    # Its life

    async def start(self) -> None:
        """Start, with what it knew when it ended."""
        raise NotImplementedError

    async def stop(self) -> None:
        """End in good order."""
        raise NotImplementedError

    async def kill(self) -> None:
        """End at once."""
        raise NotImplementedError

    async def wipe(self) -> None:
        """Forget everything; while it does not run."""
        raise NotImplementedError

    async def back_up(self) -> None:
        """Remember the present state; while it does not run."""
        raise NotImplementedError

    async def restore(self) -> None:
        """Go back to the state that `back_up` remembered; while it does not run."""
        raise NotImplementedError

    def freeze(self) -> None:
        """Answer nothing; for `SERVER`."""
        raise NotImplementedError

    def thaw(self) -> None:
        """Answer again; for `SERVER`."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Leave nothing behind, whatever state it is in."""
        raise NotImplementedError

    # What it knows

    async def put(self, service: str, addresses: Sequence[str]) -> None:
        """Have the service with exactly these instances; port 80 of the service."""
        raise NotImplementedError

    async def put_all(self, services: Mapping[str, Sequence[str]]) -> None:
        """`put` for many, as fast as it goes."""
        for service, addresses in services.items():
            await self.put(service, addresses)

    async def remove(self, service: str) -> None:
        """Delete the service and all its instances."""
        raise NotImplementedError

    async def spoil(self, service: str) -> None:
        """Put something that cannot be understood in the place of the service; for `BAD`."""
        raise NotImplementedError

    # Trust

    async def revoke(self) -> None:
        """Refuse the credentials that the daemon has; for `REVOKE`."""
        raise NotImplementedError

    async def permit(self) -> None:
        """Give the daemon credentials that are good, where it looks for them; for `REVOKE`."""
        raise NotImplementedError

    async def expire_certificate(self) -> None:
        """Run with a certificate that has expired; for `TLS`."""
        raise NotImplementedError

    async def renew_certificate(self) -> None:
        """Run with a good certificate; for `TLS`."""
        raise NotImplementedError
