"""What people and probes are told of one registry."""

from enum import StrEnum

from msgspec import Struct


class RegistryState(StrEnum):
    """How a registry's adapter is doing."""

    STARTING = "starting"  # not failed, not synced yet
    SYNCED = "synced"
    DEGRADED = "degraded"  # failed; what it said last is served
    FAILED = "failed"  # failed before it ever was in sync


class RegistryStatus(Struct, frozen=True, kw_only=True):
    """One registry at one moment.

    `age` is for how many seconds what it said may be out of date: 0 while in sync. Times are those
    of the supervisor's clock, None for never. `cluster_id` is empty for what is none; `origin` is
    where the registry was written. `held` names listings that the loss guard holds back.
    """

    name: str
    type: str
    state: RegistryState
    required: bool
    cluster_id: str = ""
    origin: str = ""
    announced_by: str = ""
    replacing: bool = False
    last_success: float | None = None
    last_error: str = ""
    age: float = 0.0
    services: int = 0
    endpoints: int = 0
    configs: int = 0
    workloads: int = 0
    scopes: int = 0
    problems: int = 0
    held: tuple[str, ...] = ()
    reconnects: int = 0
    revision: str = ""
