"""What the debug views look at: the parts of the running daemon, and how its settings fare."""

from msgspec import Struct

from aggregator.push.engine import Engine
from aggregator.registry.aggregate import Aggregate
from aggregator.registry.keeper import Keeper
from aggregator.registry.status import RegistryState
from aggregator.registry.supervisor import Supervisor
from aggregator.xds.server import XdsServer


class SettingsStatus(Struct):
    """How the settings in force came about; `error` is why the file's present ones are not."""

    file: str = ""
    loaded: float = 0.0
    reloads: int = 0
    error: str = ""
    warnings: tuple[str, ...] = ()


class Sources(Struct, frozen=True):
    """The parts of one daemon; without a `keeper` nothing is kept over restarts."""

    aggregate: Aggregate
    supervisor: Supervisor
    engine: Engine
    server: XdsServer
    settings: SettingsStatus
    keeper: Keeper | None = None

    def not_ready(self) -> list[str]:
        """The required registries that readiness waits for; empty once ready."""
        if self.supervisor.ready():
            return []
        waiting = [
            f"registry {status.name} is {status.state}"
            + f" ({status.last_error})" * bool(status.last_error)
            for status in self.supervisor.status()
            if status.required and status.state in (RegistryState.STARTING, RegistryState.FAILED)
        ]
        return waiting or ["saved state is being read"]
