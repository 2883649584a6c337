"""Kubernetes' Service, as files and API servers give it."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct, field

from aggregator.model.errors import Origin
from aggregator.model.registry import RegistryContext, ServiceItem
from aggregator.model.service import (
    Endpoint,
    Locality,
    Port,
    Protocol,
    Resolution,
    Service,
    TrafficDistribution,
    labels_of,
)
from config.check import Report, check_export_to, check_host, check_ip, check_port
from config.core.metadata import ObjectMeta, service_host
from config.documents import Document
from config.shape import decode_struct

EXPORT_TO: Final = "networking.istio.io/exportTo"
"""The annotation by which a Service is exported to some namespaces only, separated by commas."""

TRAFFIC_DISTRIBUTION: Final = "networking.istio.io/traffic-distribution"
"""Istio's annotation, which counts where the Service's own field says nothing that is known."""

TOPOLOGY_MODE: Final = "service.kubernetes.io/topology-mode"
"""The older way to ask for endpoints of the same zone; its only value is "Auto"."""

_HEADLESS: Final = "None"
_EXTERNAL: Final = "ExternalName"
_DATAGRAMS: Final = frozenset({"UDP", "SCTP"})


class CoreServicePort(Struct, frozen=True, rename="camel"):
    """A port; a target port that is a name stands for the ports of that name in pods."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str = ""
    target_port: int | str = 0
    node_port: int = 0


class CoreServiceSpec(Struct, frozen=True, rename="camel"):
    """What a Service wants."""

    type: str = "ClusterIP"
    ports: tuple[CoreServicePort, ...] = ()
    selector: Mapping[str, str] = {}
    cluster_ip: str = field(default="", name="clusterIP")
    cluster_ips: tuple[str, ...] = field(default=(), name="clusterIPs")
    external_ips: tuple[str, ...] = field(default=(), name="externalIPs")
    external_name: str = ""
    publish_not_ready_addresses: bool = False
    traffic_distribution: str = ""


class LoadBalancerIngress(Struct, frozen=True):
    """One address of a load balancer."""

    ip: str = ""
    hostname: str = ""


class LoadBalancerStatus(Struct, frozen=True):
    """What the platform gave a Service of type LoadBalancer."""

    ingress: tuple[LoadBalancerIngress, ...] = ()


class CoreServiceStatus(Struct, frozen=True, rename="camel"):
    """What became of a Service."""

    load_balancer: LoadBalancerStatus = LoadBalancerStatus()


class CoreService(Struct, frozen=True, rename="camel"):
    """A Service; what this control plane has no use for is left out."""

    metadata: ObjectMeta
    spec: CoreServiceSpec = CoreServiceSpec()
    status: CoreServiceStatus = CoreServiceStatus()

    @property
    def is_name(self) -> bool:
        """Whether it is another name for a host, and has no endpoints of its own."""
        return self.spec.type == _EXTERNAL

    @property
    def external_addresses(self) -> tuple[str, ...]:
        """Where it is reached from outside the cluster: load balancers, then external IPs."""
        ingress = (each.ip or each.hostname for each in self.status.load_balancer.ingress)
        return tuple(dict.fromkeys((*filter(None, ingress), *self.spec.external_ips)))


def decode_service(document: Document, context: RegistryContext) -> ServiceItem:
    """Decode a Service of a file; raises ConfigError with all that is wrong with it."""
    decoded = decode_struct(document.data, CoreService, "", document.position)
    _check(decoded, document)
    return service_item(decoded, context, document.origin)


def service_item(decoded: CoreService, context: RegistryContext, origin: Origin) -> ServiceItem:
    """The service that it defines; one of type ExternalName has that name as its endpoint."""
    metadata, spec = decoded.metadata, decoded.spec
    namespace = metadata.namespace or context.namespace
    host = service_host(metadata.name, namespace, context.domain)
    addresses = spec.cluster_ips or ((spec.cluster_ip,) if spec.cluster_ip else ())
    external = decoded.is_name
    service = Service(
        host=host,
        namespace=namespace,
        ports=tuple(_port(port, context) for port in spec.ports),
        addresses=tuple(address for address in addresses if address != _HEADLESS),
        resolution=Resolution.DNS if external else Resolution.STATIC,
        mesh_external=external,
        export_to=_export_to(decoded) or context.export_to,
        labels=labels_of(metadata.labels),
        selector=() if external else labels_of(spec.selector),
        headless=_HEADLESS in addresses,
        publish_not_ready=spec.publish_not_ready_addresses,
        traffic_distribution=_traffic_distribution(decoded),
        external_addresses=decoded.external_addresses,
        created=metadata.created,
        registries=(context.name,),
        origin=origin,
    )
    return ServiceItem(namespace, host, service, _external_endpoints(spec, context))


