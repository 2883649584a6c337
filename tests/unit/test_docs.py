"""What the documentation shows is what the code takes."""

import re
from pathlib import Path

import pytest
from msgspec import Struct, structs

from aggregator.settings import decode_settings, load_settings
from config.reader import reader_rules
from config.terse import TerseEndpoint, TersePort, TerseService

ROOT = Path(__file__).parents[2]


def rows_of(title: str) -> set[str]:
    """The keys that the table of docs/files.md with that heading explains."""
    text = (ROOT / "docs" / "files.md").read_text()
    table = text.partition(f"| of {title} |")[2].partition("\n\n")[0]
    return {
        key
        for cell in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
        for key in cell.split("`")
    } - {"", ", "}


@pytest.mark.parametrize(
    ("title", "struct"),
    [("a service", TerseService), ("a port", TersePort), ("an endpoint", TerseEndpoint)],
)
def test_every_key_of_the_short_form_is_documented(title: str, struct: type[Struct]) -> None:
    """The short form has no other description than this one."""
    assert rows_of(title) == {field.encode_name for field in structs.fields(struct)}


def test_the_example_settings_are_valid_and_show_every_section() -> None:
    """Users start from this file."""
    settings = load_settings(ROOT / "examples" / "mesh-aggregator.yaml")

    assert [each.name for each in settings.registries] == ["vms", "more"]
    assert settings.warnings == ()


def test_the_example_of_clusters_and_machines_is_valid() -> None:
    """Users of several clusters start from this one."""
    settings = load_settings(ROOT / "examples" / "clusters" / "mesh-aggregator.yaml")

    assert [each.type for each in settings.registries] == [
        "kubernetes",
        "kubernetes",
        "remote_clusters",
        "files",
    ]
    assert settings.warnings == ()


def test_the_settings_for_kubernetes_in_the_documentation_are_valid() -> None:
    """What is copied from docs/kubernetes.md starts."""
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    (example,) = re.findall(r"```yaml\n(registries:.*?)```", text, re.DOTALL)

    settings = decode_settings(example.encode(), ROOT / "docs" / "mesh.yaml")

    assert [each.name for each in settings.registries] == ["east", "vms"]


def test_the_permissions_in_the_documentation_are_those_that_are_given() -> None:
    """Whoever writes roles of his own finds all that reading takes."""
    text = (ROOT / "docs" / "kubernetes.md").read_text()

    for rule in reader_rules():
        group = rule["apiGroups"][0]
        row = f"| the whole cluster | {f'`{group}`' if group else 'core'} |"
        resources = "the kinds of rules" if "istio" in group else ", ".join(rule["resources"])
        assert f"{row} {resources} | list, watch |" in text


def test_the_settings_in_the_documentation_are_valid() -> None:
    """What is copied from docs/settings.md starts."""
    text = (ROOT / "docs" / "settings.md").read_text()
    examples = re.findall(r"```yaml\n(registries:.*?)```", text, re.DOTALL)

    first, *others = [
        decode_settings(example.encode(), ROOT / "docs" / "mesh.yaml") for example in examples
    ]

    assert [each.name for each in first.registries] == ["vms", "rules"]
    assert first.listen.grpc_tls is not None
    assert any(each.registries[0].handling.mapping.host for each in others)
