"""What an Envoy is sent for some input, compared with what a person has read and approved."""

from pathlib import Path

import pytest

from tests.support.golden import GOLDENS, INPUT, PROBLEMS, TYPES, Golden, build_golden, read_goldens


@pytest.mark.parametrize("golden", read_goldens(), ids=lambda each: each.name)
async def test_resources(golden: Golden, request: pytest.FixtureRequest) -> None:
    """The same input gives the same resources as when they were approved."""
    built = await build_golden(golden)
    present = {file.name: file for file in golden.folder.glob("out.*.yaml")}
    if request.config.getoption("update_goldens"):
        _update(golden.folder, built, present)
        return

    assert built.keys() == present.keys(), "run with --update-goldens, and read the difference"
    for name, text in built.items():
        assert text == present[name].read_text(), name


def _update(folder: Path, built: dict[str, str], present: dict[str, Path]) -> None:
    for name in present.keys() - built.keys():
        present[name].unlink()
    for name, text in built.items():
        (folder / name).write_text(text)


def test_every_file_belongs_to_a_case() -> None:
    """A renamed case leaves nothing behind that nobody compares."""
    known = {INPUT, *(f"out.{name}.yaml" for name in (*TYPES, PROBLEMS))}
    strays = {file for file in GOLDENS.glob("*/*/*") if file.name not in known}
    strays -= {
        golden.folder / f"in.{name}.yaml"
        for golden in read_goldens()
        for name in golden.head.registries
    }
    strays |= {file for file in GOLDENS.glob("*/*/*") if not file.with_name(INPUT).exists()}

    assert not strays


def test_every_case_shows_something() -> None:
    """A case whose input has no effect protects nothing."""
    for golden in read_goldens():
        files = [golden.folder / f"out.{name}.yaml" for name in golden.head.show]
        assert any(file.read_text().strip() not in ("", "[]") for file in files), golden.name
