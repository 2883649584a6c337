"""From what Consul says of one service to the model. Pure.

An instance that cannot be used is told of and left out; the rest of the service is served.
"""

from collections.abc import Iterable, Mapping, Sequence
from sys import intern
from typing import Final

from msgspec import Struct

from adapters.consul.answer import Faulty, Instance, NamedPort, Place, Registered
from adapters.consul.settings import ConsulSettings, Status
from aggregator.model.errors import Origin, Problem, Severity
from aggregator.model.registry import RegistryContext, ServiceItem
from aggregator.model.service import (
    NOWHERE,
    Endpoint,
    Health,
    Labels,
    Locality,
    Port,
    Protocol,
    Resolution,
    Service,
)
from config.check import host_fault, is_dns_label, is_ip
from config.labels import clean_labels
from config.naming import host_of_template
from config.place import KEYS, resolve_locality, resolve_protocol
from config.weight import resolve_weight

DEFAULT_TEMPLATE: Final = "{service}.{namespace}.{partition}.service.{datacenter}.consul"
"""Consul's own DNS name; namespace and partition only appear where they are not the default."""

TEMPLATE_PARTS: Final = ("service", "datacenter", "namespace", "partition")

_MAINTENANCE: Final = ("_node_maintenance", "_service_maintenance:")
_DEFAULT: Final = "default"
_MOST_META: Final = 64 * 2**10
_MOST_TOLD: Final = 5
_HIGHEST_PORT: Final = 65535
_NAME: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_ORDER: Final = {Status.PASSING: 0, Status.WARNING: 1, Status.CRITICAL: 2}


class Scope(Struct, frozen=True, order=True):
    """What is listed as a whole: the services of a datacenter, namespace and partition.

    What is empty is left to Consul, which takes the agent's or the token's own.
    """

    datacenter: str = ""
    namespace: str = ""
    partition: str = ""

    def __str__(self) -> str:
        """The name of the shard, the same over restarts."""
        parts = (self.datacenter or "own", self.partition, self.namespace)
        return ":".join(part for part in parts if part)


class Decoded(Struct, frozen=True):
    """What came of one service: nothing at all if it is of a kind that gets no traffic of ours.

    `created` is Consul's index at the first registration of its oldest instance; `dropped` is one
    of the tags and meta that can be no label, if there are such.
    """

    item: ServiceItem | None = None
    problems: tuple[Problem, ...] = ()
    created: int = 0
    dropped: str = ""


