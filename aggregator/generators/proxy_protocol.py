"""The PROXY protocol's header before everything else on an upstream connection."""

from typing import Final

from envoy.config.core.v3 import base_pb2, proxy_protocol_pb2
from envoy.extensions.transport_sockets.proxy_protocol.v3 import upstream_proxy_protocol_pb2
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2

from config.traffic_policy import ProxyProtocol, ProxyProtocolVersion

SOCKET_NAME: Final = "envoy.transport_sockets.upstream_proxy_protocol"
RAW_NAME: Final = "envoy.transport_sockets.raw_buffer"


def wrap_in_proxy_protocol(
    settings: ProxyProtocol, inner: base_pb2.TransportSocket | None
) -> base_pb2.TransportSocket:
    """A socket that sends the header and then goes on as *inner*, or in plaintext."""
    upstream = upstream_proxy_protocol_pb2.ProxyProtocolUpstreamTransport()
    upstream.config.version = (
        proxy_protocol_pb2.ProxyProtocolConfig.V2
        if settings.version is ProxyProtocolVersion.V2
        else proxy_protocol_pb2.ProxyProtocolConfig.V1
    )
    if inner is None:
        inner = base_pb2.TransportSocket(name=RAW_NAME)
        inner.typed_config.Pack(raw_buffer_pb2.RawBuffer(), deterministic=True)
    upstream.transport_socket.CopyFrom(inner)
    socket = base_pb2.TransportSocket(name=SOCKET_NAME)
    socket.typed_config.Pack(upstream, deterministic=True)
    return socket
