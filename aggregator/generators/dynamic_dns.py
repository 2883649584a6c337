"""Hosts that Envoy resolves as requests name them: ServiceEntry's resolution DYNAMIC_DNS.

Cluster, HTTP filter and network filter share one cache of names, and Envoy demands that all of them
describe it alike; so they all take it from here.
"""

from typing import Final

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.clusters.dynamic_forward_proxy.v3 import cluster_pb2 as extension_pb2
from envoy.extensions.common.dynamic_forward_proxy.v3 import dns_cache_pb2
from envoy.extensions.filters.http.dynamic_forward_proxy.v3 import (
    dynamic_forward_proxy_pb2 as http_pb2,
)
from envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3 import (
    sni_dynamic_forward_proxy_pb2 as sni_pb2,
)

from aggregator.generators.duration import build_duration
from aggregator.generators.spec import View

ATTRIBUTES: Final = frozenset({"ipv4", "ipv6"})
"""What the description of the cache depends on."""

_CACHE: Final = "dynamic_dns"
_CLUSTER: Final = "envoy.clusters.dynamic_forward_proxy"
_SNI_FILTER: Final = "envoy.filters.network.sni_dynamic_forward_proxy"


def lookup_family(view: View) -> "cluster_pb2.Cluster.DnsLookupFamily.ValueType":
    """The families of addresses that these proxies can reach."""
    if view.ipv4 and view.ipv6:
        return cluster_pb2.Cluster.ALL
    return cluster_pb2.Cluster.V6_ONLY if view.ipv6 else cluster_pb2.Cluster.V4_ONLY


def apply_dynamic_cluster(view: View, cluster: cluster_pb2.Cluster) -> None:
    """Make it a cluster whose endpoints are the names that requests ask for."""
    cluster.lb_policy = cluster_pb2.Cluster.CLUSTER_PROVIDED
    cluster.cluster_type.name = _CLUSTER
    extension = extension_pb2.ClusterConfig(dns_cache_config=_build_cache(view))
    cluster.cluster_type.typed_config.Pack(extension, deterministic=True)


def build_http_filter(view: View) -> http_pb2.FilterConfig:
    """Resolves the authority of requests on routes that lead to such a cluster; idle on others."""
    return http_pb2.FilterConfig(dns_cache_config=_build_cache(view))


def build_sni_filter(view: View, port: int) -> listener_components_pb2.Filter:
    """Resolves the server name of a TLS connection before it is passed on to *port*."""
    message = sni_pb2.FilterConfig(dns_cache_config=_build_cache(view), port_value=port)
    packed = listener_components_pb2.Filter(name=_SNI_FILTER)
    packed.typed_config.Pack(message, deterministic=True)
    return packed


def _build_cache(view: View) -> dns_cache_pb2.DnsCacheConfig:
    return dns_cache_pb2.DnsCacheConfig(
        name=_CACHE,
        dns_lookup_family=lookup_family(view),
        dns_refresh_rate=build_duration(view.mesh.dns_refresh_rate),
    )
