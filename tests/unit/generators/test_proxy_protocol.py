"""The PROXY protocol's header."""

from envoy.config.core.v3 import base_pb2, proxy_protocol_pb2
from envoy.extensions.transport_sockets.proxy_protocol.v3 import upstream_proxy_protocol_pb2

from aggregator.generators.proxy_protocol import RAW_NAME, wrap_in_proxy_protocol
from config.traffic_policy import ProxyProtocol, ProxyProtocolVersion

Version = proxy_protocol_pb2.ProxyProtocolConfig


def read(
    socket: base_pb2.TransportSocket,
) -> upstream_proxy_protocol_pb2.ProxyProtocolUpstreamTransport:
    upstream = upstream_proxy_protocol_pb2.ProxyProtocolUpstreamTransport()
    assert socket.typed_config.Unpack(upstream)
    return upstream


def test_the_header_comes_in_both_versions() -> None:
    """Version 1 is the default, as in the API."""
    first = read(wrap_in_proxy_protocol(ProxyProtocol(), None))
    second = read(wrap_in_proxy_protocol(ProxyProtocol(ProxyProtocolVersion.V2), None))

    assert (first.config.version, second.config.version) == (Version.V1, Version.V2)
    assert first.transport_socket.name == RAW_NAME


def test_what_follows_the_header_stays_as_it_was() -> None:
    """TLS under the header is still TLS."""
    inner = base_pb2.TransportSocket(name="envoy.transport_sockets.tls")

    assert read(wrap_in_proxy_protocol(ProxyProtocol(), inner)).transport_socket == inner
