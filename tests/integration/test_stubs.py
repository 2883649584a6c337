"""The stubs of the Envoy messages, as the type checker sees them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATE = (sys.executable, str(ROOT / "scripts/generate_stubs.py"))

MESSAGE = """
from envoy.config.cluster.v3 import cluster_pb2
from google.protobuf import duration_pb2

cluster = cluster_pb2.Cluster({argument})
"""


@pytest.fixture(scope="module", autouse=True)
def stubs() -> None:
    """They are made by `make install`; this only takes time where that was not run."""
    subprocess.run(GENERATE, check=True)


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ('alt_stat_name="reviews"', None),
        ('alt_stat_nam="reviews"', 'Unexpected keyword argument "alt_stat_nam"'),
        ('name=b"reviews"', 'Argument "name" to "Cluster" has incompatible type "bytes"'),
        ("connect_timeout=duration_pb2.Duration(seconds=1)", None),
        ("connect_timeout=1.0", 'Argument "connect_timeout" to "Cluster" has incompatible type'),
    ],
)
def test_a_misspelt_or_mistyped_field_is_found(
    argument: str, complaint: str | None, tmp_path: Path
) -> None:
    """Without stubs such a mistake is found only when the resource is built, if ever."""
    sample = tmp_path / "sample.py"
    sample.write_text(MESSAGE.format(argument=argument), encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", sample],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )

    assert (done.returncode == 0) == (complaint is None), done.stdout
    assert complaint is None or complaint in done.stdout


def test_stubs_are_made_only_once(tmp_path: Path) -> None:
    """A check does not wait for what is already there, and the services' stubs are made as well."""
    target = tmp_path / "typings"

    first, second = (
        subprocess.run(
            [*GENERATE, "--output", target], stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        for _ in range(2)
    )

    assert first.startswith("Wrote ")
    assert "up to date" in second
    assert (target / "envoy/service/discovery/v3/ads_pb2_grpc.pyi").is_file()
    assert (target / "aetcd/rpc/rpc_pb2.pyi").is_file()
    # Another distribution has the stubs of google.protobuf, which a marker here would hide.
    assert not (target / "google/__init__.pyi").exists()
