"""Which kubeconfigs announce a cluster, and what is said of the others."""

from typing import Any

import pytest
import yaml

from adapters.remote_clusters.decode import Announcer
from adapters.remote_clusters.settings import RemoteClustersSettings
from aggregator.model.errors import Origin
from aggregator.model.registry import AnnouncedRegistry, Content, RegistryContext
from aggregator.model.secret import Redacted, Secret

CONTEXT = RegistryContext(name="more", cluster_id="", rules=False, network="net1")
TOKEN = "s3cr3t-token"


def kubeconfig(**user: Any) -> bytes:
    """A kubeconfig with one context."""
    return yaml.safe_dump(
        {
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": "https://10.0.0.1:6443"}}],
            "users": [{"name": "u", "user": user or {"token": TOKEN}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
    ).encode()


def announcer(**settings: Any) -> Announcer:
    """What decodes, by these settings."""
    return Announcer(CONTEXT, RemoteClustersSettings(kubeconfigs="k", **settings))


def secret(**data: bytes) -> Secret:
    """A secret with these keys."""
    return Secret(
        "istio-system",
        "remotes",
        {key: Redacted(value) for key, value in data.items()},
        created=7.0,
        origin=Origin("east/istio-system/remotes"),
    )


def messages(text: bytes, **settings: Any) -> list[str]:
    """What is wrong with a kubeconfig in a secret."""
    found = announcer(**settings).decode_secret(secret(west=text))["west"]
    assert (found.registry is None) == bool(found.problems)
    return [str(problem) for problem in found.problems]


def test_a_file_announces_the_cluster_that_it_is_called_after() -> None:
    """The name of the file is the cluster id; the text reaches the cluster's adapter unread."""
    content = announcer().decode_file(kubeconfig(), "/etc/k/west.eu.yaml")

    assert not content.broken
    (found,) = content.items[Content.REGISTRIES].values()
    assert isinstance(found, AnnouncedRegistry)
    assert (found.name, found.type) == ("west.eu", "kubernetes")
    assert found.credential.reveal() == kubeconfig()
    assert found.base_dir == "/etc/k"
    assert found.origin == Origin("/etc/k/west.eu.yaml")
    assert TOKEN not in repr(found)


def test_a_cluster_takes_the_settings_of_its_finder_then_its_own() -> None:
    """What holds for all clusters is written once, what is special beside it."""
    found = announcer(
        defaults={"required": True, "network": "net2"}, clusters={"west": {"network": "net3"}}
    ).decode_secret(secret(west=kubeconfig(), north=kubeconfig()))

    settings = {key: each.registry.settings for key, each in found.items() if each.registry}
    assert {key: each["network"] for key, each in settings.items()} == {
        "north": "net2",
        "west": "net3",
    }
    assert all(each["required"] is True for each in settings.values())
    assert all(each["rules"] is False for each in settings.values())
    assert announcer().decode_secret(secret(west=kubeconfig()))["west"].registry is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\x00", "no kubeconfig"),
        (b"clusters: [", "no kubeconfig"),
        (TOKEN.encode(), "no kubeconfig: expected an object"),
        (b"", "expected one kubeconfig, found 0"),
        (kubeconfig() + b"\n---\n" + kubeconfig(), "found 2 objects"),
        (b"kind: Secret", "expected a kubeconfig, whose kind is Config"),
        (b"kind: Config\nclusters: 7", "clusters: required in a kubeconfig"),
    ],
)
def test_what_is_no_kubeconfig_is_named_with_its_place(text: bytes, message: str) -> None:
    """One look at the message leads to the cluster, the kind and the object; no credential is in
    it.
    """
    content = announcer().decode_file(text, "/etc/k/west.yaml")
    assert content.broken
    assert any(message in str(each) for each in content.problems)
    for each in content.problems:
        assert str(each).startswith("/etc/k/west.yaml")
        assert "cluster west" in str(each)
        assert TOKEN not in str(each)

    for told in messages(text):
        assert told.startswith("east/istio-system/remotes[west]")
        assert "Secret istio-system/remotes, cluster west" in told


def test_one_broken_key_of_a_secret_harms_only_its_cluster() -> None:
    """The others of the same secret are announced."""
    found = announcer().decode_secret(secret(west=b"[", north=kubeconfig()))

    assert found["west"].registry is None
    assert found["north"].registry is not None
    assert found["north"].registry.created == 7.0


@pytest.mark.parametrize("name", ["tokenFile", "client-certificate", "client-key"])
def test_a_secret_may_not_have_files_of_ours_read(name: str) -> None:
    """Who may write a secret in one namespace must not get at what the daemon may read."""
    (told,) = messages(kubeconfig(**{name: "/var/run/secrets/token"}), allow_exec=True)

    assert f"users[0].user.{name}: a kubeconfig from a secret may not name files" in told
    assert not announcer().decode_file(kubeconfig(**{name: "token"}), "west.yaml").broken


def test_a_secret_may_not_name_a_file_of_authorities() -> None:
    """The same for the server's side."""
    text = kubeconfig().replace(b"server:", b"certificate-authority: /etc/ca.pem\n    server:")

    (told,) = messages(text)

    assert "clusters[0].cluster.certificate-authority" in told


@pytest.mark.parametrize("name", ["exec", "auth-provider"])
def test_a_secret_has_a_program_run_only_where_that_is_allowed(name: str) -> None:
    """A kubeconfig can name any command."""
    text = kubeconfig(**{name: {"command": "rm"}})

    (told,) = messages(text)

    assert f"users[0].user.{name}: no program is run" in told
    assert messages(text, allow_exec=True) == []


def test_the_permission_to_run_programs_reaches_the_adapter() -> None:
    """Otherwise it would refuse what is allowed here."""
    found = announcer(allow_exec=True).decode_file(kubeconfig(), "west.yaml")

    (registry,) = found.items[Content.REGISTRIES].values()
    assert isinstance(registry, AnnouncedRegistry)
    assert registry.settings["allow_exec"] is True
