"""The demo's edits: exactly what they say changes, and nothing else of a file."""

from pathlib import Path

import pytest

from examples.demo.folder import RULES, SERVICES, MeshFolder, changes, drop_endpoint, set_weights
from examples.demo.program import DemoError, put_ports

RULES_TEXT = """\
http:
  - name: testers
    route:
    - destination: {host: shop.mesh, subset: v1}
      weight: 90
  - name: canary
    route:
    - destination: {host: shop.mesh, subset: v1}
      weight: 90  # the old one
    - destination: {host: shop.mesh, subset: v2}
      weight: 10
---
kind: Other
"""


@pytest.fixture
def folder(tmp_path: Path) -> MeshFolder:
    """A folder with rules, without services."""
    (tmp_path / RULES).write_text(RULES_TEXT)
    return MeshFolder(tmp_path)


def test_weights_change_in_the_named_route_only() -> None:
    """What the demo shows as the edit is all that it edits."""
    edited = set_weights(RULES_TEXT, "canary", {"v1": 0, "v2": 100})

    assert changes(RULES_TEXT, edited).splitlines() == [
        "-       weight: 90  # the old one",
        "+       weight: 0  # the old one",
        "-       weight: 10",
        "+       weight: 100",
    ]


def test_weights_of_a_route_that_is_not_there_change_nothing() -> None:
    """Other rules than the demo's make it fail by what is seen, not by an error."""
    assert set_weights(RULES_TEXT, "nosuch", {"v1": 0}) == RULES_TEXT


def test_an_endpoint_is_dropped_by_its_port_as_a_whole_number() -> None:
    """Port 9082 is not 19082."""
    line = "- {address: 127.0.0.1, ports: {http: %d}}\n"

    assert drop_endpoint(line % 19082 + line % 9082, 9082) == line % 19082


def test_an_excerpt_ends_with_its_item(folder: MeshFolder) -> None:
    """The story shows the rule that it is about, and not what follows."""
    assert folder.item(RULES, "name: canary").splitlines()[-1] == "      weight: 10"
    assert folder.item(RULES, "name: testers").splitlines()[-1] == "      weight: 90"
    assert folder.item(RULES, "name: nosuch") == ""


def test_ports_are_replaced_as_whole_numbers() -> None:
    """Addresses and other numbers stay."""
    text = "number: 9080, address: 127.0.0.1, weight: 90, http: 90800"

    replaced = put_ports(text, {9080: 1, 90: 2})

    assert replaced == "number: 1, address: 127.0.0.1, weight: 2, http: 90800"


def test_a_replaced_file_leaves_no_draft_behind(folder: MeshFolder) -> None:
    """The daemon sees one rename, and the folder holds what it held."""
    folder.replace(RULES, "new")

    assert [(each.name, each.read_text()) for each in folder.path.iterdir()] == [(RULES, "new")]


def test_a_folder_that_lacks_a_file_is_refused_by_name(folder: MeshFolder, tmp_path: Path) -> None:
    """A wrong --mesh says what is wrong before anything runs."""
    with pytest.raises(DemoError, match=SERVICES):
        MeshFolder.copied(folder.path, tmp_path / "copy", {})
