"""Adapters are found in the tree and by entry point, and what is wrong with one is said."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aggregator.model.discovery import adapter_names, load_adapter
from aggregator.model.errors import ConfigError, Origin

GOOD = """
from msgspec import Struct
from aggregator.model.registry import AdapterSpec
ADAPTER = AdapterSpec({name!r}, Struct, lambda context, settings: None)
"""
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a package with an adapter beside ours."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, module: str, code: str) -> None:
        (tmp_path / f"{module}.py").write_text(code)
        monkeypatch.delitem(sys.modules, module, raising=False)
        info = tmp_path / f"{module}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
        entry = f"[mesh_aggregator.adapters]\n{name} = {module}\n"
        (info / "entry_points.txt").write_text(entry)

    return write


def refusal(name: str) -> str:
    """Why an adapter cannot be used."""
    with pytest.raises(ConfigError) as caught:
        load_adapter(name, Origin("mesh.yaml", 3))
    return str(caught.value)


def test_an_adapter_elsewhere_is_found_by_its_entry_point(install: Install) -> None:
    """Its name is the entry point's."""
    install("shelf-1", "shelf_one", GOOD.format(name="shelf-1"))

    assert "shelf-1" in adapter_names()
    assert load_adapter("shelf-1", Origin()).name == "shelf-1"


def test_two_of_one_name_are_refused(install: Install) -> None:
    """Which one is meant is not ours to guess, least of all if one of them is ours."""
    install("shelf-2", "shelf_two", GOOD.format(name="shelf-2"))
    install("shelf-2", "shelf_more", GOOD.format(name="shelf-2"))

    assert refusal("shelf-2").endswith(
        "several packages bring a registry type 'shelf-2': shelf_more, shelf_two"
    )


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import no_such_library", "cannot be imported: No module named 'no_such_library'"),
        ("from aggregator.model.registry import Shelf", "cannot be imported: cannot import name"),
        ("def", "cannot be imported: invalid syntax"),
        ("ADAPTER = 3", "bad_shelf.ADAPTER is no AdapterSpec of the name 'bad'"),
        ("", "bad_shelf.ADAPTER is no AdapterSpec of the name 'bad'"),
        (GOOD.format(name="good"), "bad_shelf.ADAPTER is no AdapterSpec of the name 'bad'"),
    ],
)
def test_what_is_wrong_with_an_installed_package_is_said(
    install: Install, code: str, message: str
) -> None:
    """At the place in the settings that names it, and without a traceback."""
    install("bad", "bad_shelf", code)

    found = refusal("bad")

    assert found.startswith("mesh.yaml:3: type: ")
    assert message in found


def test_a_broken_package_disturbs_nobody_who_does_not_name_it(install: Install) -> None:
    """It is imported only if the settings name it."""
    install("bad", "bad_shelf", "raise RuntimeError")

    assert "bad" in adapter_names()
    assert load_adapter("files", Origin()).name == "files"
