"""The definitions of the kinds for Kubernetes."""

from typing import Any

import pytest

from config.crd import build_crd
from config.kind_table import kinds


def definition(kind: str) -> Any:
    """The definition of a kind."""
    return build_crd(kinds()[kind])


@pytest.mark.parametrize("kind", kinds())
def test_a_definition_is_named_by_plural_and_group(kind: str) -> None:
    """The API server refuses other names."""
    spec = definition(kind)["spec"]

    assert definition(kind)["metadata"]["name"] == f"{spec['names']['plural']}.{spec['group']}"
    assert spec["names"]["singular"] == kind.lower()
    assert spec["scope"] == "Namespaced"


@pytest.mark.parametrize("kind", kinds())
def test_all_versions_are_served_and_the_first_is_stored(kind: str) -> None:
    """Old manifests go on working; exactly one version may be stored."""
    versions = definition(kind)["spec"]["versions"]

    assert tuple(each["name"] for each in versions) == kinds()[kind].versions
    assert all(each["served"] for each in versions)
    assert [each["storage"] for each in versions] == [True] + [False] * (len(versions) - 1)
    assert len({str(each["schema"]) for each in versions}) == 1


def test_envoy_filters_have_istios_only_version() -> None:
    """Definitions of Istio's know no other one."""
    assert kinds()["EnvoyFilter"].versions == ("v1alpha3",)


def test_short_names_and_columns_are_istios() -> None:
    """`kubectl get vs` goes on working, and shows the same."""
    spec = definition("VirtualService")["spec"]

    assert spec["names"]["shortNames"] == ["vs"]
    assert [each["name"] for each in spec["versions"][0]["additionalPrinterColumns"]] == [
        "Gateways",
        "Hosts",
        "Age",
    ]


def test_rules_of_a_kind_do_not_hold_for_its_message_elsewhere() -> None:
    """A WorkloadEntry needs an address, the template of a WorkloadGroup does not."""

    def spec_of(kind: str) -> Any:
        version = definition(kind)["spec"]["versions"][0]
        return version["schema"]["openAPIV3Schema"]["properties"]["spec"]

    assert "x-kubernetes-validations" in spec_of("WorkloadEntry")
    assert "x-kubernetes-validations" not in spec_of("WorkloadGroup")["properties"]["template"]