def service_doubts(decoded: CoreService) -> str:
    """What the author of a Service that an API server has taken should know of it, or ""."""
    report = Report(Origin())
    if not decoded.spec.ports:
        report.warn("", "it has no ports, so nothing can be sent to it")
    _check_export_to(report, decoded)
    return "; ".join(": ".join(filter(None, (each.path, each.message))) for each in report.problems)


def _check_export_to(report: Report, decoded: CoreService) -> None:
    path = f'metadata.annotations["{EXPORT_TO}"]'
    # Which namespace "." means matters only where that one is named too.
    namespace = decoded.metadata.namespace or "default"
    check_export_to(report, path, _export_to(decoded), namespace, none=True)


def _export_to(decoded: CoreService) -> tuple[str, ...]:
    """The namespaces that the annotation names."""
    exported = decoded.metadata.annotations.get(EXPORT_TO, "")
    return tuple(part.strip() for part in exported.split(",") if part.strip())


def _external_endpoints(spec: CoreServiceSpec, context: RegistryContext) -> tuple[Endpoint, ...]:
    if spec.type != _EXTERNAL:
        return ()
    endpoint = Endpoint(
        address=spec.external_name.rstrip("."),
        locality=Locality.parse(context.locality),
        network=context.network,
        cluster_id=context.cluster_id,
        registry=context.name,
    )
    return (endpoint,)


def _traffic_distribution(decoded: CoreService) -> TrafficDistribution:
    """The first of the ways to ask for near endpoints that is used, and is known.

    The field, Istio's annotation, and Kubernetes' older one: Istio has the first two in this order.
    """
    annotations = decoded.metadata.annotations
    field_ = TrafficDistribution.parse(decoded.spec.traffic_distribution)
    if field_ is not None and field_ is not TrafficDistribution.ANY:
        return field_
    if told := annotations.get(TRAFFIC_DISTRIBUTION, ""):
        return TrafficDistribution.parse(told) or TrafficDistribution.ANY
    if annotations.get(TOPOLOGY_MODE, "").lower() == "auto":
        return TrafficDistribution.PREFER_SAME_ZONE
    return TrafficDistribution.ANY


def _port(port: CoreServicePort, context: RegistryContext) -> Port:
    target = port.target_port
    if isinstance(target, str):
        return Port(port.port, port.name, _protocol(port, context), target_name=target)
    return Port(port.port, port.name, _protocol(port, context), target)


def _protocol(port: CoreServicePort, context: RegistryContext) -> Protocol:
    """appProtocol, else the port's name, else the registry's default."""
    if port.protocol in _DATAGRAMS:
        return Protocol.UDP
    return (
        Protocol.parse(port.app_protocol)
        or Protocol.of_port_name(port.name)
        or Protocol.parse(context.protocol)
        or Protocol.TCP
    )


def _check(decoded: CoreService, document: Document) -> None:
    metadata, spec = decoded.metadata, decoded.spec
    report = Report(document.origin, f"Service {metadata.namespace or '-'}/{metadata.name or '?'}")
    check_host(report, "metadata.name", metadata.name)
    _check_export_to(report, decoded)
    seen: set[tuple[int, bool]] = set()
    for index, port in enumerate(spec.ports):
        where = f"spec.ports[{index}]"
        check_port(report, f"{where}.port", port.port)
        if isinstance(port.target_port, int) and port.target_port:
            check_port(report, f"{where}.targetPort", port.target_port)
        if not port.name and len(spec.ports) > 1:
            report.error(f"{where}.name", "required where there is more than one port")
        key = (port.port, port.protocol in _DATAGRAMS)
        if key in seen:
            report.error(f"{where}.port", f"the port {port.port} is there already")
        seen.add(key)
    for index, address in enumerate(spec.cluster_ips):
        if address != _HEADLESS:
            check_ip(report, f"spec.clusterIPs[{index}]", address)
    if spec.cluster_ip not in ("", _HEADLESS):
        check_ip(report, "spec.clusterIP", spec.cluster_ip)
    if spec.type == _EXTERNAL:
        check_host(report, "spec.externalName", spec.external_name)
    report.raise_errors(document.position)
