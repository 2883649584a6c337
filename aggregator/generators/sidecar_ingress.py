"""A Sidecar's ingress listeners that bind a port: the way to the workload without redirection."""

from collections.abc import Iterator

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2

from aggregator.generators.bind import Bind, wildcard
from aggregator.generators.filter_chain import Chain
from aggregator.generators.http_chain import build_inbound_http
from aggregator.generators.name import inbound_cluster
from aggregator.generators.spec import LISTENER, Resource, View, resource_of
from aggregator.generators.tcp_chain import build_tcp_proxy
from aggregator.model.config import Config
from aggregator.model.service import Protocol
from config.kinds.sidecar import CaptureMode, IstioIngressListener, Sidecar


def ingress_binds(view: View) -> list[Bind]:
    """Where the Sidecar opens ports towards the workload; of several at one place one."""
    return list(_ingress(view))


def build_ingress_listeners(view: View) -> Iterator[Resource]:
    """One listener for each; of several at one place the first stands."""
    config = view.sidecar()
    if config is None:
        return
    for bind, (index, ingress) in _ingress(view).items():
        if ingress.tls is None:
            yield _build_listener(view, config, ingress, bind)
            continue
        # Without its certificates the port would be open to everyone: better not at all.
        view.report(
            config.origin,
            str(config.key),
            "ingress listeners with TLS are not supported; the port is not opened",
            path=f"spec.ingress[{index}].tls",
        )


def _ingress(view: View) -> dict[Bind, tuple[int, IstioIngressListener]]:
    config = view.sidecar()
    if config is None:
        return {}
    spec: Sidecar = config.spec
    found: dict[Bind, tuple[int, IstioIngressListener]] = {}
    for index, ingress in enumerate(spec.ingress):
        bound = ingress.capture_mode == CaptureMode.NONE or view.interception_mode == "NONE"
        if bound and ingress.port is not None:
            bind = Bind(ingress.bind or wildcard(view), ingress.port.number)
            found.setdefault(bind, (index, ingress))
    return found


def _build_listener(
    view: View, config: Config, ingress: IstioIngressListener, bind: Bind
) -> Resource:
    cluster = inbound_cluster(bind.port)
    protocol = Protocol.parse(ingress.port.protocol if ingress.port else "") or Protocol.TCP
    if protocol.is_http:
        network_filter = build_inbound_http(view, bind.name, _build_routes(bind.port, cluster))
    else:
        network_filter = build_tcp_proxy(view, cluster, [(cluster, 1)])
    message = listener_pb2.Listener(
        name=bind.name,
        address=bind.build_address(),
        traffic_direction=base_pb2.INBOUND,
        filter_chains=[Chain(filters=(network_filter,)).build()],
    )
    return resource_of(LISTENER, bind.name, message, clusters=(cluster,), origins=(str(config),))


def _build_routes(port: int, cluster: str) -> route_pb2.RouteConfiguration:
    """Everything to the workload, without a time limit: its callers have theirs."""
    route = route_components_pb2.Route(
        name="default",
        match=route_components_pb2.RouteMatch(prefix="/"),
        route=route_components_pb2.RouteAction(cluster=cluster),
        decorator=route_components_pb2.Decorator(operation=f":{port}/*"),
    )
    route.route.timeout.SetInParent()
    route.route.max_stream_duration.max_stream_duration.SetInParent()
    route.route.max_stream_duration.grpc_timeout_header_max.SetInParent()
    routes = route_pb2.RouteConfiguration(
        name=f"inbound|http|{port}",
        virtual_hosts=[
            route_components_pb2.VirtualHost(
                name=f"inbound|http|{port}", domains=["*"], routes=[route]
            )
        ],
    )
    # The workload's cluster may come a moment later; requests meanwhile get 503.
    routes.validate_clusters.value = False
    return routes
