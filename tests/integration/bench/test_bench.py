"""The benchmark runs, whatever it measures on the machine that it runs on."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.churn import Flood, endure
from bench.figure import Axis, Case, Goal, Growth, Row
from bench.mesh import Change
from bench.plot import render
from bench.report import Report, machine, now, print_report, write_json
from bench.run import Limits, Runner

ROUNDS = 2
PROXIES = 3
LIMITS = Limits(start_seconds=60, connect_seconds=60, round_seconds=30)


def run(folder: Path, change: Change, *, delta: bool) -> Row:
    """Measure a tiny case."""
    case = Case(change, 12, PROXIES, delta, ROUNDS, Goal(milliseconds=1, cpu_seconds=1000))
    return Runner(folder, LIMITS, lambda _: None).run(case)


@pytest.mark.parametrize(
    ("change", "delta"),
    [(Change.ENDPOINT, False), (Change.RULE, True), (Change.SERVICE, True)],
)
def test_change_reaches_every_proxy_beside_its_floor(
    tmp_path: Path, change: Change, delta: bool
) -> None:
    """The floor sends what the control plane sent: as many messages, as many bytes."""
    measured = run(tmp_path, change, delta=delta)

    for side in (measured.server, measured.floor):
        assert len(side.milliseconds) == ROUNDS
        assert all(each > 0 for each in side.milliseconds)
        assert side.cpu_seconds > 0
        assert side.peak_mb >= side.rss_mb > 0
    assert measured.server.messages == measured.floor.messages >= PROXIES
    assert measured.server.sent_mb == pytest.approx(measured.floor.sent_mb, rel=0.05)


@pytest.mark.parametrize("change", [Change.RENAME, Change.IN_PLACE])
def test_change_of_a_file_is_timed_from_the_write_and_from_the_watcher(
    tmp_path: Path, change: Change
) -> None:
    """What the watcher takes is told apart from what the control plane takes."""
    measured = run(tmp_path, change, delta=True)

    assert len(measured.since_write) == ROUNDS
    pairs = zip(measured.since_write, measured.server.milliseconds, strict=True)
    assert all(since_write > since_yield > 0 for since_write, since_yield in pairs)


def test_connecting_is_measured_on_a_fresh_server(tmp_path: Path) -> None:
    """All that a proxy gets is sent in the measured time, nothing is left from before."""
    measured = run(tmp_path, Change.CONNECT, delta=True)

    assert measured.server.messages == pytest.approx(measured.floor.messages, rel=0.2)
    assert measured.server.sent_mb == pytest.approx(measured.floor.sent_mb, rel=0.05)


@pytest.mark.servers
@pytest.mark.slow
def test_change_in_a_cluster_is_timed_from_the_write_to_its_api_server(tmp_path: Path) -> None:
    """A real API server is the input, and what it takes is part of the time."""
    measured = run(tmp_path, Change.SLICE, delta=True)

    assert len(measured.server.milliseconds) == ROUNDS
    assert measured.server.units == 1
    assert measured.server.sent_mb == pytest.approx(measured.floor.sent_mb, rel=0.05)


@pytest.mark.servers
@pytest.mark.slow
def test_start_is_timed_until_all_of_a_cluster_is_ready(tmp_path: Path) -> None:
    """The floor is reading the same lists."""
    measured = run(tmp_path, Change.START, delta=True)

    assert min(measured.server.milliseconds) > max(measured.floor.milliseconds)
    assert measured.server.peak_mb > 10


def test_changes_that_pour_in_all_arrive_while_the_loop_is_watched(tmp_path: Path) -> None:
    """The last change must reach every proxy, or nothing is measured."""
    flood = Flood(per_second=200, seconds=0.5, services=12, proxies=PROXIES)

    endured = endure(flood, LIMITS, tmp_path / "log")

    assert endured.changes > 50
    assert 1 < endured.pushes <= endured.changes
    assert endured.lags[0] <= endured.lags[1] <= endured.lags[2]
    assert 0 < endured.convergence[0] <= endured.convergence[2]
    assert len(endured.verdicts()) == 2


def test_growth_is_drawn_as_a_picture(tmp_path: Path) -> None:
    """One line for each axis, in a file that loads nothing from elsewhere."""
    measured = run(tmp_path, Change.ENDPOINT, delta=True)

    picture = render([Growth(axis, (measured, measured)) for axis in Axis]).decode()

    assert all(axis in picture for axis in Axis)
    assert not re.search(r'(?:href|src)="(?!#)', picture)


def test_report_shows_times_beside_the_floor_with_ratio_and_verdict(tmp_path: Path) -> None:
    """A figure without its floor says more of the machine than of the product."""
    measured = run(tmp_path, Change.ENDPOINT, delta=True)
    growth = Growth(Axis.SERVICES, (measured, measured), most=1.2)
    report = Report(machine(), now(), (measured,), (growth,), failed={"a row": "why"})
    console = Console(record=True, width=168, file=io.StringIO())

    print_report(report, console)
    write_json(report, tmp_path / "results" / "report.json")

    text = console.export_text()
    # A cell breaks the title into lines.
    assert all(word in text for word in measured.case.title.split())
    assert f"{measured.floor.p50:.1f}" in text
    assert f"{measured.ratio:.2f}" in text
    assert "missed p99 ≤ 1 ms" in text
    assert "reached CPU ≤ 1000 s" in text
    assert "reached CPU ≤ 1.2 ×" in text
    assert "a row: why" in text
    written: dict[str, Any] = json.loads((tmp_path / "results" / "report.json").read_bytes())
    assert written["rows"][0]["floor"]["milliseconds"] == list(measured.floor.milliseconds)
    assert written["machine"]["cores"] >= 1
