"""Changes that pour in: does the event loop stay responsive, and how old is what proxies get?"""

from contextlib import ExitStack
from pathlib import Path
from typing import Final

from msgspec import Struct

from bench.child import Child
from bench.client import run_client
from bench.figure import MEGA, Verdict, percentile
from bench.floor import Serving
from bench.memory import LAST_MARK
from bench.mesh import Mesh
from bench.run import Clients, Limits
from bench.subject import Churn, Churned, StartSubject, TakeConvergence, run_subject

LAG_GOAL: Final = 50.0
CONVERGENCE_GOAL: Final = 500.0


class Flood(Struct, frozen=True):
    """How much, for how long, to how many."""

    per_second: int = 1000
    seconds: float = 60.0
    services: int = 1000
    proxies: int = 500
    delta: bool = True

    @property
    def title(self) -> str:
        """Its name."""
        return (
            f"{self.per_second:,} changes a second for {self.seconds:g} s, "
            f"{self.services:,} services × {self.proxies:,} proxies, "
            f"{'delta' if self.delta else 'state of the world'}"
        )


class Endured(Struct, frozen=True):
    """What came of it: milliseconds of lag and of convergence, and the time from the last change
    to the last byte at the last proxy.
    """

    flood: Flood
    changes: int
    pushes: int
    lags: tuple[float, float, float]
    convergence: tuple[float, float, float]
    last_ms: float
    cpu_seconds: float
    sent_mb: float

    def verdicts(self) -> tuple[Verdict, ...]:
        """Whether the bounds are kept."""
        lag, late = self.lags[1], self.convergence[1]
        return (
            Verdict(f"lag p99 ≤ {LAG_GOAL:g} ms", lag, lag <= LAG_GOAL),
            Verdict(f"to the ACK p99 ≤ {CONVERGENCE_GOAL:g} ms", late, late <= CONVERGENCE_GOAL),
        )


def endure(flood: Flood, limits: Limits, log: Path) -> Endured:
    """Run it. Raises BenchError if a proxy does not get the last change."""
    mesh = Mesh(flood.services)
    with ExitStack() as stack:
        children = [stack.enter_context(Child(run_client, log)) for _ in range(limits.clients)]
        clients = Clients(children, limits)
        subject = stack.enter_context(Child(run_subject, log))
        address = subject.ask(StartSubject(mesh), Serving, limits.start_seconds).address
        clients.connect(address, flood.proxies, mesh, delta=flood.delta)
        clients.settle(connecting=True)
        clients.begin(LAST_MARK)
        before = subject.usage()
        told = subject.ask(Churn(flood.seconds, flood.per_second), Churned, flood.seconds + 60)
        arrivals = clients.settle(connecting=False)
        after = subject.usage()
        churned = subject.ask(TakeConvergence(), Churned)
    return Endured(
        flood,
        churned.changes,
        churned.pushes,
        _spread(churned.lags),
        _spread(churned.convergence),
        (max(arrivals.last) - told.ended) / MEGA,
        after.cpu_seconds - before.cpu_seconds,
        arrivals.bytes / MEGA,
    )


def _spread(values: tuple[float, ...]) -> tuple[float, float, float]:
    return percentile(values, 50), percentile(values, 99), max(values)
