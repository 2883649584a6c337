"""The demo as its users run it: what it shows, when it fails, and what it leaves behind."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.support.servers.envoy import find_envoy

ROOT: Final = Path(__file__).parents[2]
MESH: Final = ROOT / "examples" / "demo" / "mesh"
DEMO: Final = (sys.executable, "-m", "examples.demo")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.fixture(autouse=True)
def _needs_envoy() -> None:
    find_envoy()


@contextmanager
def running_demo(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run it piped, with its temporary files in *folder*."""
    with subprocess.Popen(
        [*DEMO, *arguments],
        cwd=ROOT,
        env=_environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _environment(folder: Path) -> Mapping[str, str]:
    return {**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}


def run_demo(folder: Path, *arguments: str) -> tuple[int, str]:
    """Its exit code and all that it printed."""
    with running_demo(folder, *arguments) as process:
        output, _ = process.communicate(timeout=170)
    return process.returncode, output


def changed_mesh(folder: Path, name: str, change: Callable[[str], str]) -> Path:
    """A copy of the demo's folder with one file changed."""
    copy = folder / "changed"
    shutil.copytree(MESH, copy)
    text = (copy / name).read_text()
    (copy / name).write_text(change(text))
    assert (copy / name).read_text() != text
    return copy


def replaced(text: str, changes: Sequence[tuple[str, str]]) -> str:
    """The text with each of the changes."""
    for find, put in changes:
        assert find in text
        text = text.replace(find, put)
    return text


def children_of(process_id: int) -> set[int]:
    """The processes that it has started."""
    listed = Path(f"/proc/{process_id}/task/{process_id}/children").read_text()
    return {int(each) for each in listed.split()}


def is_alive(process_id: int) -> bool:
    """Whether it still runs."""
    try:
        return "Z" not in Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_a_piped_demo_sees_what_the_rules_say_and_leaves_nothing(tmp_path: Path) -> None:
    """The main job works on a machine without a terminal, within the promised time."""
    started = time.monotonic()

    code, output = run_demo(tmp_path)

    assert code == 0, output
    assert "All 7 checks passed" in output
    assert re.search(r"new weights .* after \d+ ms; none of [\d,]+ failed", output)
    assert re.search(r"endpoint .* after \d+ ms; none of [\d,]+ failed", output)
    assert "\x1b" not in output
    assert list(tmp_path.iterdir()) == []
    assert time.monotonic() - started < 60


def test_rules_that_say_something_else_fail_the_checks_of_their_names(tmp_path: Path) -> None:
    """The demo judges what it saw; it does not just print it."""
    changes = (
        ("weight: 90", "weight: 30"),
        ("x-tester", "x-other"),
        ("prefix: /reports", "prefix: /other"),
        ("value: 50", "value: 10"),
        ("retryOn: 5xx", "retryOn: connect-failure"),
    )
    mesh = changed_mesh(tmp_path, "rules.yaml", lambda text: replaced(text, changes))

    code, output = run_demo(tmp_path, "--mesh", str(mesh))

    assert code == 1, output
    assert "5 of 7 checks failed: canary, header, prefix, fault, retry." in output


def test_rules_that_are_refused_fail_everything_and_are_named(tmp_path: Path) -> None:
    """Edits that nothing follows are noticed too, and the reason is told."""
    mesh = changed_mesh(
        tmp_path, "rules.yaml", lambda text: text.replace("attempts: 2", "attempts: many")
    )

    code, output = run_demo(tmp_path, "--mesh", str(mesh))

    assert code == 1, output
    assert "7 of 7 checks failed: canary" in output
    assert re.search(r"rules.yaml:\d+: .*spec.http\[3\].retries.attempts: ", output)


def test_a_folder_without_the_service_ends_with_the_reason(tmp_path: Path) -> None:
    """Nothing waits for ever for an Envoy that gets nothing to listen on."""
    mesh = tmp_path / "empty"
    mesh.mkdir()

    code, output = run_demo(tmp_path, "--mesh", str(mesh))

    assert code == 1, output
    assert f"{mesh} is no folder of the demo: it has no rules.yaml" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["Starting", "1/7", "6/7"])
def test_a_signal_at_any_moment_ends_every_program_without_a_traceback(
    number: signal.Signals, moment: str, tmp_path: Path
) -> None:
    """Ctrl-C leaves no Envoy on a port, no daemon and no files."""
    with running_demo(tmp_path) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(moment):
                break
        children = children_of(process.pid)
        process.send_signal(number)
        output = process.stdout.read()
        code = process.wait(timeout=20)

    assert code == 128 + number
    assert "Interrupted" in output
    assert "Traceback" not in output
    assert moment == "Starting" or len(children) == 2
    assert not any(is_alive(child) for child in children)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not shutil.which("setpriv"), reason="the kernel is asked by setpriv")
def test_a_demo_that_is_killed_takes_its_programs_along(tmp_path: Path) -> None:
    """Even where nothing can be cleaned up, no port stays taken."""
    with running_demo(tmp_path) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("1/7"):
                break
        children = children_of(process.pid)
        process.kill()
        process.wait(timeout=5)
    deadline = time.monotonic() + 10
    while any(is_alive(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)

    assert len(children) == 2
    assert not any(is_alive(child) for child in children)


def test_an_envoy_that_is_missing_is_asked_for(tmp_path: Path) -> None:
    """The message says what to do, and nothing has been started."""
    hidden = tmp_path / "bin" / "python"
    code = f"import sys; sys.executable = {str(hidden)!r}; sys.argv = ['demo']; "
    code += "from examples.demo.__main__ import main; main()"
    hidden.parent.mkdir()
    (hidden.parent / "mesh-aggregator").symlink_to(shutil.which("true") or "")

    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**_environment(tmp_path), "PATH": "/nonexistent"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )

    assert run.returncode == 1
    assert "there is no `envoy`" in run.stdout
    assert "make install" in run.stdout
    assert "Traceback" not in run.stdout
