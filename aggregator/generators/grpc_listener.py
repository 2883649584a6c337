"""Listeners for gRPC's own xDS clients (LDS): what ``xds:///host:port`` asks for by its name."""

from collections.abc import Iterator

from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)

from aggregator.generators.filters.spec import (
    build_http_filters,
    filter_attributes,
    filter_kinds,
)
from aggregator.generators.http_chain import build_ads_source
from aggregator.generators.name import outbound_cluster
from aggregator.generators.spec import (
    LISTENER,
    GeneratorSpec,
    Resource,
    Root,
    Unit,
    View,
    resource_of,
)
from aggregator.model.service import Protocol

CLIENT = "grpc"


def build(view: View, unit: Unit) -> Iterator[Resource]:
    """One for each port of the host; whether gRPC is spoken there is for the client to know."""
    service = view.service(unit.key)
    if service is None:
        return
    origins = (str(service.origin),) if service.origin.source else ()
    for number in sorted({p.number for p in service.ports if p.protocol != Protocol.UDP}):
        manager = hcm_pb2.HttpConnectionManager(http_filters=build_http_filters(view, CLIENT))
        manager.rds.config_source.CopyFrom(build_ads_source())
        # The route is named as the cluster that it leads to unless a rule says otherwise.
        manager.rds.route_config_name = outbound_cluster(service.host, number)
        name = f"{service.host}:{number}"
        message = listener_pb2.Listener(name=name)
        message.api_listener.api_listener.Pack(manager, deterministic=True)
        yield resource_of(LISTENER, name, message, origins=origins)


GENERATOR = GeneratorSpec(
    kind=LISTENER,
    roots=(Root.HOST,),
    build=build,
    attributes=filter_attributes(CLIENT),
    kinds=filter_kinds(CLIENT),
    clients=frozenset({CLIENT}),
)
