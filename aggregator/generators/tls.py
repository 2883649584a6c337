"""TLS towards upstreams, with certificates that the proxy reads from its own files.

Nothing here serves secrets, so nothing built here may wait for one: settings that need certificates
from us close the cluster instead.
"""

from ipaddress import ip_address
from typing import Final

from envoy.config.core.v3 import base_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, tls_pb2

from config.traffic_policy import ClientTLSMode, ClientTLSSettings

SOCKET_NAME: Final = "envoy.transport_sockets.tls"
# Where most distributions keep the bundle of their authorities. A proxy that lacks it refuses the
# cluster, so that an unverified connection is never made.
SYSTEM_AUTHORITIES: Final = "/etc/ssl/certs/ca-certificates.crt"
_SYSTEM: Final = frozenset({"", "system"})


def why_closed(tls: ClientTLSSettings | None, *, grpc: bool = False) -> str:
    """Why connections cannot be secured as *tls* asks; empty if they can, or need not be."""
    if tls is None or tls.mode is ClientTLSMode.DISABLE:
        return ""
    if grpc:
        return f"TLS mode {tls.mode} cannot be given to gRPC clients, which bring their own"
    if tls.mode is ClientTLSMode.ISTIO_MUTUAL:
        return "TLS mode ISTIO_MUTUAL needs certificates of the mesh, and nothing here issues them"
    if tls.credential_name:
        return "TLS by credentialName needs a source of secrets, and there is none"
    if tls.mode is ClientTLSMode.MUTUAL and not (tls.client_certificate and tls.private_key):
        return "TLS mode MUTUAL needs clientCertificate and privateKey"
    return ""


def needs_auto_sni(tls: ClientTLSSettings | None) -> bool:
    """Whether the name of the server is to be taken from each request."""
    return _is_on(tls) and tls is not None and not tls.sni


def needs_auto_san(tls: ClientTLSSettings | None, names: tuple[str, ...]) -> bool:
    """Whether the certificate must be for the name taken from the request; *names* are expected."""
    return needs_auto_sni(tls) and not names and not (tls and tls.insecure_skip_verify)


def build_tls_socket(
    tls: ClientTLSSettings | None, names: tuple[str, ...], *, http2: bool
) -> base_pb2.TransportSocket | None:
    """The transport socket for settings that `why_closed` has nothing against; None is plaintext.

    *names* are the subject names of which the server's certificate must have one.
    """
    if tls is None or not _is_on(tls):
        return None
    context = tls_pb2.UpstreamTlsContext(sni=tls.sni)
    common = context.common_tls_context
    common.tls_params.tls_minimum_protocol_version = common_pb2.TlsParameters.TLSv1_2
    common.tls_params.tls_maximum_protocol_version = common_pb2.TlsParameters.TLSv1_3
    if tls.mode is ClientTLSMode.MUTUAL:
        certificate = common.tls_certificates.add()
        certificate.certificate_chain.filename = tls.client_certificate
        certificate.private_key.filename = tls.private_key
    if not tls.insecure_skip_verify:
        common.validation_context.CopyFrom(_build_validation(tls, names))
    if http2:
        common.alpn_protocols.append("h2")
    socket = base_pb2.TransportSocket(name=SOCKET_NAME)
    socket.typed_config.Pack(context, deterministic=True)
    return socket


def _is_on(tls: ClientTLSSettings | None) -> bool:
    return tls is not None and tls.mode in (ClientTLSMode.SIMPLE, ClientTLSMode.MUTUAL)


def _build_validation(
    tls: ClientTLSSettings, names: tuple[str, ...]
) -> common_pb2.CertificateValidationContext:
    validation = common_pb2.CertificateValidationContext()
    system = tls.ca_certificates in _SYSTEM
    validation.trusted_ca.filename = SYSTEM_AUTHORITIES if system else tls.ca_certificates
    if tls.ca_crl:
        validation.crl.filename = tls.ca_crl
    for name in names:
        matcher = validation.match_typed_subject_alt_names.add(san_type=_name_type(name))
        matcher.matcher.exact = name
    return validation


def _name_type(name: str) -> common_pb2.SubjectAltNameMatcher.SanType.ValueType:
    if "://" in name:
        return common_pb2.SubjectAltNameMatcher.URI
    try:
        ip_address(name)
    except ValueError:
        return common_pb2.SubjectAltNameMatcher.DNS
    return common_pb2.SubjectAltNameMatcher.IP_ADDRESS
