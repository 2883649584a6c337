"""The terse form of services, for people with machines and no platform: a list under ``services``.

It is read strictly, since every key in it is ours.
"""

from collections.abc import Mapping
from typing import Annotated, Final

from msgspec import Meta, Struct

from aggregator.model.errors import Origin
from aggregator.model.registry import RegistryContext, ServiceItem
from aggregator.model.service import (
    Endpoint,
    Locality,
    Port,
    Protocol,
    Resolution,
    Service,
    labels_of,
)
from config.check import (
    Report,
    check_export_to,
    check_host,
    check_ip,
    check_labels,
    check_port,
    check_port_name,
    check_protocol,
    check_subnet,
    check_unix_address,
    host_fault,
    is_dns_label,
    is_ip,
)
from config.documents import Document, Position, field_path
from config.kinds.workload_entry import UNIX
from config.message import UInt32
from config.shape import decode_struct

Weight = Annotated[int, Meta(ge=0, le=1_000_000)]


class TersePort(Struct, frozen=True, forbid_unknown_fields=True):
    """A port; without a name it is called after its protocol and number."""

    number: UInt32
    name: str = ""
    protocol: str = ""
    target_port: UInt32 = 0


class TerseEndpoint(Struct, frozen=True, forbid_unknown_fields=True):
    """An address: IP, host name or ``unix:///path``; weight 0 drains it."""

    address: str
    labels: Mapping[str, str] = {}
    locality: str = ""
    weight: Weight = 1
    network: str = ""
    ports: Mapping[str, UInt32] = {}


class TerseService(Struct, frozen=True, forbid_unknown_fields=True):
    """A service; what endpoints share can be said once for all of them, except the address."""

    host: str
    namespace: str = ""
    ports: tuple[TersePort, ...] = ()
    endpoints: tuple[TerseEndpoint, ...] = ()
    protocol: str = ""
    labels: Mapping[str, str] = {}
    locality: str = ""
    network: str = ""
    addresses: tuple[str, ...] = ()
    export_to: tuple[str, ...] = ()


class TerseFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole document."""

    services: tuple[TerseService, ...] = ()


def is_terse(document: Document) -> bool:
    """Whether the document is of this form: it has services and is no Kubernetes object."""
    return "services" in document.data and "kind" not in document.data


def decode_terse(document: Document, context: RegistryContext) -> tuple[ServiceItem, ...]:
    """Decode every service; raises ConfigError with all that is wrong with any of them."""
    decoded = decode_struct(document.data, TerseFile, "", document.position)
    report = Report(document.origin)
    items: dict[tuple[str, str], ServiceItem] = {}
    for index, service in enumerate(decoded.services):
        where = f"services[{index}]"
        namespace = terse_namespace(service.namespace, service.host, context)
        _check_service(report, f"{where}.", service, namespace, context)
        key = (namespace, service.host.lower())
        if key in items:
            report.error(f"{where}.host", f"{service.host!r} is there already")
        items[key] = _item(service, namespace, context, document.origin)
    report.raise_errors(document.position)
    return tuple(items.values())


def decode_terse_service(
    data: object, context: RegistryContext, origin: Origin, position: Position
) -> ServiceItem:
    """Decode one service that stands alone; raises ConfigError with all that is wrong with it."""
    service = decode_struct(data, TerseService, "", position)
    namespace = terse_namespace(service.namespace, service.host, context)
    report = Report(origin)
    _check_service(report, "", service, namespace, context)
    report.raise_errors(position)
    return _item(service, namespace, context, origin)


def decode_terse_endpoint(
    data: object, context: RegistryContext, origin: Origin, position: Position
) -> Endpoint:
    """Decode one endpoint whose service is told elsewhere, so that it has to be an IP address.

    Raises ConfigError with all that is wrong with it.
    """
    endpoint = decode_struct(data, TerseEndpoint, "", position)
    report = Report(origin)
    check_ip(report, "address", endpoint.address)
    _check_endpoint(report, "", endpoint)
    for name in endpoint.ports:
        check_port_name(report, field_path("ports", name), name)
    report.raise_errors(position)
    return _endpoint(endpoint, None, context)


def _told_namespace(host: str, domain: str) -> str:
    """The namespace that a host of Kubernetes' form has in it, else ""."""
    rest = host.lower().removesuffix(f".svc.{domain}")
    return rest.partition(".")[2] if rest != host.lower() else ""


def terse_namespace(namespace: str, host: str, context: RegistryContext) -> str:
    """Where a service belongs: as written, as its host tells, or the registry's default."""
    return namespace or _told_namespace(host, context.domain) or context.namespace


def _item(
    terse: TerseService, namespace: str, context: RegistryContext, origin: Origin
) -> ServiceItem:
    ports = tuple(_port(port, terse, context) for port in terse.ports)
    by_name = any(_is_name(endpoint.address) for endpoint in terse.endpoints)
    service = Service(
        host=terse.host.lower(),
        namespace=namespace,
        ports=ports,
        addresses=terse.addresses,
        resolution=Resolution.DNS if by_name else Resolution.STATIC,
        export_to=terse.export_to or context.export_to,
        labels=labels_of(terse.labels),
        registries=(context.name,),
        origin=origin,
    )
    endpoints = tuple(_endpoint(each, terse, context) for each in terse.endpoints)
    return ServiceItem(namespace, service.host, service, endpoints)


