"""Kubernetes' Endpoints, the older form of EndpointSlice: one object of the Service's own name."""

from msgspec import Struct

from aggregator.model.registry import RegistryContext, ServiceItem
from aggregator.model.service import Endpoint, Health, Locality
from config.check import Report, check_host, check_ip, check_port
from config.core.endpoint_slice import SlicePort, TargetRef
from config.core.metadata import ObjectMeta, service_host
from config.documents import Document
from config.shape import decode_struct


class EndpointAddress(Struct, frozen=True, rename="camel"):
    """One address."""

    ip: str
    hostname: str = ""
    node_name: str = ""
    target_ref: TargetRef | None = None


class EndpointSubset(Struct, frozen=True, rename="camel"):
    """Addresses that serve the same ports."""

    addresses: tuple[EndpointAddress, ...] = ()
    not_ready_addresses: tuple[EndpointAddress, ...] = ()
    ports: tuple[SlicePort, ...] = ()


class CoreEndpoints(Struct, frozen=True, rename="camel"):
    """All endpoints of the Service of the same name."""

    metadata: ObjectMeta
    subsets: tuple[EndpointSubset, ...] = ()


def decode_endpoints(document: Document, context: RegistryContext) -> ServiceItem:
    """Decode Endpoints of a file; raises ConfigError with all that is wrong with them."""
    decoded = decode_struct(document.data, CoreEndpoints, "", document.position)
    _check(decoded, document)
    return endpoints_item(decoded, context)


def endpoints_item(decoded: CoreEndpoints, context: RegistryContext) -> ServiceItem:
    """Endpoints without a definition."""
    namespace = decoded.metadata.namespace or context.namespace
    endpoints = tuple(
        Endpoint(
            address=address.ip,
            ports=tuple(sorted((port.name, port.port) for port in subset.ports)),
            locality=Locality.parse(context.locality),
            network=context.network,
            cluster_id=context.cluster_id,
            health=health,
            hostname=address.hostname,
            node=address.node_name,
            registry=context.name,
        )
        for subset in decoded.subsets
        for health, addresses in (
            (Health.READY, subset.addresses),
            (Health.NOT_READY, subset.not_ready_addresses),
        )
        for address in addresses
    )
    host = service_host(decoded.metadata.name, namespace, context.domain)
    return ServiceItem(namespace, host, endpoints=endpoints)


def _check(decoded: CoreEndpoints, document: Document) -> None:
    metadata = decoded.metadata
    subject = f"Endpoints {metadata.namespace or '-'}/{metadata.name or '?'}"
    report = Report(document.origin, subject)
    check_host(report, "metadata.name", metadata.name)
    for index, subset in enumerate(decoded.subsets):
        for name, addresses in (
            ("addresses", subset.addresses),
            ("notReadyAddresses", subset.not_ready_addresses),
        ):
            for number, address in enumerate(addresses):
                check_ip(report, f"subsets[{index}].{name}[{number}].ip", address.ip)
        for number, port in enumerate(subset.ports):
            check_port(report, f"subsets[{index}].ports[{number}].port", port.port)
    report.raise_errors(document.position)
