"""Rules by which what a registry says becomes what is served of it, alike for every adapter. Pure.

Services, endpoints and workloads are mapped; traffic rules, and what they define, are not.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from fnmatch import translate
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Final

from msgspec import Meta, Struct
from msgspec.structs import replace

from aggregator.model.registry import Item, RegistryContext, ServiceItem
from aggregator.model.service import (
    NOWHERE,
    Endpoint,
    Labels,
    Locality,
    Port,
    Protocol,
    Service,
    Workload,
    labels_of,
)
from config.check import is_ip, is_label_key
from config.naming import host_of_template, template_fault

PARTS: Final = ("service", "namespace", "host", "registry", "cluster_id", "domain")
"""What a host template may name; `service` is the first label of the host, `host` all of it."""

Faults = list[tuple[str, str]]
"""Paths within the section and what is wrong there."""


class ServiceFilter(Struct, frozen=True, forbid_unknown_fields=True):
    """Services of which all that is given matches; ``*`` stands for any run of characters."""

    host: Annotated[str, Meta(description="Pattern of the host name as the registry tells it.")] = (
        "*"
    )
    namespace: Annotated[str, Meta(description="Pattern of the namespace.")] = "*"
    labels: Annotated[
        Mapping[str, str], Meta(description="Patterns of the values of the service's labels.")
    ] = {}


class AddressFilter(Struct, frozen=True, forbid_unknown_fields=True):
    """Endpoints by address; host names and sockets are always taken."""

    include: Annotated[
        tuple[str, ...], Meta(description="Only endpoints in these ranges; all if empty.")
    ] = ()
    exclude: Annotated[tuple[str, ...], Meta(description="No endpoints in these ranges.")] = ()


class LabelRules(Struct, frozen=True, forbid_unknown_fields=True):
    """What becomes of labels of services and endpoints; they are renamed after being dropped."""

    rename: Annotated[
        Mapping[str, str], Meta(description="New names by old ones; an existing label stands.")
    ] = {}
    drop: Annotated[tuple[str, ...], Meta(description="Patterns of names to leave out.")] = ()


class PortPolicy(StrEnum):
    """Which ports a service has: those of its instances, the first of them, or a fixed one."""

    INSTANCE = "instance"
    FIRST = "first"
    FIXED = "fixed"


class PortRules(Struct, frozen=True, forbid_unknown_fields=True):
    """The ports that a service is reached at; its endpoints stay where they are."""

    policy: Annotated[
        PortPolicy,
        Meta(
            description="`instance`: as the registry tells; `first`: only the first; "
            "`fixed`: the first, under the number `number`."
        ),
    ] = PortPolicy.INSTANCE
    number: Annotated[int, Meta(ge=0, le=65535, description="The port's number, for `fixed`.")] = 0


class MappingRules(Struct, frozen=True, forbid_unknown_fields=True):
    """The section `mapping` of a registry."""

    host: Annotated[
        str,
        Meta(
            description="Template of host names, of {service} (the first part of the registry's), "
            "{namespace}, {host} (all of it), {registry}, {cluster_id} and {domain}."
        ),
    ] = ""
    include: Annotated[
        tuple[ServiceFilter, ...],
        Meta(description="Only services that one of these matches; all if empty."),
    ] = ()
    exclude: Annotated[
        tuple[ServiceFilter, ...], Meta(description="No services that one of these matches.")
    ] = ()
    addresses: Annotated[
        AddressFilter, Meta(description="Which endpoints are taken, by address.")
    ] = AddressFilter()
    labels: Annotated[LabelRules, Meta(description="What becomes of labels.")] = LabelRules()
    ports: Annotated[PortRules, Meta(description="The ports that services are reached at.")] = (
        PortRules()
    )
    protocol: Annotated[
        str, Meta(description="What is spoken on ports that would be plain TCP otherwise.")
    ] = ""
    locality: Annotated[
        str, Meta(description="The locality `region/zone/subzone` of endpoints without one.")
    ] = ""
    network: Annotated[str, Meta(description="The network of endpoints without one.")] = ""


AS_TOLD: Final = MappingRules()
_SLASHES: Final = 2


def validate_mapping(rules: MappingRules) -> Faults:
    """All that is wrong with *rules*."""
    faults: Faults = []
    if rules.host and (fault := template_fault(rules.host, PARTS)):
        faults.append(("host", fault))
    for name in ("include", "exclude"):
        for index, text in enumerate(getattr(rules.addresses, name)):
            if _network(text) is None:
                message = f"expected a range such as 10.0.0.0/8, found {text!r}"
                faults.append((f"addresses.{name}[{index}]", message))
    for old, new in rules.labels.rename.items():
        if not is_label_key(new):
            faults.append((f"labels.rename.{old}", f"{new!r} cannot be the name of a label"))
    if rules.protocol and Protocol.parse(rules.protocol) is None:
        known = ", ".join(Protocol)
        faults.append(("protocol", f"expected one of {known}, found {rules.protocol!r}"))
    if rules.locality and (rules.locality.startswith("/") or rules.locality.count("/") > _SLASHES):
        message = f"expected region/zone/subzone, found {rules.locality!r}"
        faults.append(("locality", message))
    if rules.ports.policy is PortPolicy.FIXED and not rules.ports.number:
        faults.append(("ports.number", "required for the policy `fixed`"))
    if rules.ports.policy is not PortPolicy.FIXED and rules.ports.number:
        faults.append(("ports.number", "only for the policy `fixed`"))
    return faults


class Mapper:
    """*rules* for one registry, made ready; they have to be valid."""

    def __init__(
        self, rules: MappingRules = AS_TOLD, context: RegistryContext | None = None
    ) -> None:
        self.rules: Final = rules
        self.idle: Final = rules == AS_TOLD
        context = context or RegistryContext(name="", cluster_id="")
        self._parts: Final = {
            "registry": context.name,
            "cluster_id": context.cluster_id,
            "domain": context.domain,
        }
        self._include: Final = [_Filter(each) for each in rules.include]
        self._exclude: Final = [_Filter(each) for each in rules.exclude]
        self._addresses: Final = _Ranges(rules.addresses)
        self._drop: Final = [_pattern(each) for each in rules.labels.drop]
        self._protocol: Final = Protocol.parse(rules.protocol) or Protocol.TCP
        self._locality: Final = Locality.parse(rules.locality)
        self._labels: dict[Labels, Labels] = {}
        self._latest: tuple[Item | None, Item | None, str] = (None, None, "")

    @property
    def renames_hosts(self) -> bool:
        """Whether hosts that differ may become the same."""
        return bool(self.rules.host)

    def apply(self, item: Item) -> Item | None:
        """What is served of *item*, None if nothing is; the very same object if nothing changes.

        Raises ValueError, saying why, if it cannot have a host name.
        """
        if self.idle:
            return item
        # The same item is asked for several times in a row: for its weight, its host, its content.
        if self._latest[0] is not item:
            try:
                self._latest = (item, self._map(item), "")
            except ValueError as error:
                self._latest = (item, None, str(error))
        _, mapped, fault = self._latest
        if fault:
            raise ValueError(fault)
        return mapped

    def _map(self, item: Item) -> Item | None:
        match item:
            case ServiceItem():
                return self._service_item(item) if self._takes_service(item) else None
            case Workload():
                return self._workload(item) if self._takes_workload(item) else None
            case _:
                return item

    def _takes_service(self, item: ServiceItem) -> bool:
        labels = None if item.service is None else dict(item.service.labels)
        host, namespace = item.host, item.namespace
        if any(each.matches(host, namespace, labels, unknown=False) for each in self._exclude):
            return False
        return not self._include or any(
            each.matches(host, namespace, labels, unknown=True) for each in self._include
        )

    def _takes_workload(self, workload: Workload) -> bool:
        """Workloads have no host: what is said of hosts neither takes nor refuses them."""
        labels, namespace = dict(workload.endpoint.labels), workload.namespace
        if not self._addresses.takes(workload.endpoint.address):
            return False
        if any(
            each.any_host and each.matches("", namespace, labels, unknown=False)
            for each in self._exclude
        ):
            return False
        return not self._include or any(
            each.matches(None, namespace, labels, unknown=True) for each in self._include
        )

    def _service_item(self, item: ServiceItem) -> ServiceItem:
        host = item.host
        if self.rules.host:
            first = host.partition(".")[0]
            parts = self._parts | {"service": first, "host": host, "namespace": item.namespace}
            host = host_of_template(self.rules.host, **parts)
        endpoints = tuple(
            self._endpoint(each) for each in item.endpoints if self._addresses.takes(each.address)
        )
        service = item.service
        if service is not None:
            service = replace(
                service,
                host=host,
                labels=self._map_labels(service.labels),
                selector=self._rename(service.selector),
                ports=tuple(self._port(each) for each in service.ports),
            )
            service, endpoints = self._map_ports(service, endpoints)
        mapped = ServiceItem(item.namespace, host, service, endpoints)
        return item if mapped == item else mapped

    def _workload(self, workload: Workload) -> Workload:
        endpoint = self._endpoint(workload.endpoint)
        return workload if endpoint is workload.endpoint else replace(workload, endpoint=endpoint)

    def _endpoint(self, endpoint: Endpoint) -> Endpoint:
        labels = self._map_labels(endpoint.labels)
        locality = self._locality if endpoint.locality == NOWHERE else endpoint.locality
        network = endpoint.network or self.rules.network
        if (labels, locality, network) == (endpoint.labels, endpoint.locality, endpoint.network):
            return endpoint
        return replace(endpoint, labels=labels, locality=locality, network=network)

    def _port(self, port: Port) -> Port:
        if port.protocol is not Protocol.TCP or self._protocol is Protocol.TCP:
            return port
        return replace(port, protocol=self._protocol)

    def _map_labels(self, labels: Labels) -> Labels:
        known = self._labels.get(labels)
        if known is None:
            kept = tuple(
                pair for pair in labels if not any(drop.fullmatch(pair[0]) for drop in self._drop)
            )
            # Endpoints share few sets of labels; the bound is for those that all have their own.
            if len(self._labels) > 10_000:
                self._labels.clear()
            known = self._labels[labels] = self._rename(kept)
        return known

    def _rename(self, labels: Labels) -> Labels:
        rename = self.rules.labels.rename
        names = {name for name, _ in labels}
        if rename.keys().isdisjoint(names):
            return labels
        kept = {name: value for name, value in labels if name not in rename}
        for name, value in labels:
            if name in rename:
                kept.setdefault(rename[name], value)
        return labels_of(kept)

    def _map_ports(
        self, service: Service, endpoints: tuple[Endpoint, ...]
    ) -> tuple[Service, tuple[Endpoint, ...]]:
        if self.rules.ports.policy is PortPolicy.INSTANCE or not service.ports:
            return service, endpoints
        first = service.ports[0]
        number = self.rules.ports.number or first.number
        port = replace(first, number=number, target=first.target or first.number)
        moved = tuple(_at_one_port(each, service.ports, port) for each in endpoints)
        return replace(service, ports=(port,)), tuple(each for each in moved if each is not None)


class _Filter:
    def __init__(self, filtered: ServiceFilter) -> None:
        self.any_host = filtered.host == "*"
        self._host = _pattern(filtered.host.lower())
        self._namespace = _pattern(filtered.namespace)
        self._labels = {name: _pattern(value) for name, value in filtered.labels.items()}

    def matches(
        self, host: str | None, namespace: str, labels: Mapping[str, str] | None, *, unknown: bool
    ) -> bool:
        """Whether all matches; *unknown* is the answer where labels matter and are not told."""
        if host is not None and not self._host.fullmatch(host.lower()):
            return False
        if not self._namespace.fullmatch(namespace):
            return False
        if labels is None:
            return unknown or not self._labels
        return all(
            name in labels and pattern.fullmatch(labels[name])
            for name, pattern in self._labels.items()
        )


class _Ranges:
    def __init__(self, rules: AddressFilter) -> None:
        self._include = [each for text in rules.include if (each := _network(text))]
        self._exclude = [each for text in rules.exclude if (each := _network(text))]

    def takes(self, address: str) -> bool:
        if not (self._include or self._exclude) or not is_ip(address):
            return True
        ip = ip_address(address)
        if any(ip in network for network in self._exclude):
            return False
        return not self._include or any(ip in network for network in self._include)


def _at_one_port(endpoint: Endpoint, ports: tuple[Port, ...], only: Port) -> Endpoint | None:
    """The endpoint at the first of *ports* that it serves; None if it serves none."""
    numbers = (endpoint.port_number(port) for port in ports)
    served = next((number for number in numbers if number), 0)
    if not served:
        return None
    told = () if served == only.target else ((only.name, served),)
    return replace(endpoint, ports=told)


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(translate(text))


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None
