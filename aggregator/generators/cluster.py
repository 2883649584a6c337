"""CDS: a cluster for each port of a service and each subset, and the clusters that every proxy has.

Endpoints are EDS's work, except for clusters whose names Envoy resolves itself.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import config_source_pb2
from envoy.config.endpoint.v3 import endpoint_pb2

from aggregator.generators.connection_pool import (
    HttpOptions,
    apply_connection_pool,
    apply_http_pool,
    attach_http_options,
    speaks_http2,
)
from aggregator.generators.destination_rule import KIND, resolve_destination_rule
from aggregator.generators.duration import build_duration
from aggregator.generators.dynamic_dns import apply_dynamic_cluster, lookup_family
from aggregator.generators.fixed_cluster import build_fixed_clusters
from aggregator.generators.load_assignment import (
    build_load_assignment,
    endpoints_of,
    serving_endpoints,
)
from aggregator.generators.load_balancer import apply_load_balancer
from aggregator.generators.locality import Group, resolve_preference
from aggregator.generators.metadata import build_cluster_metadata
from aggregator.generators.name import stat_name
from aggregator.generators.outlier_detection import (
    apply_outlier_detection,
    build_error_matcher,
)
from aggregator.generators.proxy_protocol import wrap_in_proxy_protocol
from aggregator.generators.reachability import build_groups
from aggregator.generators.spec import (
    CLUSTER,
    GeneratorSpec,
    Resource,
    Root,
    Unit,
    View,
    resource_of,
)
from aggregator.generators.target import (
    ATTRIBUTES,
    ClusterType,
    Target,
    is_grpc,
    resolve_cluster_type,
    targets,
)
from aggregator.generators.tls import (
    build_tls_socket,
    needs_auto_san,
    needs_auto_sni,
    why_closed,
)
from aggregator.model.config import Config
from aggregator.model.errors import Severity
from aggregator.model.policy import MergeMode
from aggregator.model.service import Endpoint, Resolution, Service, is_socket
from config.traffic_policy import SimpleLB

Cluster = cluster_pb2.Cluster
_DISCOVERY: Final = {
    ClusterType.EDS: Cluster.EDS,
    ClusterType.STRICT_DNS: Cluster.STRICT_DNS,
    ClusterType.LOGICAL_DNS: Cluster.LOGICAL_DNS,
    ClusterType.ORIGINAL_DST: Cluster.ORIGINAL_DST,
    ClusterType.CLOSED: Cluster.STATIC,
}


def build(view: View, unit: Unit) -> Iterator[Resource]:
    """The clusters of one host, or the fixed ones."""
    if unit.root is Root.VIEW:
        if not is_grpc(view):
            yield from build_fixed_clusters(view)
        return
    service = view.service(unit.key)
    if service is None:
        return
    rule = resolve_destination_rule(view, service)
    origins = (*rule.origins, *_origin_of(service))
    builder = _Builder(view, service)
    for target in targets(service, rule):
        cluster = builder.build(target)
        if cluster is not None:
            yield resource_of(CLUSTER, target.name, cluster, origins=origins)
    builder.report()


GENERATOR: Final = GeneratorSpec(
    kind=CLUSTER,
    roots=(Root.HOST, Root.VIEW),
    build=build,
    attributes=ATTRIBUTES,
    kinds=frozenset({KIND}),
    clients=frozenset({"envoy", "grpc"}),
)


class _Builder:
    """Builds the clusters of one service, and tells each thing that is wrong with them once."""

    def __init__(self, view: View, service: Service) -> None:
        self._view = view
        self._service = service
        self._problems: dict[tuple[str, str], tuple[Config | None, Severity]] = {}
        self._named: list[Endpoint] | None = None

    def build(self, target: Target) -> Cluster | None:
        """The cluster, or None where its kind is not supported."""
        view = self._view
        kind = resolve_cluster_type(view, self._service, target.policy)
        if kind is ClusterType.UNSUPPORTED:
            self._wrong(None, f"resolution {self._service.resolution} is not supported")
            return None
        grpc = is_grpc(view)
        cluster = Cluster(name=target.name)
        if kind in _DISCOVERY:
            cluster.type = _DISCOVERY[kind]
        self._tell_unsupported(target)
        if kind is ClusterType.CLOSED:
            reason = why_closed(target.policy.tls, grpc=grpc)
            self._wrong(target.config, f"{reason}; requests to {target.service.host} are refused")
            if grpc:
                cluster.type = Cluster.EDS
        elif kind in (ClusterType.STRICT_DNS, ClusterType.LOGICAL_DNS):
            if not self._apply_dns(cluster, target, kind):
                return None
        elif kind is ClusterType.ORIGINAL_DST and target.port.target not in (0, target.port.number):
            override = cluster.original_dst_lb_config.upstream_port_override
            override.value = target.port.target
        if cluster.HasField("type") and cluster.type == Cluster.EDS:
            cluster.eds_cluster_config.CopyFrom(_ADS)
            cluster.eds_cluster_config.service_name = target.name
        self._apply_policy(cluster, target, grpc=grpc)
        if kind is ClusterType.DYNAMIC_DNS:
            cluster.ClearField("lb_config")
            apply_dynamic_cluster(view, cluster)
        if not grpc:
            cluster.alt_stat_name = stat_name(target.name)
            cluster.metadata.CopyFrom(
                build_cluster_metadata(
                    self._service.host,
                    self._service.namespace,
                    config=target.config.key if target.config else None,
                    subset=target.subset.name if target.subset else "",
                    external=self._service.mesh_external,
                )
            )
            if kind is not ClusterType.CLOSED:
                self._apply_transport(cluster, target)
        return cluster

    def report(self) -> None:
        """Tell what was found wrong while building."""
        for (subject, message), (config, severity) in self._problems.items():
            origin = config.origin if config else self._service.origin
            self._view.report(origin, subject, message, severity=severity)

    def _wrong(
        self, config: Config | None, message: str, severity: Severity = Severity.ERROR
    ) -> None:
        subject = str(config.key) if config else f"Service {self._service.key}"
        self._problems[subject, message] = (config, severity)

    def _tell_unsupported(self, target: Target) -> None:
        policy = target.policy
        names = []
        if policy.tunnel is not None:
            names.append("tunnel")
        if policy.load_balancer and policy.load_balancer.zone_aware_lb_setting is not None:
            names.append("loadBalancer.zoneAwareLbSetting")
        if policy.retry_budget and policy.retry_budget.budget_interval is not None:
            names.append("retryBudget.budgetInterval")
        for name in names:
            self._wrong(
                target.config, f"trafficPolicy.{name} is not supported yet", Severity.WARNING
            )

    def _apply_policy(self, cluster: Cluster, target: Target, *, grpc: bool) -> None:
        policy = target.policy
        apply_connection_pool(self._view, cluster, policy.connection_pool, policy.retry_budget)
        # Endpoints that are not ready are not sent, so that a threshold would only bring back
        # those that outlier detection has ejected.
        cluster.common_lb_config.healthy_panic_threshold.SetInParent()
        if policy.outlier_detection is not None:
            apply_outlier_detection(cluster, policy.outlier_detection)
        balancer = policy.load_balancer
        shares = self._view.merge_policy(self._service.key).mode is MergeMode.WEIGHTS
        if shares and balancer and balancer.simple is SimpleLB.RANDOM:
            message = "loadBalancer.simple RANDOM heeds no weights, which registries share by here"
            self._wrong(target.config, f"{message}: ROUND_ROBIN is used", Severity.WARNING)
        apply_load_balancer(
            cluster,
            balancer,
            by_place=resolve_preference(self._view, self._service, policy).weighs_places,
            by_share=shares,
            grpc=grpc,
        )

    def _apply_dns(self, cluster: Cluster, target: Target, kind: ClusterType) -> bool:
        """Endpoints by name are part of the cluster; Envoy asks for their addresses.

        False if there cannot be a cluster, because it would need an endpoint.
        """
        view = self._view
        if self._named is None:
            self._named = serving_endpoints(view, self._service, names=True)
        named = self._named
        if any(is_socket(each.address) for each in endpoints_of(named, target.port, target.subset)):
            message = f"resolution {self._service.resolution} cannot have Unix sockets: left out"
            self._wrong(None, message, Severity.WARNING)
            named = [each for each in named if not is_socket(each.address)]
        groups = build_groups(view, target, named)
        if kind is ClusterType.LOGICAL_DNS:
            if not groups:
                # This type is refused without an endpoint.
                cluster.type = Cluster.STATIC
                return not is_grpc(view)
            groups = self._only_one(groups)
        cluster.load_assignment.CopyFrom(
            endpoint_pb2.ClusterLoadAssignment.FromString(
                build_load_assignment(target.name, groups, target.port)
            )
        )
        # Newer Envoys have these in an extension, which older ones and Istio's tools do not know.
        refresh = cluster.dns_refresh_rate  # type: ignore[deprecated]
        refresh.CopyFrom(build_duration(view.mesh.dns_refresh_rate))
        cluster.respect_dns_ttl = True  # type: ignore[deprecated]
        cluster.dns_lookup_family = lookup_family(view)
        return True

    def _only_one(self, groups: Sequence[Group]) -> list[Group]:
        """The first endpoint of those that are tried first."""
        first = min(groups, key=lambda group: group.priority)
        chosen = first.endpoints[0]
        if sum(len(group.endpoints) for group in groups) > 1:
            message = f"one name only is resolved, {chosen.address}: the others are unused"
            self._wrong(None, message, Severity.WARNING)
        return [Group(first.locality, [chosen], chosen.weight)]

    def _apply_transport(self, cluster: Cluster, target: Target) -> None:
        """HTTP versions and what secures the connection."""
        policy = target.policy
        http2 = speaks_http2(self._view, target.port.protocol, policy.connection_pool)
        options = HttpOptions()
        apply_http_pool(options, policy.connection_pool, http2=http2)
        names = policy.tls.subject_alt_names if policy.tls else ()
        names = names or self._service.subject_alt_names
        # A server that is found by the name which the request gave must also be held to that name.
        by_name = self._service.resolution is Resolution.DYNAMIC_DNS
        if by_name or needs_auto_sni(policy.tls):
            options.upstream_http_protocol_options.auto_sni = True
        if by_name or needs_auto_san(policy.tls, names):
            options.upstream_http_protocol_options.auto_san_validation = True
        outliers = policy.outlier_detection
        if outliers is not None and outliers.outlier_detection_http_error_codes:
            options.outlier_detection.error_matcher.CopyFrom(
                build_error_matcher(outliers.outlier_detection_http_error_codes)
            )
        attach_http_options(cluster, options)
        socket = build_tls_socket(policy.tls, names, http2=http2)
        if policy.proxy_protocol is not None:
            socket = wrap_in_proxy_protocol(policy.proxy_protocol, socket)
        if socket is not None:
            cluster.transport_socket.CopyFrom(socket)


def _build_ads() -> Cluster.EdsClusterConfig:
    """Endpoints come on the same stream.

    They are always answered, so a cluster that Envoy warms without a limit does not hang, and never
    becomes active empty because an answer took long.
    """
    source = config_source_pb2.ConfigSource(resource_api_version=config_source_pb2.V3)
    source.ads.SetInParent()
    source.initial_fetch_timeout.SetInParent()
    return Cluster.EdsClusterConfig(eds_config=source)


_ADS: Final = _build_ads()


def _origin_of(service: Service) -> tuple[str, ...]:
    return (str(service.origin),) if service.origin.source else ()
