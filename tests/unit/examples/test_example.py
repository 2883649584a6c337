"""Every file in `examples` is right: users start from them."""

from pathlib import Path
from typing import Final

import pytest
import yaml

from aggregator.cli.commands.validate import read
from aggregator.settings import load_settings

EXAMPLES: Final = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize(
    ("folder", "endpoints"), [("vms", 2), ("demo/mesh", 4)], ids=["vms", "demo"]
)
def test_a_folder_of_services_and_rules_is_without_a_problem(folder: str, endpoints: int) -> None:
    """Neither errors nor warnings greet those who try it."""
    finding = read((EXAMPLES / folder,))

    assert finding.problems == ()
    assert (finding.services, finding.endpoints, finding.rules) == (1, endpoints, 2)


def test_the_settings_file_is_right() -> None:
    """Each key in it is one that there is, and the folders that it names are there."""
    settings = load_settings(EXAMPLES / "mesh-aggregator.yaml")

    assert settings.warnings == ()
    assert [each.name for each in settings.registries] == ["vms", "more"]
    listed = yaml.safe_load((EXAMPLES / "mesh-aggregator.yaml").read_text())["registries"]
    assert all((EXAMPLES / each["path"]).is_dir() for each in listed)
