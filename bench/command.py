"""The benchmark's command line."""

import signal
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from bench.child import BenchError
from bench.churn import Endured, Flood, endure
from bench.figure import Case, Growth, Row
from bench.kept import compare, read, write
from bench.plan import cases, floods, growth, kept
from bench.plot import render
from bench.report import Report, machine, now, print_report, write_json
from bench.run import Limits, Runner

WIDTH: Final = 168
"""What the table takes; rich would cut it to 80 where the output is no terminal."""

RESULTS: Final = Path(__file__).parent / "results"


@click.command()
@click.option("--quick", is_flag=True, help="Fewer rounds and sizes: at most three minutes.")
@click.option("--only", default="", help="Only rows whose name contains this text.")
@click.option("--rounds", type=click.IntRange(1, 10_000), help="Rounds of each row.")
@click.option(
    "--clients", type=click.IntRange(1, 16), default=1, help="Processes that share the load."
)
@click.option(
    "--output", type=click.Path(path_type=Path), help="Where the JSON goes; bench/results/ else."
)
@click.option("--check", is_flag=True, help="Fail if a change costs twice what is kept.")
@click.option("--keep", is_flag=True, help="Keep what changes cost now, to be compared with.")
def main(
    *,
    quick: bool,
    only: str,
    rounds: int | None,
    clients: int,
    output: Path | None,
    check: bool,
    keep: bool,
) -> None:
    """Measure how long changes take to reach proxies, beside what the transport alone takes."""
    # A manager's stop leaves nothing behind either.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    here, at = machine(), now()
    failed: dict[str, str] = {}
    errors = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        runner = Runner(Path(folder), Limits(clients=clients), errors.print)
        plan = kept() if check or keep else cases(quick=quick)
        measured = _measure(runner, _chosen(plan, only, rounds), failed)
        curves = []
        for axis, most, sizes in () if check or keep else growth(quick=quick):
            rows = _measure(runner, _chosen(sizes, only, rounds), failed)
            if len(rows) > 1:
                curves.append(Growth(axis, rows, most))
        endured = []
        for flood in () if check or keep else floods(quick=quick):
            if only in flood.title:
                endured += _endure(flood, Limits(clients=clients), Path(folder), errors, failed)
    report = Report(here, at, measured, tuple(curves), tuple(endured), failed)
    print_report(report, Console(width=max(WIDTH, errors.width)))
    path = output or RESULTS / f"{at}.json"
    write_json(report, path)
    errors.print(f"Written to {path}")
    if curves:
        picture = path.with_suffix(".svg")
        picture.write_bytes(render(curves))
        errors.print(f"Drawn in {picture}")
    if keep:
        write(measured)
    dearer = compare(read(), measured) if check else []
    for line in dearer:
        errors.print(f"[bold red]twice as dear[/]: {line}")
    sys.exit(1 if failed or dearer else 0)


def _endure(
    flood: Flood, limits: Limits, folder: Path, errors: Console, failed: dict[str, str]
) -> list[Endured]:
    errors.print(flood.title)
    try:
        return [endure(flood, limits, folder / "log")]
    except BenchError as error:
        failed[flood.title] = str(error)
        return []


def _chosen(all_of: Iterable[Case], only: str, rounds: int | None) -> list[Case]:
    return [case.with_rounds(rounds) if rounds else case for case in all_of if only in case.title]


def _measure(runner: Runner, chosen: Iterable[Case], failed: dict[str, str]) -> tuple[Row, ...]:
    """Run cases; one that cannot be measured does not keep the others from it."""
    rows = []
    for case in chosen:
        try:
            rows.append(runner.run(case))
        except BenchError as error:
            failed[case.title] = str(error)
    return tuple(rows)
