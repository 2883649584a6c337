"""What `deploy/kubernetes` would install, as the kustomization lists it."""

from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

FOLDER: Final = Path(__file__).parents[2] / "deploy" / "kubernetes"
CRDS: Final = "crds.yaml"


@cache
def listed_files() -> tuple[str, ...]:
    """The files of the kustomization, in order."""
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text("utf-8"))
    return tuple(kustomization["resources"])


@cache
def manifests() -> tuple[dict[str, Any], ...]:
    """Every object but the definitions of rules, which `tests.support.crds` has."""
    return tuple(
        document
        for name in listed_files()
        if name != CRDS
        for document in yaml.safe_load_all((FOLDER / name).read_text("utf-8"))
        if document
    )


def manifest(kind: str) -> dict[str, Any]:
    """The only object of a kind."""
    (found,) = (each for each in manifests() if each["kind"] == kind)
    return found


def settings_text() -> str:
    """The settings file in the ConfigMap."""
    return str(manifest("ConfigMap")["data"]["mesh-aggregator.yaml"])
