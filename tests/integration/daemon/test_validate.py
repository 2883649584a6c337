"""`validate` reads files as a daemon would."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from aggregator.cli.commands.validate import Finding, read
from aggregator.cli.main import main

ROOT = Path(__file__).parents[3]
SERVICE = "services: [{host: a.mesh, ports: [{number: 80}], endpoints: [{address: 10.0.0.1}]}]\n"


@pytest.fixture(autouse=True)
def _logs_restored() -> Iterator[None]:
    """The command silences the process's logs."""
    yield
    structlog.reset_defaults()


def test_good_files_are_counted(tmp_path: Path) -> None:
    """One sees that the files were read at all."""
    (tmp_path / "a.yaml").write_text(SERVICE)

    assert read((tmp_path,)) == Finding(1, 1, 0, ())


def test_several_paths_are_judged_together(tmp_path: Path) -> None:
    """Conflicts between folders show before both are served."""
    for name, protocol in (("one", "HTTP"), ("two", "TCP")):
        (tmp_path / name).mkdir()
        text = SERVICE.replace("number: 80", f"number: 80, protocol: {protocol}")
        (tmp_path / name / "a.yaml").write_text(text)

    finding = read((tmp_path / "one", tmp_path / "two"))

    assert (finding.services, finding.endpoints) == (1, 1)
    assert ["port 80 is TCP here, HTTP there" in each.message for each in finding.problems] == [
        True
    ]


def test_what_the_readme_shows_is_valid(tmp_path: Path) -> None:
    """The first thing that a user tries works as it is written."""
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```yaml\n# mesh/(\w+\.yaml)\n(.*?)```", text, re.DOTALL)
    for name, content in blocks:
        (tmp_path / name).write_text(content)

    assert [name for name, _ in blocks] == ["services.yaml", "rules.yaml"]
    assert read((tmp_path,)) == Finding(1, 2, 2, ())


@pytest.mark.parametrize("folder", ["vms", "clusters/machines"])
def test_the_example_folders_are_valid(folder: str) -> None:
    """Users start from these files."""
    finding = read((ROOT / "examples" / folder,))

    assert finding.problems == ()
    assert finding.services > 0
    assert finding.rules > 0


def test_a_broken_file_is_told_by_line_and_ends_with_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A pipeline stops, and an editor jumps to the place."""
    file = tmp_path / "a.yaml"
    file.write_text("services:\n- host: a.mesh\n  prots: []\n  ports: [{number: 80}]\n")

    with pytest.raises(SystemExit) as ended:
        main(["validate", str(tmp_path)])

    output = capsys.readouterr()
    assert ended.value.code == 1
    assert f"error: {file}:3: services[0].prots: unknown field 'prots'" in output.err
    assert "did you mean 'ports'?" in output.err
    assert output.out == "services\tendpoints\trules\tproblems\n0\t0\t0\t1\n"


def test_warnings_alone_are_no_failure(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What is taken as it is written, only not as its author may think, does not stop a rollout."""
    (tmp_path / "a.yaml").write_text(SERVICE)
    (tmp_path / "b.yaml").write_text(SERVICE.replace("80", "80, protocol: HTTP"))

    with pytest.raises(SystemExit) as ended:
        main(["validate", str(tmp_path)])

    assert ended.value.code == 0
    assert capsys.readouterr().err.startswith("warning: ")


def test_a_path_that_is_not_there_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A typing error is no empty and therefore valid folder."""
    with pytest.raises(SystemExit) as ended:
        main(["validate", str(tmp_path / "absent")])

    assert ended.value.code == 2
    assert "does not exist" in capsys.readouterr().err
