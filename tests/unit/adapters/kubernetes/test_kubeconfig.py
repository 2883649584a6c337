"""Tests of adapters.kubernetes.kubeconfig."""

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.kubernetes.kubeconfig import Access, ExecCommand, decode_kubeconfig, in_cluster
from aggregator.model.errors import ConfigError, Origin
from aggregator.model.secret import Redacted

TEXT = """\
clusters:
- name: east
  cluster: {server: "https://10.0.0.1:6443/", certificate-authority-data: Q0E=}
- name: west
  cluster: {server: "https://10.0.0.2:6443", tls-server-name: west, proxy-url: "http://proxy:3128"}
users:
- name: admin
  user: {token: hunter2}
- name: nobody
  user: {as: somebody, as-groups: [a, b]}
contexts:
- name: e
  context: {cluster: east, user: admin}
- name: w
  context: {cluster: west, user: nobody}
current-context: e
"""


def read(text: str, base: Path = Path(), *, context: str = "", allow_exec: bool = False) -> Access:
    """A kubeconfig that must be sound."""
    return decode_kubeconfig(
        text.encode(), "east.yaml", base, context=context, allow_exec=allow_exec
    )


def faults(text: str, base: Path = Path(), *, context: str = "") -> list[str]:
    """What is wrong with one."""
    with pytest.raises(ConfigError) as caught:
        read(text, base, context=context)
    return [str(problem) for problem in caught.value.problems]


def user(**fields: Any) -> str:
    """The kubeconfig with another user."""
    config = yaml.safe_load(TEXT)
    config["users"][0]["user"] = fields
    return str(yaml.safe_dump(config))


def test_the_current_context_says_where_and_as_whom() -> None:
    """Unless the settings name another one."""
    assert read(TEXT) == Access(
        server="https://10.0.0.1:6443", ca=b"CA", token=Redacted(b"hunter2")
    )
    assert read(TEXT, context="w") == Access(
        server="https://10.0.0.2:6443",
        server_name="west",
        proxy="http://proxy:3128",
        impersonate=(
            ("Impersonate-User", "somebody"),
            ("Impersonate-Group", "a"),
            ("Impersonate-Group", "b"),
        ),
    )


def test_what_is_in_files_is_read_from_beside_the_kubeconfig(tmp_path: Path) -> None:
    """Relative paths start there, as kubectl has it."""
    for name in ("token", "cert", "key"):
        (tmp_path / name).write_text(f"{name}\n")
    files = {"tokenFile": "token", "client-certificate": "cert", "client-key": "key"}
    found = read(user(**files), tmp_path)

    assert found.token == Redacted(b"token")
    assert (found.certificate, found.key) == (Redacted(b"cert\n"), Redacted(b"key\n"))


def test_data_count_before_files() -> None:
    """The file need not even be there."""
    data = base64.b64encode(b"pem").decode()
    fields = {"client-certificate": "gone", "client-certificate-data": data}
    found = read(user(**fields, **{"client-key-data": data}))

    assert found.certificate == found.key == Redacted(b"pem")


