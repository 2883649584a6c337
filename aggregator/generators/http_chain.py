"""The network filter of HTTP listeners: Envoy's connection manager. Knows routes by name only."""

from envoy.config.core.v3 import config_source_pb2
from envoy.config.listener.v3 import listener_components_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)

from aggregator.generators.access_log import build_access_logs
from aggregator.generators.filters.spec import build_http_filters
from aggregator.generators.spec import View

FILTER_NAME = "envoy.filters.network.http_connection_manager"
INBOUND_SERVER = "istio-envoy"


def build_ads_source() -> config_source_pb2.ConfigSource:
    """The stream that everything comes over.

    Without a time limit: a listener that gave up waiting for its routes would take connections
    and answer 404.
    """
    source = config_source_pb2.ConfigSource(resource_api_version=config_source_pb2.V3)
    source.ads.SetInParent()
    source.initial_fetch_timeout.SetInParent()
    return source


def build_outbound_http(
    view: View, listener: str, route: str, *, absolute_urls: bool = False
) -> listener_components_pb2.Filter:
    """Serves the route configuration *route*; *absolute_urls* is for clients of an HTTP proxy."""
    manager = _build_manager(view, f"outbound_{listener}")
    manager.rds.config_source.CopyFrom(build_ads_source())
    manager.rds.route_config_name = route
    if absolute_urls:
        manager.http_protocol_options.allow_absolute_url.value = True
    return _pack(manager)


def build_inbound_http(
    view: View, listener: str, routes: route_pb2.RouteConfiguration
) -> listener_components_pb2.Filter:
    """Serves routes that the listener itself holds."""
    manager = _build_manager(view, f"inbound_{listener}")
    manager.server_name = INBOUND_SERVER
    manager.route_config.CopyFrom(routes)
    return _pack(manager)


def _build_manager(view: View, stat_prefix: str) -> hcm_pb2.HttpConnectionManager:
    manager = hcm_pb2.HttpConnectionManager(
        stat_prefix=stat_prefix,
        http_filters=build_http_filters(view),
        upgrade_configs=[hcm_pb2.HttpConnectionManager.UpgradeConfig(upgrade_type="websocket")],
        access_log=build_access_logs(view),
    )
    manager.normalize_path.value = True
    # Callers may set x-envoy-* headers themselves, such as a timeout; Envoy drops them if it
    # takes the connection's peer for an external client.
    manager.use_remote_address.value = False
    manager.stream_idle_timeout.SetInParent()
    return manager


def _pack(manager: hcm_pb2.HttpConnectionManager) -> listener_components_pb2.Filter:
    packed = listener_components_pb2.Filter(name=FILTER_NAME)
    packed.typed_config.Pack(manager, deterministic=True)
    return packed