def _is_name(address: str) -> bool:
    return not address.startswith(UNIX) and not is_ip(address)


def _port(port: TersePort, service: TerseService, context: RegistryContext) -> Port:
    protocol = (
        Protocol.parse(port.protocol)
        or Protocol.parse(service.protocol)
        or Protocol.of_port_name(port.name)
        or Protocol.parse(context.protocol)
        or Protocol.TCP
    )
    name = port.name or _port_name(protocol, port.number)
    return Port(port.number, name, protocol, port.target_port)


def _port_name(protocol: Protocol, number: int) -> str:
    return f"{protocol.value.lower().replace('_', '-')}-{number}"


def _endpoint(
    terse: TerseEndpoint, service: TerseService | None, context: RegistryContext
) -> Endpoint:
    locality = terse.locality or (service.locality if service else "") or context.locality
    network = terse.network or (service.network if service else "") or context.network
    return Endpoint(
        address=terse.address.removeprefix(UNIX),
        ports=tuple(sorted(terse.ports.items())),
        labels=labels_of(terse.labels),
        locality=Locality.parse(locality),
        network=network,
        cluster_id=context.cluster_id,
        weight=terse.weight,
        registry=context.name,
    )


def _check_service(
    report: Report, at: str, service: TerseService, namespace: str, context: RegistryContext
) -> None:
    check_host(report, f"{at}host", service.host)
    if not is_dns_label(namespace):
        report.error(f"{at}namespace", f"expected a namespace, found {namespace!r}")
    told = _told_namespace(service.host, context.domain)
    if told and told != namespace:
        report.error(f"{at}namespace", f"the host says {told!r}, found {namespace!r}")
    check_protocol(report, f"{at}protocol", service.protocol)
    check_labels(report, f"{at}labels", service.labels)
    check_export_to(report, f"{at}export_to", service.export_to, namespace, none=True)
    _check_locality(report, f"{at}locality", service.locality)
    for index, address in enumerate(service.addresses):
        check_subnet(report, f"{at}addresses[{index}]", address)
    names = _check_ports(report, at, service, context)
    for index, endpoint in enumerate(service.endpoints):
        _check_address(report, f"{at}endpoints[{index}].address", endpoint.address)
        _check_endpoint(report, f"{at}endpoints[{index}].", endpoint, names)
    kinds = {
        "a host name" if _is_name(each.address) else "a socket"
        for each in service.endpoints
        if _is_name(each.address) or each.address.startswith(UNIX)
    }
    if len(kinds) > 1:
        report.error(f"{at}endpoints", "host names and Unix sockets cannot be mixed")


def _check_ports(
    report: Report, at: str, service: TerseService, context: RegistryContext
) -> frozenset[str]:
    """Checks the ports and gives their names. *at* ends in a dot, or is empty."""
    if not service.ports:
        report.error(f"{at}ports", "expected at least one port")
    names: set[str] = set()
    numbers: set[int] = set()
    for index, port in enumerate(service.ports):
        where = f"{at}ports[{index}]"
        check_port(report, f"{where}.number", port.number)
        check_protocol(report, f"{where}.protocol", port.protocol)
        if port.target_port:
            check_port(report, f"{where}.target_port", port.target_port)
        if port.name:
            check_port_name(report, f"{where}.name", port.name)
        name = _port(port, service, context).name
        if name in names:
            report.error(f"{where}.name", f"the port {name!r} is there already")
        if port.number in numbers:
            report.error(f"{where}.number", f"the port {port.number} is there already")
        names.add(name)
        numbers.add(port.number)
    return frozenset(names)


def _check_address(report: Report, path: str, address: str) -> None:
    if address.startswith(UNIX):
        check_unix_address(report, path, address.removeprefix(UNIX))
    elif not is_ip(address) and (fault := host_fault(address)):
        report.error(path, f"expected an IP address or a host name: {fault}")


def _check_endpoint(
    report: Report, at: str, endpoint: TerseEndpoint, names: frozenset[str] | None = None
) -> None:
    check_labels(report, f"{at}labels", endpoint.labels)
    _check_locality(report, f"{at}locality", endpoint.locality)
    for name, number in endpoint.ports.items():
        where = field_path(f"{at}ports", name)
        if names is not None and name not in names:
            known = ", ".join(sorted(names))
            report.error(where, f"the service has no port named {name!r}; it has {known}")
        check_port(report, where, number)


_PARTS: Final = 3


def _check_locality(report: Report, path: str, text: str) -> None:
    parts = text.split("/")
    if text and (not parts[0] or len(parts) > _PARTS):
        report.error(path, f"expected region/zone/subzone, found {text!r}")
