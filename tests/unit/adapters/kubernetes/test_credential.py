"""Tests of adapters.kubernetes.credential."""

import json
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from adapters.kubernetes.credential import Credential, build_tls, decode_credential, run_exec
from adapters.kubernetes.kubeconfig import Access, ExecCommand
from aggregator.model.errors import AdapterRejectedError, AdapterUnavailableError
from aggregator.model.secret import Redacted
from tests.support.certificate import Authority

SERVER = "https://10.0.0.1:6443"


def test_a_program_gives_a_token_with_an_end() -> None:
    """It is asked again before that."""
    status = {"token": "x", "expirationTimestamp": "2026-01-01T00:00:00Z"}
    found = decode_credential(json.dumps({"status": status}).encode(), "login")

    assert found == Credential(Redacted(b"x"), expires=1767225600.0)
    assert found.fresh(1767225500.0)
    assert not found.fresh(1767225599.0)


def test_a_program_may_give_a_certificate() -> None:
    """With its key, and for ever unless it says otherwise."""
    status = {"clientCertificateData": "cert", "clientKeyData": "key"}
    found = decode_credential(json.dumps({"status": status}).encode(), "login")

    assert (found.certificate, found.key) == (Redacted(b"cert"), Redacted(b"key"))
    assert found.fresh(1e18)


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"[]",
        b"secret",
        b'{"status": 3}',
        b'{"status": {"token": 3}}',
        b'{"status": {}}',
        b'{"status": {"clientCertificateData": "secret"}}',
        b'{"status": {"token": "secret", "expirationTimestamp": "soon"}}',
        b'{"status": {"token": "secret\\nsecret"}}',
    ],
)
def test_what_else_a_program_prints_is_no_credential(output: bytes) -> None:
    """And is not repeated, since it may be one nearly."""
    with pytest.raises(AdapterUnavailableError, match="'login'") as caught:
        decode_credential(output, "login")
    assert "secret" not in str(caught.value)


def test_certificates_are_used_without_files(tmp_path: Path) -> None:
    """A read-only container has no place for a key, and needs none."""
    authority = Authority(tmp_path, "ca")
    issued = authority.issue("client", ["client"])
    access = Access(
        server=SERVER,
        ca=authority.ca.read_bytes(),
        certificate=Redacted(issued.cert.read_bytes()),
        key=Redacted(issued.key.read_bytes()),
    )
    context = build_tls(access, Credential())

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1


def test_a_key_with_a_passphrase_is_told_and_none_is_asked_for(tmp_path: Path) -> None:
    """A question on the terminal would never be answered."""
    issued = Authority(tmp_path, "ca").issue("client", ["client"])
    key = serialization.load_pem_private_key(issued.key.read_bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"hunter2"),
    )
    access = Access(
        server=SERVER, certificate=Redacted(issued.cert.read_bytes()), key=Redacted(encrypted)
    )

    with pytest.raises(AdapterRejectedError, match="the client's key is encrypted"):
        build_tls(access, Credential())


async def test_a_program_that_cannot_be_run_is_told() -> None:
    """Whatever is wrong with its arguments and variables."""
    access = Access(server=SERVER)
    for command in (
        ExecCommand("/nonexistent/login"),
        ExecCommand("a\0b"),
        ExecCommand("true", env=(("a=b", "c"),)),
    ):
        with pytest.raises(AdapterRejectedError, match="cannot be run"):
            await run_exec(command, access)


def test_an_unverified_server_has_to_be_asked_for() -> None:
    """As kubectl's `insecure-skip-tls-verify`."""
    context = build_tls(Access(server=SERVER, insecure=True), Credential())

    assert context.verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize(
    "access",
    [
        Access(server=SERVER, ca=b"no certificate"),
        Access(server=SERVER, certificate=Redacted(b"hunter2"), key=Redacted(b"hunter2")),
    ],
)
def test_certificates_that_cannot_be_used_are_told_with_the_server(access: Access) -> None:
    """And not with their content."""
    with pytest.raises(AdapterRejectedError, match=SERVER) as caught:
        build_tls(access, Credential())
    assert "hunter2" not in str(caught.value)
