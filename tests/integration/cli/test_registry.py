"""`registry test` shows what a registry would yield, or why it yields nothing."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from aggregator.cli.main import main

SERVICE = """
services:
- host: {host}
  namespace: shop
  ports: [{{name: http, number: 80, protocol: HTTP}}]
  endpoints: [{{address: 10.0.0.1, labels: {{v: "1"}}}}, {{address: 10.0.0.2}}]
"""


@pytest.fixture(autouse=True)
def _logs_restored() -> Iterator[None]:
    """The command silences the process's logs."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Two registries: one that maps, one whose folder is missing."""
    (tmp_path / "vms").mkdir()
    for name in ("a", "b", "c"):
        text = SERVICE.format(host=f"{name}.mesh")
        (tmp_path / "vms" / f"{name}.yaml").write_text(text)
    (tmp_path / "vms" / "bad.yaml").write_text("services: [{hots: x}]")
    file = tmp_path / "mesh.yaml"
    file.write_text(
        """
registries:
- name: vms
  type: files
  path: vms/
  mapping: {host: "{service}.svc", exclude: [{host: "c.*"}], labels: {rename: {v: version}}}
- {name: missing, type: files, path: nowhere/}
"""
    )
    return file


def run(*arguments: str) -> int:
    """The exit code of a command line."""
    with pytest.raises(SystemExit) as ended:
        main(["registry", "test", *arguments])
    code = ended.value.code
    assert isinstance(code, int)
    return code


def test_a_registry_is_shown_as_it_would_be_served(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After mapping, with what is skipped and why."""
    assert run("-c", str(settings), "vms") == 0

    output = capsys.readouterr()
    first, second = output.out.split("\n\n")
    assert first.split("\n")[1].split("\t")[:9] == [
        "vms",
        "files",
        "synced",
        "2",
        "4",
        "0",
        "0",
        "1",
        "1",
    ]
    assert second.strip().split("\n")[1:] == [
        "vms\tshop\ta.svc\t80/HTTP\t2",
        "vms\tshop\tb.svc\t80/HTTP\t2",
    ]
    assert "bad.yaml:1: services[0].hots: unknown field 'hots'" in output.err


def test_a_registry_that_cannot_be_read_ends_with_1(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At once, with the reason; the others are shown all the same."""
    began = time.monotonic()
    assert run("-c", str(settings)) == 1

    assert time.monotonic() - began < 20
    output = capsys.readouterr()
    assert "missing\tfiles\tfailed\t0\t0" in output.out
    assert "vms\tshop\ta.svc" in output.out
    assert "error: registry missing: " in output.err


def test_scripts_get_everything_as_json(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With labels, places and weights."""
    assert run("-c", str(settings), "-o", "json", "vms", "missing") == 1

    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    vms, missing = shown["registries"]
    assert vms["counts"]["endpoints"] == 4
    assert vms["services"][0]["host"] == "a.svc"
    assert vms["services"][0]["endpoints"][0]["labels"] == {"version": "1"}
    assert {each["path"] for each in vms["problems"]} == {"services[0].hots", "services[0].host"}
    assert (missing["state"], missing["reason"]) == ("failed", "unavailable")


def test_an_unknown_name_is_refused(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A slip of the pen must not pass for a good registry."""
    assert run("-c", str(settings), "vmz") == 2

    assert "no registry is named 'vmz'; there are vms, missing" in capsys.readouterr().err
