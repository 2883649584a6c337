"""The clusters that a proxy has whatever the services are: two for unknown traffic, and inbound."""

from collections.abc import Iterator
from typing import Final

from envoy.config.cluster.v3 import cluster_pb2

from aggregator.generators.connection_pool import (
    HttpOptions,
    apply_connection_pool,
    apply_http_pool,
    attach_http_options,
    speaks_http2,
)
from aggregator.generators.duration import build_duration
from aggregator.generators.load_assignment import build_address
from aggregator.generators.name import BLACK_HOLE, PASSTHROUGH, inbound_cluster, stat_name
from aggregator.generators.spec import CLUSTER, Resource, View, resource_of
from aggregator.model.config import Config
from aggregator.model.service import Protocol
from config.kinds.sidecar import CaptureMode, IstioIngressListener, Sidecar, SidecarPort

Cluster = cluster_pb2.Cluster
_PASSTHROUGH_IDLE_SECONDS: Final = 300
_UNIX: Final = "unix://"
_LOOPBACK: Final = {4: "127.0.0.1", 6: "::1"}
_ANY: Final = ("0.0.0.0", "::")  # noqa: S104  # what a rule may say, not what is bound
_OWN_ADDRESS: Final = ("0.0.0.0:", "[::]:")


def build_fixed_clusters(view: View) -> Iterator[Resource]:
    """All of them."""
    yield _build_black_hole(view)
    yield _build_passthrough(view)
    sidecar = view.sidecar()
    if sidecar is not None:
        yield from _build_inbound(view, sidecar)


def _build_black_hole(view: View) -> Resource:
    """Traffic that goes nowhere."""
    cluster = Cluster(
        name=BLACK_HOLE,
        type=Cluster.STATIC,
        lb_policy=Cluster.ROUND_ROBIN,
        alt_stat_name=stat_name(BLACK_HOLE),
    )
    cluster.connect_timeout.CopyFrom(build_duration(view.mesh.connect_timeout))
    return resource_of(CLUSTER, BLACK_HOLE, cluster)


def _build_passthrough(view: View) -> Resource:
    """Traffic that goes where the client meant it to go."""
    cluster = Cluster(
        name=PASSTHROUGH,
        type=Cluster.ORIGINAL_DST,
        lb_policy=Cluster.CLUSTER_PROVIDED,
        alt_stat_name=stat_name(PASSTHROUGH),
    )
    apply_connection_pool(view, cluster, None)
    options = HttpOptions()
    idle = options.common_http_protocol_options.idle_timeout
    idle.CopyFrom(build_duration(_PASSTHROUGH_IDLE_SECONDS))
    options.use_downstream_protocol_config.http_protocol_options.SetInParent()
    options.use_downstream_protocol_config.http2_protocol_options.SetInParent()
    attach_http_options(cluster, options)
    return resource_of(CLUSTER, PASSTHROUGH, cluster)


def _build_inbound(view: View, sidecar: Config) -> Iterator[Resource]:
    """The workload's own ports, where a Sidecar lists them; the first of each number stands."""
    spec: Sidecar = sidecar.spec
    seen: set[int] = set()
    for index, listener in enumerate(spec.ingress):
        if listener.port is None or listener.port.number in seen:
            continue
        seen.add(listener.port.number)
        cluster = _build_workload(view, sidecar, listener, listener.port, f"spec.ingress[{index}]")
        if cluster is not None:
            yield resource_of(CLUSTER, cluster.name, cluster, origins=(str(sidecar),))


def _build_workload(
    view: View, sidecar: Config, listener: IstioIngressListener, port: SidecarPort, path: str
) -> Cluster | None:
    name = inbound_cluster(port.number)
    cluster = Cluster(name=name, alt_stat_name=stat_name(name), lb_policy=Cluster.ROUND_ROBIN)
    if listener.default_endpoint:
        try:
            address, number = _parse_endpoint(view, listener.default_endpoint)
        except ValueError as error:
            view.report(
                sidecar.origin, str(sidecar.key), str(error), path=f"{path}.defaultEndpoint"
            )
            return None
        if listener.default_endpoint.startswith(_OWN_ADDRESS):
            message = f"the workload is reached at {address}, and not at the proxy's own address"
            view.report(sidecar.origin, str(sidecar.key), message, path=f"{path}.defaultEndpoint")
        cluster.type = Cluster.STATIC
        cluster.load_assignment.cluster_name = name
        endpoint = cluster.load_assignment.endpoints.add().lb_endpoints.add().endpoint
        endpoint.address.CopyFrom(build_address(address, number))
    else:
        if listener.capture_mode is CaptureMode.NONE or view.interception_mode == "NONE":
            message = (
                f"port {port.number} is not redirected to, so that nothing tells where requests "
                "go: they are refused without defaultEndpoint"
            )
            view.report(sidecar.origin, str(sidecar.key), message, path=path)
        cluster.type = Cluster.ORIGINAL_DST
        cluster.lb_policy = Cluster.CLUSTER_PROVIDED
    spec: Sidecar = sidecar.spec
    pool = listener.connection_pool or spec.inbound_connection_pool
    apply_connection_pool(view, cluster, pool)
    protocol = Protocol.parse(port.protocol) or Protocol.TCP
    options = HttpOptions()
    # The mesh's upgrade is about calling others: the workload is spoken to as it says.
    apply_http_pool(options, pool, http2=protocol.is_http2 and speaks_http2(view, protocol, pool))
    attach_http_options(cluster, options)
    return cluster


def _parse_endpoint(view: View, text: str) -> tuple[str, int]:
    """Where the workload listens: a Unix socket, or a port on this machine.

    Raises ValueError for anything else.
    """
    if text.startswith(_UNIX):
        return text.removeprefix(_UNIX), 0
    host, colon, number = text.rpartition(":")
    host = host.strip("[]")
    local = host in _ANY or host in _LOOPBACK.values()
    if not colon or not number.isdecimal() or not local:
        message = (
            f"expected 127.0.0.1:PORT, [::1]:PORT, 0.0.0.0:PORT or unix://PATH, found {text!r}"
        )
        raise ValueError(message)
    # What the proxy lacks of the two families it reaches by the other.
    wanted = 6 if ":" in host else 4
    if not (view.ipv6 if wanted == 6 else view.ipv4):
        wanted = 10 - wanted
    return _LOOPBACK[wanted], int(number)
