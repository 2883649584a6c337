"""One service out of all that registries say of one host in one namespace. Pure.

The definition comes from the first part that has one; endpoints and ports are united. What the
others say differently is reported, never silently lost.
"""

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from aggregator.model.errors import Origin, Problem, Severity
from aggregator.model.policy import UNION, MergePolicy
from aggregator.model.registry import ServiceItem
from aggregator.model.service import Endpoint, Port, Protocol, Resolution, Service, is_socket
from aggregator.registry.network import NetworkMap
from aggregator.registry.workload import Candidate

PartKey = tuple[str, bool, str, str]
"""Registry, whether a rule (ServiceEntry) gave it, scope, and the adapter's own key."""


class Part(Struct, frozen=True):
    """What one scope of one registry contributes, with the workloads that its selector picks.

    `cluster_id` is the cluster whose own service it is, if it is one's: its virtual IPs mean
    something else in other clusters.
    """

    key: PartKey
    item: ServiceItem
    picked: tuple[Candidate, ...] = ()
    cluster_id: str = ""

    @property
    def registry(self) -> str:
        """Who says so."""
        return self.key[0]


class Merged(Struct, frozen=True):
    """The united service; `service` is None while no registry defines it."""

    service: Service | None = None
    endpoints: tuple[Endpoint, ...] = ()
    policy: MergePolicy = UNION
    problems: tuple[Problem, ...] = ()


NOTHING = Merged()
_Number = tuple[int, bool]
"""A port's number and whether it takes datagrams: 53 may be two ports."""


def merge_parts(
    parts: Sequence[Part], policy: MergePolicy = UNION, networks: NetworkMap | None = None
) -> Merged:
    """Unite *parts*, which come in the order of precedence."""
    definitions = [part.item.service for part in parts if part.item.service is not None]
    if not definitions:
        return NOTHING
    chosen = definitions[0]
    registries = tuple(
        dict.fromkeys(part.registry for part in parts if part.item.service is not None)
    )
    by_cluster = _by_cluster(parts)
    located = networks.located if networks else None
    if len(definitions) == 1:
        given = (each for part in parts for each in _endpoints_of(part, chosen.ports))
        service = replace(chosen, registries=registries, cluster_addresses=by_cluster)
        return Merged(service, _unite(given, chosen.ports, located), policy)
    problems: list[Problem] = []
    service = replace(
        chosen,
        ports=merge_ports(definitions, problems),
        addresses=_in_order(address for each in definitions for address in each.addresses),
        subject_alt_names=_in_order(
            name for each in definitions for name in each.subject_alt_names
        ),
        registries=registries,
        cluster_addresses=by_cluster,
        external_addresses=_in_order(
            address for each in definitions for address in each.external_addresses
        ),
    )
    problems += (problem for other in definitions[1:] for problem in _conflicts(chosen, other))
    usable = _reachable(_aligned_endpoints(parts, service), service, problems)
    endpoints = _unite(usable, service.ports, located)
    return Merged(service, endpoints, policy, tuple(dict.fromkeys(problems)))


