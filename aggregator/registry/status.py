"""What people and probes are told of one registry."""

from enum import StrEnum

from msgspec import Struct


class RegistryState(StrEnum):
    """How a registry's adapter is doing."""

    STARTING = "starting"  # not failed, not synced yet
    STALE = "stale"  # not synced yet; what it said to the process before this one is served
    SYNCED = "synced"
    DEGRADED = "degraded"  # failed; what it said last is served
    FAILED = "failed"  # failed before it ever was in sync


class Reason(StrEnum):
    """Why a registry is not in sync."""

    UNAVAILABLE = "unavailable"  # does not answer
    REJECTED = "rejected"  # refuses the credentials or the request
    SETTINGS = "settings"  # cannot be read as it is set
    CRASHED = "crashed"  # a mistake in its adapter


class HeldLoss(Struct, frozen=True):
    """A loss that the guard holds: of how many endpoints it would leave how many, for how long it
    has been held, and after how many seconds it is believed.
    """

    listing: str
    before: int
    after: int
    held_for: float
    believed_in: float


class RegistryStatus(Struct, frozen=True, kw_only=True):
    """One registry at one moment.

    `age` is for how many seconds what it said may be out of date: 0 while in sync. Times are those
    of the supervisor's clock, None for never. `cluster_id` is empty for what is no cluster;
    `origin` is where the registry was written. `skipped` counts objects left out for an error,
    `excluded` those that mapping rules leave out, `lingering` services without endpoints that wait
    for the end of their deletion grace. `retry_in` is when it is asked again, in seconds.
    `state_fault` says why what was saved of it could not be used.
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
    reason: Reason | None = None
    retry_in: float | None = None
    age: float = 0.0
    services: int = 0
    endpoints: int = 0
    configs: int = 0
    workloads: int = 0
    scopes: int = 0
    problems: int = 0
    skipped: int = 0
    excluded: int = 0
    lingering: int = 0
    held: tuple[HeldLoss, ...] = ()
    reconnects: int = 0
    revision: str = ""
    state_fault: str = ""