class Decoder:
    """Decodes the services of one scope. `own` is the agent's datacenter."""

    def __init__(
        self, context: RegistryContext, settings: ConsulSettings, scope: Scope, own: str
    ) -> None:
        self._context = context
        self._settings = settings
        self._scope = scope
        self._own = own
        self._places: dict[Locality, Locality] = {}
        self._labels: dict[Labels, Labels] = {}

    def decode(
        self,
        name: str,
        instances: Sequence[Instance],
        faulty: Sequence[Faulty] = (),
        before: Service | None = None,
    ) -> Decoded:
        """Decode one service.

        *before* stands for the definition while there is no instance to take it from.
        """
        report = _Report(self._context.name, self._scope, name)
        for each in faulty:
            report.instance(f"number {each.number}", each.reason)
        plain = [each for each in instances if not each.service.kind and self._wanted(each)]
        if not plain and not faulty and (instances or before is None):
            return Decoded()
        created = min((each.service.create_index for each in plain), default=0)
        try:
            host = self.host(name)
        except ValueError as error:
            report.service(str(error))
            return Decoded(None, report.problems(), created)
        ports = _Ports(self._context, plain, report)
        usable = [
            endpoint
            for each in ports.usable
            if (endpoint := self._endpoint(each, ports, report)) is not None
        ]
        if not ports.ports:
            if before is None or before.host != host:
                if not plain:
                    report.service("no instance that can be read")
                return Decoded(None, report.problems(), created)
            service = before
        else:
            service = Service(
                host=host,
                namespace=self._context.namespace,
                ports=ports.ports,
                resolution=_resolution(usable),
                mesh_external=any(_meta(each).get("external") == "true" for each in plain),
                export_to=self._context.export_to,
                registries=(self._context.name,),
                origin=report.origin,
            )
        endpoints = tuple(sorted(usable))
        item = ServiceItem(self._context.namespace, host, service, endpoints)
        return Decoded(item, report.problems(), created, report.label_dropped)

    def _wanted(self, instance: Instance) -> bool:
        return set(self._settings.tags) <= set(instance.service.tags or ())

    def host(self, name: str) -> str:
        """The host of a service; raises ValueError, saying why, if its name allows for none."""
        if not name or not set(name) <= _NAME:
            message = f"{name[:80]!r} is no DNS name, so no host can be made of it"
            raise ValueError(message)
        scope = self._scope
        return intern(
            host_of_template(
                self._context.host_template or DEFAULT_TEMPLATE,
                service=name,
                datacenter=scope.datacenter or self._own,
                namespace="" if scope.namespace == _DEFAULT else scope.namespace,
                partition="" if scope.partition == _DEFAULT else scope.partition,
            )
        )

    def _endpoint(self, instance: Instance, ports: "_Ports", report: "_Report") -> Endpoint | None:
        service, node = instance.service, instance.node
        address, port = self._address(instance)
        if fault := _address_fault(address):
            report.instance(_id_of(instance), fault)
            return None
        meta = _meta(instance)
        tags = _tag_labels(service.tags or ())
        size = sum(len(key) + len(value) for key, value in (*meta.items(), *tags.items()))
        if size > _MOST_META:
            report.metadata(_id_of(instance), size)
            meta, tags = {}, {}
        labels = clean_labels(meta, tags, self._provenance())
        report.dropped(labels.dropped)
        status = _status(instance)
        return Endpoint(
            address=address,
            ports=ports.numbers(instance, port),
            labels=self._labels.setdefault(labels.labels, labels.labels),
            locality=self._locality(instance, meta, tags),
            network=intern(meta.get("network", "")) or self._context.network,
            cluster_id=self._context.cluster_id,
            weight=_weight(service, meta, tags, status),
            health=self._health(instance, status),
            service_account=meta.get("service-account", ""),
            node=intern(node.name),
            registry=self._context.name,
        )

    def _provenance(self) -> Mapping[str, str]:
        scope = self._scope
        told = {
            "consul-datacenter": scope.datacenter or self._own,
            "consul-namespace": scope.namespace,
            "consul-partition": scope.partition,
        }
        return {key: value for key, value in told.items() if value}

    def _address(self, instance: Instance) -> tuple[str, int]:
        """The address to use, and the port that goes with it or 0."""
        service, node, settings = instance.service, instance.node, self._settings
        remote = bool(self._own) and (self._scope.datacenter or self._own) != self._own
        tag = settings.remote_tagged_address if remote else settings.tagged_address
        tagged = (service.tagged_addresses or {}).get(tag)
        if tagged is not None and tagged.address:
            return tagged.address, tagged.port
        if service.address:
            return service.address, 0
        return (node.tagged_addresses or {}).get(tag) or node.address, 0

    def _health(self, instance: Instance, status: Status) -> Health:
        if any(each.check_id.startswith(_MAINTENANCE) for each in instance.checks or ()):
            # Somebody took it out of service, which no setting overrides.
            return Health.TERMINATING
        return Health.READY if status in self._settings.health else Health.NOT_READY

    def _locality(
        self, instance: Instance, meta: Mapping[str, str], tags: Mapping[str, str]
    ) -> Locality:
        told = (
            meta,
            tags,
            _place(instance.service.locality),
            instance.node.meta or {},
            _place(instance.node.locality),
        )
        found = resolve_locality(*told)
        if found == NOWHERE:
            datacenter = self._scope.datacenter or instance.node.datacenter
            fallback = self._context.locality or self._settings.regions.get(datacenter, datacenter)
            found = Locality.parse(fallback)
            zone = {key: value for each in reversed(told) for key, value in each.items()}
            if not found.zone and any(zone.get(key) for key in KEYS.zone):
                # A datacenter is a region, in which the node may tell the zone.
                found = resolve_locality(
                    {**_only(zone, KEYS.zone, KEYS.subzone), "region": found.region}
                )
        return self._places.setdefault(found, found)


