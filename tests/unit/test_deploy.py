"""The files that put the daemon on machines and into clusters fit the tree and the tools."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.dockerfile import Stage, read_stages

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "deploy/systemd/mesh-aggregator.service"
EXACT_TAG = re.compile(r"[a-z0-9./_-]+:\d+\.\d+\.\d+[\w.-]*")
LOCKS = sorted(ROOT.glob("requirements*.lock"))


@pytest.fixture
def stages() -> list[Stage]:
    return read_stages(ROOT / "Dockerfile")


def test_every_copied_file_is_in_the_tree_and_not_ignored(stages: list[Stage]) -> None:
    """An image build does not fail for a file that was moved or that .dockerignore keeps out."""
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    sources = {
        source
        for stage in stages
        for copy in stage.all("COPY")
        if "from" not in copy.flags
        for source in copy.words[:-1]
    }

    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert sources == allowed


def test_everything_that_is_packaged_is_copied(stages: list[Stage]) -> None:
    """A new top-level package is not forgotten in the image."""
    copied = {copy.words[0] for stage in stages for copy in stage.all("COPY")}
    packages = {marker.parent.name for marker in ROOT.glob("*/py.typed")}

    assert packages <= copied


def test_bases_are_pinned_or_earlier_stages(stages: list[Stage]) -> None:
    """The same Dockerfile gives the same image next month."""
    names = {stage.name for stage in stages}
    bases = {stage.base for stage in stages} - names

    assert bases
    assert [base for base in bases if not EXACT_TAG.fullmatch(base)] == []


def test_stages_that_are_copied_from_exist(stages: list[Stage]) -> None:
    """A renamed stage does not break the build."""
    asked = {copy.flags["from"] for copy in stages[-1].all("COPY") if "from" in copy.flags}

    assert asked
    assert asked <= {stage.name for stage in stages}


def test_the_image_runs_as_an_unprivileged_user(stages: list[Stage]) -> None:
    """The user is a number, so that Kubernetes can tell that it is not root."""
    (user,) = stages[-1].all("USER")

    assert re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", user.arguments)


def test_the_image_reports_its_own_health(stages: list[Stage]) -> None:
    """The check needs no tool that a slim image lacks, and no shell."""
    (check,) = stages[-1].all("HEALTHCHECK")

    assert check.arguments == 'CMD ["mesh-aggregator", "health"]'


def test_the_image_exposes_the_ports_of_the_defaults(stages: list[Stage]) -> None:
    """ADS, ADS over TLS and HTTP are Istio's numbers."""
    (ports,) = stages[-1].all("EXPOSE")

    assert ports.words == ["15010", "15012", "15014"]


def test_dependencies_in_the_image_are_installed_by_hash(stages: list[Stage]) -> None:
    """Nothing unpinned gets in: an install without hashes may only take our own wheel."""
    runs = [run.arguments for stage in stages for run in stage.all("RUN")]
    installs = [part for run in runs for part in run.split("&&") if " install " in part]
    loose = [part for part in installs if "pip" in part and "--require-hashes" not in part]

    assert any("-r requirements.lock" in part for part in installs)
    assert [part for part in loose if not {"--no-deps", "--no-index"} <= set(part.split())] == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_lock_files_pin_by_hash_and_name_no_place(lock: Path) -> None:
    """A lock file works with any index and on any machine."""
    lines = lock.read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith(" ")]
    pin = re.compile(r"[a-z0-9-]+==[\w.!+-]+( ; .+)? \\")

    assert pins
    assert [line for line in pins if not pin.fullmatch(line)] == []
    assert [
        line
        for line in lines
        if line.startswith(" ") and not re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line)
    ] == []


def test_the_development_lock_agrees_with_the_released_one() -> None:
    """The tests run against the versions that users get."""
    released, development = (
        {line for line in (ROOT / name).read_text("utf-8").splitlines() if "==" in line}
        for name in ("requirements.lock", "requirements-dev.lock")
    )

    assert released <= development


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """systemd only warns of a misspelt setting and ignores it, so a warning is a failure here."""
    text = UNIT.read_text(encoding="utf-8")
    # The program is not installed where the tests run, and verify looks for it.
    present, replaced = re.subn(r"(?m)^ExecStart=\S+", f"ExecStart={shutil.which('true')}", text)
    assert replaced == 1
    copy = tmp_path / UNIT.name
    copy.write_text(present, encoding="utf-8")

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "")


def test_the_unit_uses_what_the_daemon_offers() -> None:
    """Readiness, watchdog and reload by signal are wired, and the user is made up for each run."""
    settings = set(UNIT.read_text(encoding="utf-8").splitlines())

    assert {
        "Type=notify",
        "WatchdogSec=30s",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "DynamicUser=yes",
        "StateDirectory=mesh-aggregator",
    } <= settings
