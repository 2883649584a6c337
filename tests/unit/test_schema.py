"""The published form of the settings, and that the documentation keeps up with it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from aggregator.schema import settings_schema

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA: dict[str, Any] = json.loads(json.dumps(settings_schema()))
SECTIONS = {
    "registries": ("registries", None),
    "mesh": ("mesh", "MeshConfig"),
    "merge": ("merge", "Merge"),
    "listen": ("listen", "Listen"),
    "grpc_tls": ("listen", "TlsListen"),
    "push": ("push", "Push"),
    "log": ("log", "Log"),
}


def section(title: str) -> str:
    """A chapter of docs/settings.md."""
    text = (DOCS / "settings.md").read_text()
    match = re.search(rf"^## `{title}`$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match is not None
    return match[1]


def rows(text: str) -> set[str]:
    """The keys that tables explain."""
    return set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))


def test_the_published_schema_is_the_one_that_is_printed() -> None:
    """Editors check against the file in the repository."""
    published = json.loads((DOCS / "mesh-aggregator.schema.json").read_text())

    assert published == SCHEMA, "run: mesh-aggregator schema > docs/mesh-aggregator.schema.json"


@pytest.mark.parametrize(("title", "definition"), SECTIONS.values(), ids=SECTIONS)
def test_every_key_of_a_section_is_documented(title: str, definition: str | None) -> None:
    """A key that nobody can look up might as well not be there."""
    if definition is None:
        kinds = SCHEMA["properties"]["registries"]["items"]["oneOf"]
        keys = {key for kind in kinds for key in kind["properties"]}
    else:
        keys = set(SCHEMA["$defs"][definition]["properties"])

    assert keys
    assert keys <= rows(section(title))


def test_every_section_is_documented() -> None:
    """The table at the top lists all that a file may hold."""
    text = (DOCS / "settings.md").read_text().partition("\n## ")[0]

    assert set(SCHEMA["properties"]) == rows(text)


def test_defaults_are_written_as_a_file_would_write_them() -> None:
    """What an editor inserts must be accepted."""
    push = SCHEMA["$defs"]["Push"]["properties"]

    assert push["write_timeout"]["default"] == "30s"
    assert push["in_flight"]["default"] == "48MiB"
    assert SCHEMA["$defs"]["Debounce"]["properties"]["max"]["default"] == "0.2s"


def test_a_registry_has_the_keys_of_its_own_type_only() -> None:
    """The schema tells apart what each adapter takes."""
    kinds = SCHEMA["properties"]["registries"]["items"]["oneOf"]
    files = next(kind for kind in kinds if kind["properties"]["type"]["const"] == "files")

    assert {"name", "type", "path"} <= set(files["required"])
    assert files["additionalProperties"] is False
    assert "host_template" not in files["properties"]
