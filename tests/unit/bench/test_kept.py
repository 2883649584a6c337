"""What a change costs is compared with what it cost, and not with how long it took."""

from pathlib import Path

import pytest

from bench.figure import Case, Row, Side
from bench.kept import FILE, Cost, compare, read, write
from bench.mesh import Change
from bench.plan import kept


def row(*, cpu: float = 0.02, sent: float = 0.5, units: float = 3.0, floor: float = 0.01) -> Row:
    """A measured row of some case."""
    case = Case(Change.RULE, 1000, 100, delta=True, rounds=1)
    return Row(
        case,
        Side((10,), cpu, sent, 100, 100, 100, units),
        Side((5,), floor, sent, 100, 100, 100),
    )


def test_what_costs_as_much_as_before_is_nothing_to_tell(tmp_path: Path) -> None:
    """Up to twice is what machines make of it."""
    file = tmp_path / "kept.json"
    write([row()], file)

    assert compare(read(file), [row(cpu=0.039, sent=0.9, units=6)]) == []


@pytest.mark.parametrize(
    ("dearer", "words"),
    [
        (row(cpu=0.05), "CPU in floors 5, was 2"),
        (row(sent=1.1), "MB sent 1.1, was 0.5"),
        (row(units=7), "units built 7, was 3"),
    ],
    ids=["cpu", "bytes", "units"],
)
def test_what_doubled_is_told(dearer: Row, words: str) -> None:
    """Each kind of cost by itself."""
    assert compare({dearer.case.title: Cost(2, 0.5, 3)}, [dearer]) == [
        f"{dearer.case.title}: {words}"
    ]


def test_slower_machine_is_no_higher_cost() -> None:
    """Its transport takes longer too."""
    assert compare({row().case.title: Cost(2, 0.5, 3)}, [row(cpu=0.2, floor=0.1)]) == []


def test_row_that_was_never_kept_is_told() -> None:
    """Else a renamed row would never be looked at again."""
    (line,) = compare({}, [row()])
    assert "nothing is kept" in line


def test_rows_that_were_not_measured_stay_kept(tmp_path: Path) -> None:
    """A single row can be brought up to date."""
    file = tmp_path / "kept.json"
    file.write_text('{"another": {"cpu": 1, "sent_mb": 1, "units": 1}}')

    write([row()], file)

    assert set(read(file)) == {"another", row().case.title}


def test_every_row_that_is_looked_at_is_kept() -> None:
    """The file in the tree fits the plan."""
    assert {case.title for case in kept()} <= read(FILE).keys()
