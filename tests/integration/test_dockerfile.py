"""What the Dockerfile runs to build the environment works, without a container daemon."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.dockerfile import Instruction, Stage, read_stages

ROOT = Path(__file__).resolve().parents[2]


def copy_into(context: Path, instruction: Instruction) -> None:
    """Do what COPY does, without what .dockerignore keeps out."""
    *sources, target = instruction.words
    for source in sources:
        origin = ROOT / source
        if origin.is_dir():
            unwanted = shutil.ignore_patterns("__pycache__", "*.pyc")
            shutil.copytree(origin, context / target, ignore=unwanted)
        else:
            shutil.copy(origin, context / target)


def run_build(stage: Stage, image: Path) -> None:
    """Carry out the stage with *image* in place of the root, and its WORKDIR as context."""
    (workdir,) = stage.all("WORKDIR")
    context = image / workdir.arguments.lstrip("/")
    context.mkdir(parents=True)
    binaries = image / "base"
    binaries.mkdir()
    (binaries / "python").symlink_to(Path(sys.base_prefix, "bin/python3"))
    for instruction in stage.instructions:
        if instruction.keyword == "COPY":
            copy_into(context, instruction)
        elif instruction.keyword == "RUN":
            command = re.sub(r"(?<![\w.])/opt/", f"{image}/opt/", instruction.arguments)
            path = f"{binaries}:/usr/bin:/bin"
            prefix = ["env", "--unset=PYTHONPATH", "--unset=VIRTUAL_ENV", f"PATH={path}"]
            subprocess.run([*prefix, "sh", "-euc", command], cwd=context, check=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_build_gives_an_environment_that_runs(tmp_path: Path) -> None:
    """Locked wheels suffice, the project is complete in it, and no installer is left in it."""
    (build,) = (stage for stage in read_stages(ROOT / "Dockerfile") if stage.name == "build")

    run_build(build, tmp_path)

    environment = tmp_path / "opt/mesh-aggregator"
    seen = subprocess.run(
        [environment / "bin/python", "-I", "-c", PROBE],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert seen.stdout.splitlines() == ["complete", "no pip"]
    answer = subprocess.run(
        [environment / "bin/mesh-aggregator", "--help"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert "serve" in answer.stdout
    assert "health" in answer.stdout


PROBE = """
import importlib.resources, importlib.util
import adapters, agent, aggregator, config
import aetcd, consul, grpc.aio, kubernetes.aio, re2, uvloop
import envoy.config.cluster.v3.cluster_pb2

packages = (adapters, agent, aggregator, config)
typed = [importlib.resources.files(each).joinpath("py.typed").is_file() for each in packages]
print("complete" if all(typed) else typed)
print("pip" if importlib.util.find_spec("pip") else "no pip")
"""
