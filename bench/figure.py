"""The arithmetic: what was measured on each side, and whether a goal is reached.

Pure. Times are judged only in words: nothing fails because a machine is slow.
"""

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from bench.mesh import Change, Mesh

MEGA: Final = 1e6
VIEWS: Final = 10
ENDPOINTS: Final = 10


class Goal(Struct, frozen=True, omit_defaults=True):
    """Upper bounds; zero is none. `milliseconds` is the 99th percentile of the rounds."""

    milliseconds: float = 0.0
    floors: float = 0.0
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0
    sent_mb: float = 0.0


class Case(Struct, frozen=True):
    """One row: which change, in how large a mesh, for how many proxies, by which variant."""

    change: Change
    services: int
    proxies: int
    delta: bool
    rounds: int
    goal: Goal = Goal()
    views: int = VIEWS
    endpoints: int = ENDPOINTS

    @property
    def mesh(self) -> Mesh:
        """What is served: as many namespaces as there are to be views of proxies."""
        return Mesh(self.services, self.views, self.endpoints)

    @property
    def variant(self) -> str:
        """The protocol's variant, for people."""
        return "delta" if self.delta else "state of the world"

    def with_rounds(self, rounds: int) -> "Case":
        """The same in another number of rounds."""
        return replace(self, rounds=rounds)

    @property
    def title(self) -> str:
        """The row's name."""
        if self.change is Change.START:
            return f"{self.change}, {self.services:,} services"
        size = f"{self.services:,} services × {self.proxies:,} proxies"
        if self.endpoints != ENDPOINTS:
            size = f"{self.endpoints} endpoints × {size}"
        if self.views != VIEWS:
            size += f" in {self.views} views"
        return f"{self.change}, {size}, {self.variant}"


class Side(Struct, frozen=True):
    """What one server took: the control plane, or the floor.

    `milliseconds` has, for each round, the time from the change to the last byte at the last proxy.
    CPU, bytes, messages and built units are those of one round; memory is that of the process.
    """

    milliseconds: tuple[float, ...]
    cpu_seconds: float
    sent_mb: float
    messages: float
    peak_mb: float
    rss_mb: float
    units: float = 0.0

    @property
    def p50(self) -> float:
        """The median round."""
        return percentile(self.milliseconds, 50)

    @property
    def p99(self) -> float:
        """The round that one in a hundred exceeds; the slowest if there are fewer."""
        return percentile(self.milliseconds, 99)

    @property
    def slowest(self) -> float:
        """The slowest round."""
        return max(self.milliseconds)


class Verdict(Struct, frozen=True):
    """One bound, and whether it was kept."""

    bound: str
    measured: float
    reached: bool


class Row(Struct, frozen=True):
    """A measured case. `since_write` has the times from the write to the file, where there is
    one.
    """

    case: Case
    server: Side
    floor: Side
    since_write: tuple[float, ...] = ()

    @property
    def ratio(self) -> float:
        """How many times its floor the median round took."""
        return self.server.p50 / self.floor.p50

    @property
    def ratio_p99(self) -> float:
        """The same for the 99th percentile."""
        return self.server.p99 / self.floor.p99

    def verdicts(self) -> tuple[Verdict, ...]:
        """Each bound of the goal, judged."""
        goal, server = self.case.goal, self.server
        pairs = (
            ("p99 ≤ {:g} ms", goal.milliseconds, server.p99),
            ("p99 ≤ {:g} × floor", goal.floors, self.ratio_p99),
            ("CPU ≤ {:g} s", goal.cpu_seconds, server.cpu_seconds),
            ("peak ≤ {:g} MB", goal.peak_mb, server.peak_mb),
            ("sent ≤ {:g} MB", goal.sent_mb, server.sent_mb),
        )
        return tuple(
            Verdict(text.format(bound), measured, measured <= bound)
            for text, bound, measured in pairs
            if bound
        )


class Axis(StrEnum):
    """What grows while everything else stays as it is."""

    SERVICES = "services"
    ENDPOINTS = "endpoints"
    PROXIES = "proxies"
    VIEWS = "views"


class Growth(Struct, frozen=True):
    """The same change in ever larger meshes: what the largest costs, as multiples of the
    smallest. `most` is the bound, 0 for none.
    """

    axis: Axis
    rows: tuple[Row, ...]
    most: float = 0.0

    def size(self, row: Row) -> int:
        """How large the mesh of a row is, along the axis."""
        case = row.case
        match self.axis:
            case Axis.SERVICES:
                return case.services
            case Axis.ENDPOINTS:
                return case.services * case.endpoints
            case Axis.PROXIES:
                return case.proxies
            case Axis.VIEWS:
                return case.views

    @property
    def cpu_seconds(self) -> float:
        """How the CPU seconds of a change grow."""
        return self.rows[-1].server.cpu_seconds / self.rows[0].server.cpu_seconds

    @property
    def milliseconds(self) -> float:
        """How the median time of a change grows."""
        return self.rows[-1].server.p50 / self.rows[0].server.p50

    def verdicts(self) -> tuple[Verdict, ...]:
        """Whether both stay below the bound, if there is one."""
        if not self.most:
            return ()
        return (
            Verdict(f"CPU ≤ {self.most:g} ×", self.cpu_seconds, self.cpu_seconds <= self.most),
            Verdict(f"p50 ≤ {self.most:g} ×", self.milliseconds, self.milliseconds <= self.most),
        )


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest rank: a value that was measured, with at least so many percent not above it."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