class _Report:
    """Gathers what is wrong with one service, in few words however many instances it has."""

    def __init__(self, registry: str, scope: Scope, name: str) -> None:
        self.origin = Origin(f"{registry}/{scope}/{name[:80]}")
        self._subject = f"service {name[:80]}"
        self._found: list[Problem] = []
        self._more = 0
        self._dropped: set[str] = set()

    def service(self, message: str) -> None:
        """The service is left out."""
        self._found.append(Problem(self.origin, "", message, subject=self._subject))

    def instance(self, instance: str, message: str) -> None:
        """An instance is left out."""
        self._add(f"instance {instance[:80]!r} left out: {message}", Severity.ERROR)

    def metadata(self, instance: str, size: int) -> None:
        """An instance is served without its metadata."""
        message = (
            f"tags and meta of instance {instance[:80]!r} left out: "
            f"expected at most {_MOST_META} characters, found {size}"
        )
        self._add(message, Severity.WARNING)

    def warn(self, message: str) -> None:
        """Something is not what its author thinks."""
        self._add(message, Severity.WARNING)

    def dropped(self, names: Iterable[str]) -> None:
        """Metadata that cannot be labels."""
        self._dropped.update(names)

    def problems(self) -> tuple[Problem, ...]:
        """All of it."""
        found = list(self._found)
        if self._more:
            message = f"the same or other things are wrong with more instances: {self._more}"
            found.append(Problem(self.origin, "", message, Severity.WARNING, self._subject))
        return tuple(found)

    @property
    def label_dropped(self) -> str:
        """One of the names that are no labels, always the same one; else ""."""
        return min(self._dropped, default="")

    def _add(self, message: str, severity: Severity) -> None:
        if len(self._found) < _MOST_TOLD:
            self._found.append(Problem(self.origin, "", message, severity, self._subject))
        else:
            self._more += 1


class _Ports:
    """The ports of a service, out of what its instances listen on.

    A port that Consul has a name for is that port in every instance, whatever its number; others
    are told apart by number, so that instances on several ports make a service with several.
    """

    def __init__(
        self, context: RegistryContext, instances: Sequence[Instance], report: _Report
    ) -> None:
        self._by_key: dict[str, Port] = {}
        self._by_number: dict[int, str] = {}
        self.usable: list[Instance] = []
        found: list[tuple[str, int, Instance]] = []
        for each in sorted(instances, key=_age):
            if fault := _port_fault(each.service):
                report.instance(_id_of(each), fault)
            else:
                self.usable.append(each)
                found += ((port.name, port.port, each) for port in _listens(each.service))
        # Named ones first, so that the same number without a name is found to be the same port.
        for name, number, instance in sorted(found, key=lambda one: (not one[0], one[1], one[0])):
            self._add(name, number, instance, context, report)
        self.ports = tuple(sorted(self._by_key.values()))

    def _add(
        self, name: str, number: int, instance: Instance, context: RegistryContext, report: _Report
    ) -> None:
        if name in self._by_key or (not name and number in self._by_number):
            return
        if number in self._by_number:
            other = self._by_number[number]
            report.warn(f"port {name!r} left out: {number} is the number of {other!r}")
            return
        metadata = {**_tag_labels(instance.service.tags or ()), **_meta(instance)}
        protocol = resolve_protocol(
            service=metadata.get(f"protocol-{name}", "") if name else "",
            metadata=metadata if not name or len(_listens(instance.service)) == 1 else {},
            port_name=name,
            default=context.protocol,
        )
        key = name or _port_name(protocol, number)
        self._by_key[key] = Port(number, intern(key), protocol)
        self._by_number[number] = key

    def numbers(self, instance: Instance, instead: int) -> tuple[tuple[str, int], ...]:
        """Where an instance serves each port; nothing if that is at the service's own numbers.

        *instead* goes with the address that is used, in place of the registered port; 0 for none.
        """
        own: dict[str, int] = {}
        listens = _listens(instance.service)
        for port in listens:
            key = port.name or self._by_number.get(port.port, "")
            own[key] = instead if instead and (port.default or len(listens) == 1) else port.port
        if all(own.get(key) == port.number for key, port in self._by_key.items()):
            return ()
        return tuple(sorted((port.name, own.get(key, 0)) for key, port in self._by_key.items()))