def test_a_program_is_named_only_if_that_is_allowed() -> None:
    """It would run with our rights."""
    text = user(
        exec={
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "login",
            "args": ["-x"],
            "env": [{"name": "A", "value": "b"}],
            "interactiveMode": "Never",
        }
    )

    assert read(text, allow_exec=True).exec == ExecCommand("login", ("-x",), (("A", "b"),))
    (fault,) = faults(text)
    assert "users[0].user.exec: 'login' is not run unless" in fault


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("clusters: [", "east.yaml:"),
        ("", "east.yaml: expected a kubeconfig, found no object"),
        ("kind: Config", "east.yaml:1: current-context: required, unless a context is named"),
        (TEXT.replace("current-context: e", "current-context: x"),
         "east.yaml:11: contexts: there is no context 'x'; known are e, w"),
        (TEXT.replace("user: admin", "user: admim"),
         "contexts[0].context.user: 'admim' is not in the file; did you mean 'admin'?"),
        (TEXT.replace("https://10.0.0.1:6443/", "10.0.0.1"),
         "clusters[0].cluster.server: expected an address such as"),
        (TEXT.replace("https://10.0.0.1:6443/", "https://10.0.0.1:x"), "expected an address"),
        (TEXT.replace("Q0E=", "Q0E"), "certificate-authority-data: expected text in base64"),
        (TEXT.replace("server:", "sever:"), "clusters[0].cluster.server: required"),
        (user(tokenFile="gone"), "users[0].user.tokenFile: cannot be read: gone: No such file"),
        (user(**{"client-key-data": "eA=="}), "expected both a client certificate and its key"),
        (user(username="a", password="b"), "users[0].user.username: not supported; use a token"),
        (user(**{"auth-provider": {"name": "gcp"}}), "users[0].user.auth-provider: not supported"),
        (user(token="a\nb"), "users[0].user.token: expected a token of visible ASCII characters"),
        (user(token="t\u00f6ken"), "users[0].user.token: expected a token of visible ASCII"),
        (user(tokenFile="a\0b"), "users[0].user.tokenFile: expected a path of a file"),
        (user(**{"as": "a\r\nX: b"}), "users[0].user.as: expected names on one line"),
        (TEXT.replace("https://10.0.0.1:6443/", "https://a..b:6443"), "expected an address"),
        (TEXT.replace("https://10.0.0.1:6443/", f"https://{64 * 'a'}.b"), "expected an address"),
        (TEXT.replace("https://10.0.0.1:6443/", "https://10.0.0.1/?a=b"), "expected an address"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_file_line_and_field(text: str, expected: str) -> None:
    """A kubeconfig is written by many tools, and by hand."""
    assert expected in faults(text)[0]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("http://proxy:3128", "http://[::1", "proxy-url: expected an http or https proxy"),
        ("http://proxy:3128", "socks5://proxy", "proxy-url: expected an http or https proxy"),
        ("tls-server-name: west", "tls-server-name: a..b", "tls-server-name: expected a host name"),
    ],
)
def test_names_that_nobody_could_look_up_are_told(before: str, after: str, expected: str) -> None:
    """Else the first request would break on them, without saying which field it was."""
    (fault,) = faults(TEXT.replace(before, after), context="w")

    assert expected in fault


def test_no_message_quotes_a_credential() -> None:
    """Messages go to logs."""
    (told,) = faults(TEXT.replace("https://10.0.0.1", "https://me:hunter2@10.0.0.1"))
    assert "clusters[0].cluster.server: expected an address without a user" in told
    assert "hunter2" not in told
    number = user(token=31337)
    data = user(**{"client-certificate-data": "sec ret", "client-key-data": 31337})

    assert not any("31337" in fault or "sec ret" in fault for fault in faults(number))
    assert not any("31337" in fault or "sec ret" in fault for fault in faults(data))
    assert "hunter2" not in repr(read(TEXT))


def test_in_a_pod_its_service_account_is_used(tmp_path: Path) -> None:
    """Its token is rotated on disk, so it is read each time."""
    (tmp_path / "token").write_text("one\n")
    (tmp_path / "ca.crt").write_text("CA")
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}

    found = in_cluster(environment, Origin("mesh.yaml", 3), tmp_path)

    assert found == Access(server="https://[fd00::1]:443", ca=b"CA", token=Redacted(b"one"))


def test_outside_of_a_cluster_a_kubeconfig_is_required(tmp_path: Path) -> None:
    """The message leads to the settings."""
    with pytest.raises(ConfigError, match=r"mesh\.yaml:3: kubeconfig: required outside"):
        in_cluster({}, Origin("mesh.yaml", 3), tmp_path)
    with pytest.raises(ConfigError, match="service account cannot be read"):
        in_cluster({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, Origin("mesh.yaml", 3), tmp_path)
