"""TLS towards clients, as Gateway servers and Sidecar ingress listeners set it."""

from enum import StrEnum
from typing import Final

from config.check import Report
from config.message import Message


class ServerTLSMode(StrEnum):
    """How the client's connection is secured."""

    PASSTHROUGH = "PASSTHROUGH"
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    AUTO_PASSTHROUGH = "AUTO_PASSTHROUGH"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"
    OPTIONAL_MUTUAL = "OPTIONAL_MUTUAL"


class TLSProtocol(StrEnum):
    """Versions of TLS."""

    TLS_AUTO = "TLS_AUTO"
    TLSV1_0 = "TLSV1_0"
    TLSV1_1 = "TLSV1_1"
    TLSV1_2 = "TLSV1_2"
    TLSV1_3 = "TLSV1_3"


class TLSCertificate(Message, frozen=True):
    """Paths of one of several certificates."""

    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""


class ServerTLSSettings(Message, frozen=True):
    """What the server shows and demands."""

    https_redirect: bool = False
    mode: ServerTLSMode = ServerTLSMode.PASSTHROUGH
    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    ca_crl: str = ""
    credential_name: str = ""
    credential_names: tuple[str, ...] = ()
    ca_cert_credential_name: str = ""
    tls_certificates: tuple[TLSCertificate, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
    verify_certificate_spki: tuple[str, ...] = ()
    verify_certificate_hash: tuple[str, ...] = ()
    min_protocol_version: TLSProtocol = TLSProtocol.TLS_AUTO
    max_protocol_version: TLSProtocol = TLSProtocol.TLS_AUTO
    cipher_suites: tuple[str, ...] = ()
    insecure_skip_verify: bool | None = None


_CIPHERS: Final = frozenset(
    {
        "AES128-GCM-SHA256",
        "AES128-SHA",
        "AES256-GCM-SHA384",
        "AES256-SHA",
        "DES-CBC3-SHA",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-AES256-SHA",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-SHA",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-SHA",
        "ECDHE-RSA-CHACHA20-POLY1305",
    }
)
_PASSING: Final = frozenset({ServerTLSMode.PASSTHROUGH, ServerTLSMode.AUTO_PASSTHROUGH})
_MUTUAL: Final = frozenset({ServerTLSMode.MUTUAL, ServerTLSMode.OPTIONAL_MUTUAL})


def check_server_tls(report: Report, path: str, tls: ServerTLSSettings | None) -> None:
    """Demand one source of certificates where the mode needs certificates."""
    if tls is None:
        return
    _check_ciphers(report, path, tls)
    sources = {
        "serverCertificate": bool(tls.server_certificate and tls.private_key),
        "credentialName": bool(tls.credential_name),
        "credentialNames": bool(tls.credential_names),
        "tlsCertificates": bool(tls.tls_certificates),
    }
    given = [name for name, present in sources.items() if present]
    if tls.mode is ServerTLSMode.ISTIO_MUTUAL:
        if given or tls.server_certificate or tls.private_key or tls.ca_certificates:
            report.error(path, "ISTIO_MUTUAL takes its certificates from the mesh alone")
        return
    if tls.mode in _PASSING and (
        given or tls.server_certificate or tls.private_key or tls.ca_certificates or tls.ca_crl
    ):
        report.warn(path, f"{tls.mode} uses no certificates; they are ignored")
    if len(given) > 1:
        report.error(path, f"expected one source of certificates, found {', '.join(given)}")
    if tls.mode not in _PASSING and not tls.credential_name and not tls.credential_names:
        _check_files(report, path, tls)


def _check_files(report: Report, path: str, tls: ServerTLSSettings) -> None:
    if tls.mode in _MUTUAL and not tls.ca_certificates:
        report.error(f"{path}.caCertificates", f"required for {tls.mode}")
    if len(tls.tls_certificates) > 2:
        report.warn(f"{path}.tlsCertificates", "only two certificates are used")
    own = TLSCertificate(tls.server_certificate, tls.private_key)
    pairs = {f"{path}.tlsCertificates[{i}]": each for i, each in enumerate(tls.tls_certificates)}
    for where, certificate in (pairs or {path: own}).items():
        if not certificate.server_certificate:
            report.error(f"{where}.serverCertificate", f"required for {tls.mode}")
        if not certificate.private_key:
            report.error(f"{where}.privateKey", f"required for {tls.mode}")
    if tls.ca_crl and tls.mode is ServerTLSMode.SIMPLE:
        report.error(f"{path}.caCrl", "has no use with SIMPLE")


def _check_ciphers(report: Report, path: str, tls: ServerTLSSettings) -> None:
    old = tls.min_protocol_version in (TLSProtocol.TLSV1_0, TLSProtocol.TLSV1_1)
    if old and not tls.cipher_suites:
        report.warn(f"{path}.minProtocolVersion", "versions below 1.2 need fitting cipherSuites")
    seen: set[str] = set()
    for index, cipher in enumerate(tls.cipher_suites):
        if cipher in seen:
            report.warn(f"{path}.cipherSuites[{index}]", f"{cipher!r} is there already")
        # What begins with a sign is an expression, which only BoringSSL can judge.
        elif cipher[:1].isalnum() and cipher != "ALL" and cipher not in _CIPHERS:
            report.warn(f"{path}.cipherSuites[{index}]", f"unknown cipher {cipher!r}; ignored")
        seen.add(cipher)