def _by_cluster(parts: Sequence[Part]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Whose virtual IPs are whose, in the order of precedence."""
    found: dict[str, dict[str, None]] = {}
    for part in parts:
        if part.cluster_id and part.item.service is not None and part.item.service.addresses:
            own = found.setdefault(part.cluster_id, {})
            own.update(dict.fromkeys(part.item.service.addresses))
    return tuple((cluster, tuple(addresses)) for cluster, addresses in found.items())


def _in_order(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _number(port: Port) -> _Number:
    return (port.number, port.protocol is Protocol.UDP)


def merge_ports(definitions: Sequence[Service], problems: list[Problem]) -> tuple[Port, ...]:
    """The union by number; of one number the first definition's stands, and names stay unique."""
    ports: dict[_Number, Port] = {}
    names: set[str] = set()
    chosen = definitions[0]
    for service in definitions:
        for port in service.ports:
            known = ports.get(_number(port))
            if known is None:
                if port.name in names:
                    name = f"{port.name or 'port'}-{port.number}"
                    message = f"port name {port.name!r} is another port's; called {name!r}"
                    problems.append(_conflict(service, chosen, message))
                    port = replace(port, name=name)
                names.add(port.name)
                ports[_number(port)] = port
            elif known.protocol is not port.protocol:
                message = f"port {port.number} is {port.protocol} here, {known.protocol} there"
                problems.append(_conflict(service, chosen, message))
    return tuple(ports.values())


def _conflicts(chosen: Service, other: Service) -> Iterable[Problem]:
    for what, first, second in (
        ("resolution", chosen.resolution, other.resolution),
        ("mesh_external", chosen.mesh_external, other.mesh_external),
        ("headless", chosen.headless, other.headless),
        ("export_to", list(chosen.export_to), list(other.export_to)),
    ):
        if first != second:
            message = f"{what} is {second} here, {first} there"
            yield _conflict(other, chosen, message)


def _conflict(loser: Service, winner: Service, message: str) -> Problem:
    where = f" ({winner.origin})" if winner.origin != Origin() else ""
    return Problem(
        loser.origin,
        "",
        f"{message}; the definition declared first{where} stands",
        Severity.WARNING,
        f"service {loser.key}",
    )


def _endpoints_of(part: Part, ports: Sequence[Port]) -> Iterable[Endpoint]:
    """A part's endpoints, for a service with these ports."""
    if part.item.service is None:
        # A slice lists every port that its endpoints serve, whatever the service has.
        for endpoint in part.item.endpoints:
            named = {name for name, _ in endpoint.ports}
            if named and any(port.name not in named for port in ports):
                missing = ((port.name, 0) for port in ports if port.name not in named)
                endpoint = replace(endpoint, ports=tuple(sorted((*endpoint.ports, *missing))))
            yield endpoint
    else:
        yield from part.item.endpoints
    for candidate in part.picked:
        yield candidate.workload.endpoint


def _aligned_endpoints(parts: Sequence[Part], service: Service) -> Iterable[Endpoint]:
    """Every endpoint with ports as the united service calls them.

    A part without a definition of its own (a slice) speaks the language of its registry's first.
    """
    spoken: dict[str, Service] = {}
    for part in parts:
        if part.item.service is not None:
            spoken.setdefault(part.registry, part.item.service)
    for part in parts:
        own = part.item.service or spoken.get(part.registry, service)
        endpoints = _endpoints_of(part, own.ports)
        if own.ports == service.ports:
            yield from endpoints
        else:
            by_number = {_number(port): port for port in own.ports}
            for endpoint in endpoints:
                yield align(endpoint, service.ports, by_number)


def align(endpoint: Endpoint, ports: Sequence[Port], own: Mapping[_Number, Port]) -> Endpoint:
    """Tell of every port where the endpoint serves it; 0 for those its own definition lacks."""
    numbers = (
        (port.name, endpoint.port_number(own[_number(port)]) if _number(port) in own else 0)
        for port in ports
    )
    return replace(endpoint, ports=tuple(sorted(numbers)))


def _reachable(
    endpoints: Iterable[Endpoint], service: Service, problems: list[Problem]
) -> Iterable[Endpoint]:
    """Leave out host names where the chosen definition wants addresses: Envoy would refuse all."""
    if service.resolution is not Resolution.STATIC:
        yield from endpoints
        return
    for endpoint in endpoints:
        # One without an address is behind its network's gateway.
        if not endpoint.address or is_address(endpoint.address):
            yield endpoint
        else:
            message = f"endpoint {endpoint.address!r} left out: the service has static addresses"
            problems.append(
                Problem(service.origin, "", message, Severity.WARNING, f"service {service.key}")
            )


def is_address(text: str) -> bool:
    """Whether an endpoint's address needs no look-up."""
    if is_socket(text):
        return True
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _unite(
    endpoints: Iterable[Endpoint],
    ports: Sequence[Port],
    located: Callable[[Endpoint], Endpoint] | None,
) -> tuple[Endpoint, ...]:
    """Sorted, each place once: the first registry's word counts, and of its own words the best."""
    united: dict[tuple[object, ...], Endpoint] = {}
    for each in endpoints:
        if located is not None:
            each = located(each)
        numbers = tuple([each.port_number(port) for port in ports])
        # Nothing tells those that only a gateway knows apart.
        number = 0 if each.address else len(united)
        place = (each.address, numbers, each.network, each.cluster_id, number)
        known = united.setdefault(place, each)
        if known is not each and known.registry == each.registry:
            united[place] = min(known, each, key=lambda one: (one.health, one))
    return tuple(sorted(united.values()))
