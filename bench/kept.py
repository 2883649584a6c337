"""What changes cost when somebody last looked, and whether they cost twice as much now.

Times are not compared, for machines differ; CPU is compared as a multiple of what the transport
alone took in the same run.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from bench.figure import Row

FILE: Final = Path(__file__).parent / "kept.json"
MOST: Final = 2.0


class Cost(Struct, frozen=True):
    """What one round of a row costs."""

    cpu: float
    sent_mb: float
    units: float

    @classmethod
    def of(cls, row: Row) -> "Cost":
        """What was measured, rounded for a file that people read."""
        cpu = row.server.cpu_seconds / row.floor.cpu_seconds
        return cls(round(cpu, 2), round(row.server.sent_mb, 3), round(row.server.units, 2))


def read(file: Path = FILE) -> dict[str, Cost]:
    """The kept costs, by the title of their row."""
    return msgspec.json.decode(file.read_bytes(), type=dict[str, Cost])


def write(rows: Iterable[Row], file: Path = FILE) -> None:
    """Keep what these rows cost now, beside those that were not measured."""
    old = read(file) if file.exists() else {}
    costs = old | {row.case.title: Cost.of(row) for row in rows}
    file.write_bytes(msgspec.json.format(msgspec.json.encode(costs)) + b"\n")


def compare(before: dict[str, Cost], rows: Iterable[Row]) -> list[str]:
    """A line for each cost that doubled, and for each row that was never kept."""
    found = []
    for row in rows:
        title, now = row.case.title, Cost.of(row)
        old = before.get(title)
        if old is None:
            found.append(f"{title}: nothing is kept to compare with")
            continue
        for what, was, present in (
            ("CPU in floors", old.cpu, now.cpu),
            ("MB sent", old.sent_mb, now.sent_mb),
            ("units built", old.units, now.units),
        ):
            if present > MOST * was:
                found.append(f"{title}: {what} {present:g}, was {was:g}")
    return found
