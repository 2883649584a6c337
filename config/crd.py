"""CustomResourceDefinitions of the kinds: what makes a Kubernetes API server keep rules."""

from collections.abc import Mapping
from typing import Any, Final

from config.kind import KindSpec
from config.openapi import PRESERVE, Schema, build_rules, message_schema

_AGE: Final = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def build_crd(kind: KindSpec) -> Schema:
    """The definition of one kind; all versions have one form, of which the first is stored."""
    singular = kind.kind.lower()
    names: Schema = {
        "kind": kind.kind,
        "listKind": f"{kind.kind}List",
        "plural": kind.plural,
        "singular": singular,
        "categories": list(kind.categories),
    }
    if kind.short_names:
        names["shortNames"] = list(kind.short_names)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{kind.group}",
            "labels": {"app.kubernetes.io/part-of": "mesh-aggregator"},
        },
        "spec": {
            "group": kind.group,
            "names": names,
            "scope": "Namespaced",
            "versions": [_version(kind, version) for version in kind.versions],
        },
    }


def _version(kind: KindSpec, version: str) -> Mapping[str, Any]:
    columns = [
        {"name": name, "type": "string", "jsonPath": path} for name, path in kind.columns.items()
    ]
    spec = message_schema(kind.spec)
    rules = (*kind.spec.RULES, *kind.rules)
    return {
        "name": version,
        "served": True,
        "storage": version == kind.versions[0],
        "subresources": {"status": {}},
        "additionalPrinterColumns": [*columns, _AGE],
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "required": ["spec"],
                "properties": {
                    "spec": spec | build_rules(rules),
                    "status": {"type": "object", PRESERVE: True},
                },
            }
        },
    }
