"""Judges losses that nobody ordered: a registry that suddenly has far less is not believed at once.

Sees counts and a clock only. Explicit deletions never come here.
"""

from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Annotated, Final

from msgspec import Meta, Struct

from config.duration import Duration


class GuardSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """When a loss is held, and for how long. The section `guard` of a registry."""

    enabled: Annotated[
        bool, Meta(description="Whether losses are held; otherwise all are believed at once.")
    ] = True
    share: Annotated[
        float,
        Meta(ge=0, le=1, description="Held is what takes more than this part of the endpoints."),
    ] = 0.5
    floor: Annotated[
        int, Meta(ge=0, description="Registries of at most this many endpoints are never held.")
    ] = 20
    hold: Annotated[
        Duration,
        Meta(
            description="After this long a loss is believed; those within it are counted together."
        ),
    ] = Duration(60)
    confirm: Annotated[
        Duration,
        Meta(description="A second listing that is alike confirms the first after this long."),
    ] = Duration(5)


DEFAULT: Final = GuardSettings()


class Hold(Struct):
    """A loss that waits: how many endpoints there were, how many it would leave, since when."""

    before: int
    after: int
    since: float


class _Losses:
    """What a registry has lost within the last seconds, and was believed to have lost."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, int]] = deque()
        self._total = 0

    def within(self, now: float, seconds: float) -> int:
        """How many endpoints."""
        while self._recent and now - self._recent[0][0] >= seconds:
            self._total -= self._recent.popleft()[1]
        return self._total

    def add(self, now: float, lost: int) -> None:
        """More of them."""
        self._recent.append((now, lost))
        self._total += lost


class LossGuard:
    """Holds what would take most of a registry's endpoints.

    Losses that were let through within the last `hold` seconds count too, so that a registry cannot
    fade away scope by scope.
    """

    def __init__(self, settings: GuardSettings = DEFAULT) -> None:
        self._default = settings
        self._settings: dict[str, GuardSettings] = {}
        self._holds: dict[tuple[str, str], Hold] = {}
        self._losses: defaultdict[str, _Losses] = defaultdict(_Losses)

    def configure(self, registry: str, settings: GuardSettings | None) -> None:
        """Judge a registry by settings of its own from now on; None is the default."""
        if settings is None:
            self._settings.pop(registry, None)
        else:
            self._settings[registry] = settings

    def admits(
        self,
        registry: str,
        listing: str,
        before: int,
        after: int,
        now: float,
        *,
        confirms: bool = True,
    ) -> bool:
        """Whether *listing*, which leaves *after* of *before* endpoints, takes effect now.

        Only one that *confirms* is a second reading of what is held already.
        """
        limits = self._limits(registry)
        losses = self._losses[registry]
        total = before + losses.within(now, limits.hold)
        suspect = (
            limits.enabled
            and after < before
            and total > limits.floor
            and total - after > limits.share * total
        )
        if suspect and not self._confirmed(
            registry, listing, before, after, now, limits, confirms=confirms
        ):
            return False
        self._holds.pop((registry, listing), None)
        if after < before and not suspect:
            losses.add(now, before - after)
        return True

    def _confirmed(
        self,
        registry: str,
        listing: str,
        before: int,
        after: int,
        now: float,
        limits: GuardSettings,
        *,
        confirms: bool,
    ) -> bool:
        hold = self._holds.get((registry, listing))
        if hold is None:
            self._holds[registry, listing] = Hold(before, after, now)
            return False
        waited = now - hold.since
        similar = confirms and abs(after - hold.after) * 10 <= hold.before
        if waited >= limits.hold or (similar and waited >= limits.confirm):
            self._losses.pop(registry, None)
            return True
        hold.after = after
        return False

    def _limits(self, registry: str) -> GuardSettings:
        return self._settings.get(registry, self._default)

    def due(self, now: float) -> list[tuple[str, str]]:
        """The (registry, listing) pairs that have been held for long enough, or need not be."""
        return [
            key
            for key, held in self._holds.items()
            if now - held.since >= self._limits(key[0]).hold or not self._limits(key[0]).enabled
        ]

    def held(self, registry: str) -> Mapping[str, Hold]:
        """What waits, by listing."""
        return {listing: hold for (name, listing), hold in self._holds.items() if name == registry}

    def amend(self, registry: str, listing: str, given_back: int, now: float) -> None:
        """So many endpoints that were believed lost are there again, and wait with what is held."""
        hold = self._holds.get((registry, listing))
        if hold is not None:
            hold.before += given_back
            self._losses[registry].add(now, -given_back)

    def hold_of(self, registry: str) -> float:
        """For how many seconds a loss of the registry is held at most."""
        return self._limits(registry).hold

    def release(self, registry: str, listing: str) -> None:
        """The listing took effect or is out of date."""
        self._holds.pop((registry, listing), None)

    def forget(self, registry: str) -> None:
        """The registry is gone."""
        self._losses.pop(registry, None)
        for key in [key for key in self._holds if key[0] == registry]:
            del self._holds[key]
