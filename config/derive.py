"""What rules that describe services and workloads amount to, read by a registry's defaults.

Pure: which workloads a selector picks is the aggregator's business.
"""

from typing import Final

from aggregator.model.config import Config
from aggregator.model.registry import RegistryContext, ServiceItem
from aggregator.model.service import (
    Endpoint,
    Locality,
    Port,
    Protocol,
    Resolution,
    Service,
    TrafficDistribution,
    Workload,
    labels_of,
)
from config.check import protocol_of
from config.core.service import TRAFFIC_DISTRIBUTION
from config.kinds.service_entry import Location, ServiceEntry, ServicePort
from config.kinds.workload_entry import UNIX, WorkloadEntry
from config.mesh import MeshConfig

NETWORK_LABEL: Final = "topology.istio.io/network"
_LOCALITY_LABELS: Final = ("topology.istio.io/locality", "istio-locality")
_EVERYONE: Final = ("*",)
_BY_NAME: Final = frozenset({Resolution.DNS, Resolution.DNS_ROUND_ROBIN})


def derive_services(
    config: Config, context: RegistryContext, mesh: MeshConfig
) -> tuple[ServiceItem, ...]:
    """The services of a ServiceEntry, one for each host."""
    spec: ServiceEntry = config.spec
    return tuple(
        ServiceItem(
            config.namespace,
            host,
            _service(config, host, context, mesh),
            _endpoints(spec, host, context),
        )
        for host in dict.fromkeys(spec.hosts)
    )


def derive_workload(config: Config, context: RegistryContext) -> Workload:
    """The workload of a WorkloadEntry."""
    return Workload(
        config.name, config.namespace, _endpoint(config.spec, context), origin=config.origin
    )


def _service(config: Config, host: str, context: RegistryContext, mesh: MeshConfig) -> Service:
    spec: ServiceEntry = config.spec
    # A registry that says nothing of its own leaves it to the mesh.
    default = context.export_to
    if default == _EVERYONE:
        default = mesh.default_service_export_to
    return Service(
        host=host,
        namespace=config.namespace,
        ports=tuple(_port(port, context) for port in spec.ports),
        addresses=spec.addresses,
        resolution=spec.resolution,
        mesh_external=spec.location is Location.MESH_EXTERNAL,
        export_to=spec.export_to or default,
        labels=config.labels,
        selector=labels_of(spec.workload_selector.labels) if spec.workload_selector else (),
        subject_alt_names=spec.subject_alt_names,
        traffic_distribution=_traffic_distribution(config),
        created=config.created,
        registries=(context.name,),
        origin=config.origin,
    )


def _traffic_distribution(config: Config) -> TrafficDistribution:
    told = dict(config.annotations).get(TRAFFIC_DISTRIBUTION, "")
    return TrafficDistribution.parse(told) or TrafficDistribution.ANY


def _port(port: ServicePort, context: RegistryContext) -> Port:
    protocol = (
        protocol_of(port.protocol)
        or Protocol.of_port_name(port.name)
        or Protocol.parse(context.protocol)
        or Protocol.TCP
    )
    return Port(port.number, port.name, protocol, port.target_port)


def _endpoints(spec: ServiceEntry, host: str, context: RegistryContext) -> tuple[Endpoint, ...]:
    """Those written in the rule; without any, a host resolved by name is its own endpoint."""
    if spec.resolution in _BY_NAME and not spec.endpoints and spec.workload_selector is None:
        return (_endpoint(WorkloadEntry(address=host), context),)
    # One without an address is behind its network's gateway, which takes its place.
    return tuple(_endpoint(each, context) for each in spec.endpoints)


def _endpoint(entry: WorkloadEntry, context: RegistryContext) -> Endpoint:
    labelled = next((entry.labels[name] for name in _LOCALITY_LABELS if name in entry.labels), "")
    # A label's value cannot have slashes.
    locality = entry.locality or labelled.replace(".", "/") or context.locality
    return Endpoint(
        address=entry.address.removeprefix(UNIX),
        ports=tuple(sorted(entry.ports.items())),
        labels=labels_of(entry.labels),
        locality=Locality.parse(locality),
        network=entry.network or entry.labels.get(NETWORK_LABEL, "") or context.network,
        cluster_id=context.cluster_id,
        weight=entry.weight or 1,
        service_account=entry.service_account,
        registry=context.name,
    )
