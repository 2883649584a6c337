"""The Secret that gives access to another cluster."""

import base64

import yaml

from aggregator.cli.remote_secret import RemoteAccess, build_kubeconfig, secret_text
from aggregator.model.secret import Redacted

ACCESS = RemoteAccess(
    cluster="west",
    server="https://10.0.0.1:6443",
    ca=b"pem",
    token=Redacted(b"e30.very-long." + b"x" * 900),
)


def test_the_kubeconfig_is_readable_text_in_the_document() -> None:
    """Who applies it sees which server it leads to; a long token is not broken over lines."""
    text = secret_text(ACCESS, "istio-system")

    assert "stringData:\n  west: |\n    apiVersion: v1\n" in text
    assert "        server: https://10.0.0.1:6443\n" in text
    assert f"        token: {ACCESS.token.reveal().decode()}\n" in text


def test_several_can_be_joined() -> None:
    """Each output ends where the next document may begin."""
    both = secret_text(ACCESS, "a") + secret_text(ACCESS, "b")

    found = [each["metadata"]["namespace"] for each in yaml.safe_load_all(both) if each]
    assert found == ["a", "b"]


def test_the_authorities_and_the_name_in_the_certificate_go_along() -> None:
    """Through a load balancer the certificate is for another name than the address."""
    access = RemoteAccess(
        cluster="west", server="https://lb", ca=b"pem", tls_server_name="kubernetes"
    )

    assert build_kubeconfig(access)["clusters"][0]["cluster"] == {
        "certificate-authority-data": base64.b64encode(b"pem").decode(),
        "server": "https://lb",
        "tls-server-name": "kubernetes",
    }


def test_authorities_of_the_machine_need_no_field() -> None:
    """An empty field would mean that nobody is trusted."""
    access = RemoteAccess(cluster="west", server="https://lb", token=Redacted(b"t"))

    assert build_kubeconfig(access)["clusters"][0]["cluster"] == {"server": "https://lb"}
