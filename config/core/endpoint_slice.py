"""Kubernetes' EndpointSlice: some of a Service's endpoints."""

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

from aggregator.model.registry import RegistryContext, ServiceItem
from aggregator.model.service import NOWHERE, Endpoint, Health, Labels, Locality
from config.check import Report, check_ip, check_port
from config.core.metadata import ObjectMeta, service_host
from config.documents import Document
from config.shape import decode_struct

SERVICE_NAME: Final = "kubernetes.io/service-name"
"""The label that names the Service."""

_REGION: Final = "topology.kubernetes.io/region"
ADDRESS_TYPES: Final = ("IPv4", "IPv6")
"""The types of addresses that are endpoints; the third, FQDN, is one that nothing makes."""


class SlicePort(Struct, frozen=True, rename="camel"):
    """Where endpoints of this slice serve the Service's port of that name."""

    name: str = ""
    port: int = 0
    protocol: str = "TCP"


class Conditions(Struct, frozen=True, rename="camel"):
    """None is unknown, which counts as ready, and as serving what ready says."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None

    @property
    def health(self) -> Health:
        """The one condition that follows from the three."""
        if self.ready is None or self.ready:
            return Health.READY
        if self.terminating:
            return Health.DRAINING if self.serving else Health.TERMINATING
        return Health.NOT_READY


class TargetRef(Struct, frozen=True, rename="camel"):
    """The object behind an endpoint, most often a Pod."""

    kind: str = ""
    name: str = ""
    namespace: str = ""


class SliceEndpoint(Struct, frozen=True, rename="camel"):
    """One endpoint; several addresses are several ways to it."""

    addresses: tuple[str, ...]
    conditions: Conditions = Conditions()
    hostname: str = ""
    node_name: str = ""
    zone: str = ""
    deprecated_topology: Mapping[str, str] = {}
    target_ref: TargetRef | None = None


class CoreEndpointSlice(Struct, frozen=True, rename="camel"):
    """An EndpointSlice; what this control plane has no use for is left out."""

    metadata: ObjectMeta
    address_type: str = "IPv4"
    endpoints: tuple[SliceEndpoint, ...] = ()
    ports: tuple[SlicePort, ...] = ()


def decode_endpoint_slice(document: Document, context: RegistryContext) -> ServiceItem:
    """Decode an EndpointSlice of a file; raises ConfigError with all that is wrong with it."""
    decoded = decode_struct(document.data, CoreEndpointSlice, "", document.position)
    _check(decoded, document)
    return endpoint_slice_item(decoded, context)


class Behind(Struct, frozen=True, gc=False):
    """What the pod and the node behind an endpoint tell of it; what is empty they do not tell."""

    labels: Labels = ()
    locality: Locality = NOWHERE
    network: str = ""
    service_account: str = ""


UNKNOWN: Final = Behind()


def _nothing(_endpoint: SliceEndpoint, _address: str) -> Behind:
    return UNKNOWN


def endpoint_slice_item(
    decoded: CoreEndpointSlice,
    context: RegistryContext,
    behind: Callable[[SliceEndpoint, str], Behind] = _nothing,
) -> ServiceItem:
    """Endpoints without a definition, of the Service that the slice's label names.

    *behind* tells more of an endpoint and one of its addresses.
    """
    namespace = decoded.metadata.namespace or context.namespace
    name = decoded.metadata.labels.get(SERVICE_NAME, "")
    ports = tuple(sorted((port.name, port.port) for port in decoded.ports if port.port))
    default = Locality.parse(context.locality)
    endpoints = []
    for endpoint in decoded.endpoints:
        own = _locality(endpoint, default)
        health = endpoint.conditions.health
        for address in endpoint.addresses:
            more = behind(endpoint, address)
            endpoints.append(
                Endpoint(
                    address=address,
                    ports=ports,
                    labels=more.labels,
                    locality=own if more.locality is NOWHERE else more.locality,
                    network=more.network or context.network,
                    cluster_id=context.cluster_id,
                    health=health,
                    service_account=more.service_account,
                    hostname=endpoint.hostname,
                    node=endpoint.node_name,
                    registry=context.name,
                )
            )
    host = service_host(name, namespace, context.domain)
    return ServiceItem(namespace, host, endpoints=tuple(endpoints))


def _locality(endpoint: SliceEndpoint, default: Locality) -> Locality:
    """A slice tells the zone alone; the region is the registry's, unless the old field has it."""
    region = endpoint.deprecated_topology.get(_REGION) or default.region
    return Locality(region, endpoint.zone) if endpoint.zone else default


def _check(decoded: CoreEndpointSlice, document: Document) -> None:
    metadata = decoded.metadata
    subject = f"EndpointSlice {metadata.namespace or '-'}/{metadata.name or '?'}"
    report = Report(document.origin, subject)
    if not metadata.labels.get(SERVICE_NAME):
        report.error("metadata.labels", f"expected the label {SERVICE_NAME}")
    if decoded.address_type not in ADDRESS_TYPES:
        known = " or ".join(ADDRESS_TYPES)
        report.error("addressType", f"expected {known}, found {decoded.address_type!r}")
    for index, endpoint in enumerate(decoded.endpoints):
        where = f"endpoints[{index}].addresses"
        if not endpoint.addresses:
            report.error(where, "expected at least one address")
        for number, address in enumerate(endpoint.addresses):
            check_ip(report, f"{where}[{number}]", address)
    for index, port in enumerate(decoded.ports):
        check_port(report, f"ports[{index}].port", port.port)
    report.raise_errors(document.position)