def _listens(service: Registered) -> Sequence[NamedPort]:
    return service.ports or (NamedPort("", service.port, default=True),)


def _port_fault(service: Registered) -> str:
    if service.socket_path:
        return "it listens on a Unix socket, which other machines cannot reach"
    for port in _listens(service):
        if not port.port and not port.name:
            return "it has no port"
        if not 0 < port.port <= _HIGHEST_PORT:
            return f"expected a port from 1 to {_HIGHEST_PORT}, found {port.port}"
        if port.name and not is_dns_label(port.name):
            return f"expected the name of a port, found {port.name[:80]!r}"
    return ""


def _port_name(protocol: Protocol, number: int) -> str:
    return f"{protocol.value.lower().replace('_', '-')}-{number}"


def _address_fault(address: str) -> str:
    if not address:
        return "neither it nor its node has an address"
    if is_ip(address):
        return "" if address not in ("0.0.0.0", "::") else f"{address} is no address of anybody"  # noqa: S104
    if len(address) > 255 or (fault := host_fault(address)):
        return f"expected an IP address or a host name, found {address[:80]!r}"
    return fault


def _resolution(endpoints: Iterable[Endpoint]) -> Resolution:
    """Host names are left to the proxy to resolve."""
    static = all(is_ip(each.address) for each in endpoints)
    return Resolution.STATIC if static else Resolution.DNS


def _status(instance: Instance) -> Status:
    """That of the worst check; a word that Consul does not know yet is taken for the worst."""
    found = Status.PASSING
    for check in instance.checks or ():
        status = _STATES.get(check.status, Status.CRITICAL)
        if _ORDER[status] > _ORDER[found]:
            found = status
    return found


_STATES: Final = {each.value: each for each in Status}


def _weight(
    service: Registered, meta: Mapping[str, str], tags: Mapping[str, str], status: Status
) -> int:
    weights = service.weights
    native = None
    if weights is not None:
        native = weights.warning if status is Status.WARNING else weights.passing
    return resolve_weight(meta.get("weight"), tags.get("weight"), native)


def _tag_labels(tags: Iterable[str]) -> Mapping[str, str]:
    """``key=value`` and ``key|value`` are labels; a bare tag is one that says so."""
    found: dict[str, str] = {}
    for tag in tags:
        cut = next((place for place, sign in enumerate(tag) if sign in "=|"), -1)
        if cut > 0:
            found.setdefault(tag[:cut], tag[cut + 1 :])
        else:
            found[f"consul-tag/{tag}"] = "true"
    return found


def _meta(instance: Instance) -> Mapping[str, str]:
    return instance.service.meta or {}


def _place(place: Place | None) -> Mapping[str, str]:
    if place is None:
        return {}
    told = {"region": place.region, "zone": place.zone}
    return {key: value for key, value in told.items() if value}


def _only(metadata: Mapping[str, str], *keys: tuple[str, ...]) -> Mapping[str, str]:
    wanted = [name for names in keys for name in names]
    return {name: metadata[name] for name in wanted if name in metadata}


def _id_of(instance: Instance) -> str:
    return f"{instance.node.name}/{instance.service.id}"


def _age(instance: Instance) -> tuple[int, str, str]:
    return (instance.service.create_index, instance.node.name, instance.service.id)
