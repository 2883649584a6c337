"""What people and machines read: a table beside the floor, and the same as JSON."""

import os
import platform
import sys
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from bench.churn import Endured
from bench.figure import Growth, Row, Verdict, percentile

LIBRARIES: Final = ("grpcio", "protobuf", "msgspec", "uvloop")


class Machine(Struct, frozen=True):
    """Where it was measured. `load` is what else the machine did when it began."""

    cpu: str
    cores: int
    memory_mb: int
    system: str
    python: str
    libraries: dict[str, str]
    load: float


class Report(Struct, frozen=True):
    """One run of the benchmark."""

    machine: Machine
    at: str
    rows: tuple[Row, ...]
    growth: tuple[Growth, ...] = ()
    endured: tuple[Endured, ...] = ()
    failed: dict[str, str] = {}


def machine() -> Machine:
    """This machine, now."""
    return Machine(
        _cpu_model(),
        len(os.sched_getaffinity(0)),
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        platform.platform(),
        sys.version.split()[0],
        {name: version(name) for name in LIBRARIES},
        os.getloadavg()[0],
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def now() -> str:
    """The time of day in UTC, fit for a file's name."""
    return time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime())


def print_report(report: Report, console: Console) -> None:
    """The tables."""
    where = report.machine
    console.print(
        f"{where.cpu}, {where.cores} cores, {where.memory_mb} MiB; Python {where.python}, "
        + ", ".join(f"{name} {found}" for name, found in where.libraries.items())
        + f"; load {where.load:.1f} at the start"
    )
    console.print(
        "Times are from the change to the last byte at the last proxy, in milliseconds; files "
        "count from when the watcher told. The floor is the same bytes to the same proxies with "
        "no work behind them. CPU, bytes and messages are those of one round."
    )
    if report.rows:
        console.print(_rows(report.rows))
    for row in report.rows:
        if row.since_write:
            console.print(
                f"{row.case.title}: from the write p50 {percentile(row.since_write, 50):.1f}, "
                f"p99 {percentile(row.since_write, 99):.1f}, max {max(row.since_write):.1f} ms"
            )
    for growth in report.growth:
        console.print(_growth(growth))
    if report.endured:
        console.print(_endured(report.endured))
    for title, reason in report.failed.items():
        console.print(f"[bold red]not measured[/]: {title}: {reason}", markup=True)


def _rows(rows: Sequence[Row]) -> Table:
    table = Table(title="A change, and connecting", show_lines=True)
    _columns(table, "row", "ms p50 / p99 / max", "floor p50 / p99", "ratio p50 / p99")
    _columns(table, "CPU s / floor", "peak MB", "MB sent", "messages", "goal")
    for row in rows:
        server, floor = row.server, row.floor
        table.add_row(
            row.case.title,
            _numbers(server.p50, server.p99, server.slowest),
            _numbers(floor.p50, floor.p99),
            f"{row.ratio:.2f} / {row.ratio_p99:.2f}",
            f"{server.cpu_seconds:.3f} / {floor.cpu_seconds:.3f}",
            f"{server.peak_mb:.0f}",
            f"{server.sent_mb:.2f}",
            f"{server.messages:.0f}",
            _judged(row.verdicts()),
        )
    return table


def _growth(growth: Growth) -> Table:
    table = Table(title=f"Growth: one endpoint changes, delta, over {growth.axis}")
    _columns(table, growth.axis, "ms p50 / p99", "floor p50 / p99", "ratio p50 / p99")
    _columns(table, "CPU ms / floor", "peak MB")
    for row in growth.rows:
        server, floor = row.server, row.floor
        table.add_row(
            f"{growth.size(row):,}",
            _numbers(server.p50, server.p99),
            _numbers(floor.p50, floor.p99),
            f"{row.ratio:.2f} / {row.ratio_p99:.2f}",
            f"{server.cpu_seconds * 1000:.1f} / {floor.cpu_seconds * 1000:.1f}",
            f"{server.peak_mb:.0f}",
        )
    smallest, largest = growth.size(growth.rows[0]), growth.size(growth.rows[-1])
    table.caption = (
        f"{largest:,} {growth.axis} cost {growth.cpu_seconds:.2f} times the CPU of {smallest:,}, "
        f"and {growth.milliseconds:.2f} times the time\n{_judged(growth.verdicts())}"
    )
    return table


def _endured(rows: Sequence[Endured]) -> Table:
    table = Table(title="Changes that pour in", show_lines=True)
    _columns(table, "row", "pushes", "loop lag ms p50 / p99 / max", "to the ACK ms p50 / p99 / max")
    _columns(table, "last change ms", "CPU s", "MB sent", "goal")
    for row in rows:
        table.add_row(
            row.flood.title,
            f"{row.pushes:,}",
            _numbers(*row.lags),
            _numbers(*row.convergence),
            _numbers(row.last_ms),
            f"{row.cpu_seconds:.1f}",
            f"{row.sent_mb:.0f}",
            _judged(row.verdicts()),
        )
    return table


def _columns(table: Table, *names: str) -> None:
    for name in names:
        words = name in ("row", "goal")
        table.add_column(
            name,
            justify="left" if words else "right",
            min_width=24 if name == "row" else None,
            no_wrap=name != "row",
        )


def _numbers(*milliseconds: float) -> str:
    return " / ".join(f"{each:.1f}" if each < 100 else f"{each:.0f}" for each in milliseconds)


def _judged(verdicts: Iterable[Verdict]) -> str:
    return "\n".join(
        f"[green]reached {each.bound}[/]" if each.reached else f"[red]missed {each.bound}[/]"
        for each in verdicts
    )


def write_json(report: Report, path: Path) -> None:
    """Everything that was measured, every round of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
