"""What is said of settings that cannot be used, with their line."""

from pathlib import Path
from typing import Annotated

import pytest
from msgspec import Meta, Struct

from adapters.remote_clusters.adapter import ADAPTER
from adapters.remote_clusters.decode import Announcer
from adapters.remote_clusters.settings import RemoteClustersSettings
from aggregator.model.errors import ConfigError, Origin
from aggregator.model.registry import (
    Adapter,
    AdapterSpec,
    AnnouncedRegistry,
    Content,
    RegistryContext,
)
from aggregator.model.secret import Redacted
from aggregator.registry.settings import RegistrySettings
from aggregator.settings import decode_announced, decode_settings


class ClusterSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of the type that is announced."""

    page: Annotated[int, Meta(ge=1, le=1000)] = 500


def never(_context: RegistryContext, _settings: ClusterSettings) -> Adapter:
    """No cluster is read here."""
    raise AssertionError


def load(name: str, _origin: Origin) -> AdapterSpec:
    """The adapter under test, and one for clusters."""
    if name == "kubernetes":
        return AdapterSpec("kubernetes", ClusterSettings, never, is_cluster=True)
    return ADAPTER


def decode(keys: str) -> RegistrySettings:
    """Decode one registry with these keys."""
    text = f"registries:\n- name: more\n  type: remote_clusters\n{keys}"
    (found,) = decode_settings(text.encode(), Path("/etc/mesh.yaml"), load).registries
    return found


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("", "/etc/mesh.yaml:2: registries[0]: expected `kubeconfigs` or `secrets`, or both"),
        ("  secrets: {}", ":4: registries[0].secrets.registry: required"),
        (
            "  kubeconfigs: k\n  defaults:\n    pgae: 7",
            ":6: registries[0].defaults.pgae: unknown field 'pgae'; did you mean 'page'?",
        ),
        (
            "  kubeconfigs: k\n  clusters:\n    west: {sync_timeout: soon}",
            ":6: registries[0].clusters.west.sync_timeout: ",
        ),
        (
            '  kubeconfigs: k\n  clusters:\n    "west.eu": {page: 0}',
            ':6: registries[0].clusters["west.eu"].page: expected a whole number from 1 to 1000',
        ),
        (
            "  kubeconfigs: k\n  clusters:\n    west: {cluster_id: east}",
            ":6: registries[0].clusters.west.cluster_id: the place of the kubeconfig says this",
        ),
        ("  kubeconfigs: k\n  clusters: {west: 7}", ":5: registries[0].clusters.west: expected an"),
    ],
)
def test_each_mistake_is_told_with_its_line(keys: str, problem: str) -> None:
    """Settings of a cluster that is not there yet are checked with the file, not months later."""
    with pytest.raises(ConfigError) as caught:
        decode(keys)

    assert len(caught.value.problems) == 1
    assert problem in str(caught.value)


def test_remote_clusters_give_no_rules_unless_asked() -> None:
    """Who adds a cluster wants its endpoints; its rules would count for the whole mesh."""
    assert decode("  kubeconfigs: k").context.rules is False
    assert decode("  kubeconfigs: k\n  rules: true").context.rules is True


def test_what_is_announced_can_be_decoded() -> None:
    """The settings that a cluster inherits are in the form that a file would have."""
    announcer = decode("  kubeconfigs: k\n  export_to: [shop]\n  clusters: {west: {page: 7}}")
    assert isinstance(announcer.adapter, RemoteClustersSettings)
    text = b"clusters: [{}]\ncontexts: [{}]"
    content = Announcer(announcer.context, announcer.adapter).decode_file(text, "k/west.yaml")
    (item,) = content.items[Content.REGISTRIES].values()
    assert isinstance(item, AnnouncedRegistry)

    found = decode_announced(item, announcer, load)

    assert found.context.export_to == ("shop",)
    assert found.adapter == ClusterSettings(7)
    assert found.context.credential.reveal() == text
    assert found.context.rules is False


def test_an_announced_cluster_is_optional_and_called_like_its_id() -> None:
    """One dead cluster must not keep the daemon from being ready."""
    announcer = decode("  kubeconfigs: k")
    item = AnnouncedRegistry(
        "west",
        "kubernetes",
        {"page": 7},
        Redacted(b"token"),
        base_dir="/etc/k",
        origin=Origin("/etc/k/west.yaml"),
    )

    found = decode_announced(item, announcer, load)

    assert (found.name, found.required) == ("west", False)
    assert found.adapter == ClusterSettings(7)
    assert found.context.cluster_id == "west"
    assert found.context.credential == Redacted(b"token")
    assert found.context.base_dir == "/etc/k"
    assert str(found.context.origin) == "/etc/k/west.yaml"
    other = decode_announced(
        AnnouncedRegistry("west", "kubernetes", {"page": 7}, Redacted(b"rotated")), announcer, load
    )
    assert not other.runs_like(found)
