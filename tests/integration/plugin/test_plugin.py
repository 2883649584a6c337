"""The adapter that docs/adapters.md shows, built, installed and run as its reader would."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.daemon_process import serving
from tests.support.poll import eventually

ROOT: Final = Path(__file__).parents[3]
LONGEST: Final = 60


def blocks(language: str) -> list[str]:
    """The examples of the chapter."""
    text = (ROOT / "docs" / "adapters.md").read_text()
    chapter = text.partition("## An adapter of your own")[2]
    return re.findall(rf"```{language}\n(.*?)```", chapter, re.DOTALL)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the package was built and installed, without a network."""
    source, target = tmp_path_factory.mktemp("inventory"), tmp_path_factory.mktemp("installed")
    (source / "mesh_inventory.py").write_text(blocks("python")[0])
    (source / "pyproject.toml").write_text(blocks("toml")[0])
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--target", str(target)]
    subprocess.run([*pip, *options, str(source)], check=True)
    return target


def environ(installed: Path) -> dict[str, str]:
    """Where the package is found, as if it were installed beside ours."""
    return {"PYTHONPATH": os.pathsep.join((str(ROOT), str(installed)))}


def test_the_example_is_short_and_needs_the_model_alone() -> None:
    """What a plug-in may rely on is small."""
    (code,) = blocks("python")

    assert len(code.splitlines()) < LONGEST
    imported = set(re.findall(r"^from (\S+) import", code, re.MULTILINE))
    ours = {each for each in imported if each.partition(".")[0] in ("aggregator", "config")}
    assert {each.rpartition(".")[0] for each in ours} == {"aggregator.model"}


async def test_the_daemon_serves_what_it_reads(installed: Path, tmp_path: Path) -> None:
    """It is a registry like any other: followed, reported, listed by its type."""
    hosts = tmp_path / "hosts.json"
    hosts.write_text(json.dumps({"a.mesh": ["10.0.0.1"]}))
    settings = tmp_path / "mesh.yaml"
    entry = "{name: machines, type: inventory, file: hosts.json, interval: 0.05}"
    settings.write_text(f"registries:\n- {entry}\n")

    async with serving("-c", str(settings), environ=environ(installed)) as daemon:
        await daemon.ready()
        assert await daemon.hosts() == {"a.mesh"}
        hosts.write_text(json.dumps({"a.mesh": ["10.0.0.1"], "b.mesh": []}))
        await eventually(daemon.hosts, lambda found: found == {"a.mesh", "b.mesh"})
        hosts.write_text("{")
        await eventually(lambda: daemon.logged("problem"))
        assert await daemon.hosts() == {"a.mesh", "b.mesh"}
        (registry,) = json.loads(await daemon.get("/debug/registryz"))["registries"]
        assert (registry["name"], registry["type"]) == ("machines", "inventory")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("type: inventory", "registries[0].file: required"),
        (
            "type: inventory, file: x, interval: 0",
            "registries[0].interval: expected a number above 0",
        ),
        ("type: inventory, file: x, file_: y", "unknown field 'file_'; did you mean 'file'?"),
        ("type: inventor", "unknown registry type 'inventor'; known: "),
    ],
)
def test_its_settings_are_checked_like_ours(
    installed: Path, tmp_path: Path, entry: str, message: str
) -> None:
    """With the line, the field and what was expected."""
    settings = tmp_path / "mesh.yaml"
    settings.write_text(f"registries:\n- {{name: machines, {entry}}}\n")
    command = [sys.executable, "-m", "aggregator.cli.main", "check", "-c", str(settings)]
    ran = subprocess.run(
        command, env=os.environ | environ(installed), capture_output=True, text=True, check=False
    )

    assert ran.returncode == 1
    assert f"{settings}:2: " in ran.stderr
    assert message in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_it_passes_the_contract_suite(installed: Path) -> None:
    """Whoever writes an adapter can put it through what ours go through."""
    driver = "tests.integration.plugin.inventory_driver:InventoryDriver"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/contract"]
    ran = subprocess.run(
        [*command, "--contract", driver],
        cwd=ROOT,
        env=os.environ | environ(installed),
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout[-6000:]
    assert re.search(r"^[0-9]+ passed", ran.stdout, re.MULTILINE)
