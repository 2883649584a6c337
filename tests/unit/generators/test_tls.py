"""TLS towards upstreams, from the proxy's own files."""

from typing import Any

from envoy.extensions.transport_sockets.tls.v3 import common_pb2, tls_pb2

from aggregator.generators.tls import (
    SYSTEM_AUTHORITIES,
    build_tls_socket,
    needs_auto_san,
    needs_auto_sni,
    why_closed,
)
from aggregator.model.errors import Origin
from config.shape import decode_struct
from config.traffic_policy import ClientTLSSettings

Matcher = common_pb2.SubjectAltNameMatcher


def tls(mode: str = "SIMPLE", **settings: Any) -> ClientTLSSettings:
    return decode_struct({"mode": mode, **settings}, ClientTLSSettings, "", lambda _: Origin())


def context(
    settings: ClientTLSSettings, names: tuple[str, ...] = (), *, http2: bool = False
) -> tls_pb2.UpstreamTlsContext:
    socket = build_tls_socket(settings, names, http2=http2)
    assert socket is not None
    read = tls_pb2.UpstreamTlsContext()
    assert socket.typed_config.Unpack(read)
    return read


def test_plaintext_has_no_socket() -> None:
    """DISABLE is an explicit wish for plaintext; so is silence."""
    assert build_tls_socket(None, (), http2=False) is None
    assert build_tls_socket(tls("DISABLE"), (), http2=False) is None
    assert why_closed(None) == why_closed(tls("DISABLE")) == ""


def test_simple_tls_verifies_the_server_by_the_systems_authorities() -> None:
    """Encrypting to whoever answers would be no protection."""
    built = context(tls(sni="db.example.com"))

    common = built.common_tls_context
    assert built.sni == "db.example.com"
    assert common.validation_context.trusted_ca.filename == SYSTEM_AUTHORITIES
    assert common.tls_params.tls_minimum_protocol_version == common_pb2.TlsParameters.TLSv1_2
    assert context(tls(caCertificates="system")) == context(tls())


def test_authorities_revocations_and_names_are_the_rules() -> None:
    """Each kind of subject name is compared with the names of its own kind only."""
    names = ("spiffe://mesh/ns/shop", "db.example.com", "10.0.0.1")

    built = context(tls(caCertificates="/etc/ca.pem", caCrl="/etc/crl.pem"), names)

    validation = built.common_tls_context.validation_context
    assert validation.trusted_ca.filename == "/etc/ca.pem"
    assert validation.crl.filename == "/etc/crl.pem"
    found = [
        (each.san_type, each.matcher.exact) for each in validation.match_typed_subject_alt_names
    ]
    assert found == list(zip((Matcher.URI, Matcher.DNS, Matcher.IP_ADDRESS), names, strict=True))


def test_verification_is_off_only_where_the_rule_says_so() -> None:
    """insecureSkipVerify is for tests, and its absence is not."""
    skipped = context(tls(insecureSkipVerify=True), ("db.example.com",))

    assert skipped.common_tls_context.WhichOneof("validation_context_type") is None
    assert context(tls(insecureSkipVerify=False)) == context(tls())


def test_mutual_tls_reads_the_proxys_own_certificate() -> None:
    """From files, because nothing here serves secrets and a proxy must not wait for any."""
    built = context(tls("MUTUAL", clientCertificate="/c.pem", privateKey="/k.pem"))

    [certificate] = built.common_tls_context.tls_certificates
    assert certificate.certificate_chain.filename == "/c.pem"
    assert certificate.private_key.filename == "/k.pem"
    assert not built.common_tls_context.tls_certificate_sds_secret_configs


def test_http2_is_negotiated() -> None:
    """Servers that speak both would choose HTTP/1.1 without it, and gRPC would fail."""
    assert list(context(tls(), http2=True).common_tls_context.alpn_protocols) == ["h2"]
    assert list(context(tls()).common_tls_context.alpn_protocols) == []


def test_the_servers_name_comes_from_the_request_unless_the_rule_has_one() -> None:
    """And then the certificate must be for it, unless other names are expected."""
    assert needs_auto_sni(tls())
    assert not needs_auto_sni(tls(sni="a.b"))
    assert not needs_auto_sni(tls("DISABLE"))
    assert not needs_auto_sni(None)
    assert needs_auto_san(tls(), ())
    assert not needs_auto_san(tls(), ("db.example.com",))
    assert not needs_auto_san(tls(insecureSkipVerify=True), ())
    assert not needs_auto_san(tls(sni="a.b"), ())


def test_reasons_name_what_is_missing() -> None:
    """The author of the rule learns what to change."""
    assert "ISTIO_MUTUAL" in why_closed(tls("ISTIO_MUTUAL"))
    assert "credentialName" in why_closed(tls(credentialName="x"))
    assert "clientCertificate" in why_closed(tls("MUTUAL", privateKey="/k.pem"))
    assert "gRPC" in why_closed(tls(), grpc=True)
    assert why_closed(tls()) == ""
