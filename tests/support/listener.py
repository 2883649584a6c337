"""Reads built listeners back, as Envoy would."""

from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from aggregator.generators.spec import Resource


def read_listener(resource: Resource) -> listener_pb2.Listener:
    """The message that was framed."""
    return listener_pb2.Listener.FromString(resource.body)


def read_manager(chain: listener_components_pb2.FilterChain) -> hcm_pb2.HttpConnectionManager:
    """The HTTP connection manager that ends the chain."""
    manager = hcm_pb2.HttpConnectionManager()
    assert chain.filters[-1].typed_config.Unpack(manager)
    return manager


def read_tcp_proxy(chain: listener_components_pb2.FilterChain) -> tcp_proxy_pb2.TcpProxy:
    """The TCP proxy that ends the chain."""
    proxy = tcp_proxy_pb2.TcpProxy()
    assert chain.filters[-1].typed_config.Unpack(proxy)
    return proxy


def cluster_by_sni(listener: listener_pb2.Listener) -> dict[str, str]:
    """Where TLS for each server name goes; ``""`` is the chain for everything else."""
    chains = [*listener.filter_chains]
    if listener.HasField("default_filter_chain"):
        chains.append(listener.default_filter_chain)
    return {
        name: read_tcp_proxy(chain).cluster
        for chain in chains
        for name in (chain.filter_chain_match.server_names or [""])
    }
