"""From endpoints to the bytes of a ClusterLoadAssignment, for EDS and for clusters that hold one.

Each endpoint is serialised once, and then joined as bytes: a large assignment costs little more
than copying.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_pton
from typing import Final

from envoy.config.core.v3 import address_pb2, base_pb2, health_check_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2

from aggregator.generators.locality import Group, has_labels
from aggregator.generators.spec import View, frame, varint
from aggregator.model.service import (
    Endpoint,
    Health,
    Labels,
    Locality,
    Port,
    Service,
    is_socket,
    labels_of,
)
from config.kinds.destination_rule import Subset

_MOST: Final = 0xFFFF_FFFF
_CACHED_ENDPOINTS: Final = 1 << 18
_CACHED_METADATA: Final = 1 << 14
_CACHED_LOCALITIES: Final = 1 << 12

# Fields of ClusterLoadAssignment, of its LocalityLbEndpoints and of their LbEndpoints.
_CLUSTER_NAME: Final = 1
_ENDPOINTS: Final = 2
_LOCALITY: Final = 1
_LB_ENDPOINTS: Final = 2
_WEIGHT: Final = 3
_ENDPOINT_METADATA: Final = 3
_ENDPOINT_WEIGHT: Final = 4
_PRIORITY_TAG: Final = varint(5 << 3)

_CANONICAL_NAMES: Final = (
    "service.istio.io/canonical-name",
    "app.kubernetes.io/name",
    "app",
)
_CANONICAL_REVISIONS: Final = (
    "service.istio.io/canonical-revision",
    "app.kubernetes.io/version",
    "version",
)
_TLS_MODE: Final = "security.istio.io/tlsMode"


def serving_endpoints(view: View, service: Service, *, names: bool = False) -> list[Endpoint]:
    """The endpoints that may get traffic, whatever the port.

    Host names are taken only if *names* says so, because Envoy resolves none in assignments; else
    they are reported. One without an address may be behind a gateway.
    """
    least = Health.NOT_READY if service.publish_not_ready else Health.READY
    serving = [
        endpoint
        for endpoint in view.endpoints(service.key)
        if endpoint.health <= least and endpoint.weight > 0
    ]
    if not names and not all(is_address(endpoint.address) for endpoint in serving):
        wrong = {each.address for each in serving if not is_address(each.address)} - {""}
        if wrong:
            message = f"left out what is no IP address: {', '.join(sorted(wrong))}"
            view.report(service.origin, f"Service {service.key}", message)
            serving = [each for each in serving if each.address not in wrong]
    return serving


def of_family(view: View, endpoints: list[Endpoint]) -> list[Endpoint]:
    """Those of the proxy's own families, where there are both IPv4 and IPv6 addresses."""
    sixes = sum(_is_ipv6(endpoint.address) for endpoint in endpoints)
    if not 0 < sixes < len(endpoints) or (view.ipv4 and view.ipv6):
        return endpoints
    ipv6 = view.ipv6
    return [each for each in endpoints if _is_ipv6(each.address) == ipv6 or is_socket(each.address)]


def endpoints_of(
    serving: Iterable[Endpoint], port: Port, subset: Subset | None = None
) -> list[Endpoint]:
    """Those of *serving* that serve *port*, and belong to *subset* if there is one."""
    wanted = labels_of(subset.labels) if subset else ()
    return [
        endpoint
        for endpoint in serving
        if endpoint.port_number(port) and (not wanted or has_labels(endpoint, wanted))
    ]


def build_load_assignment(name: str, groups: Sequence[Group], port: Port) -> bytes:
    """The serialised message, byte for byte as protobuf serialises it deterministically."""
    parts = [frame(_CLUSTER_NAME, name.encode())]
    scale = _weight_scale(groups)
    for group in groups:
        members = [frame(_LOCALITY, _build_locality(group.locality))]
        members += [
            _frame_lb_endpoint(endpoint, endpoint.port_number(port), scale(endpoint.weight))
            for endpoint in group.endpoints
        ]
        members.append(frame(_WEIGHT, b"\x08" + varint(scale(group.weight))))
        if group.priority:
            members.append(_PRIORITY_TAG + varint(group.priority))
        parts.append(frame(_ENDPOINTS, b"".join(members)))
    return b"".join(parts)


def build_address(address: str, port: int) -> address_pb2.Address:
    """A socket address, or a pipe if *address* is a Unix socket."""
    built = address_pb2.Address()
    _fill_address(built, address, port)
    return built


@lru_cache(_CACHED_ENDPOINTS)
def is_address(address: str) -> bool:
    """Whether it is an IP address or a Unix socket, and not a host name."""
    if is_socket(address):
        return True
    try:
        inet_pton(AF_INET6 if ":" in address else AF_INET, address)
    except (OSError, ValueError):
        return False
    return True


def _fill_address(built: address_pb2.Address, address: str, port: int) -> None:
    if is_socket(address):
        built.pipe.path = address
    else:
        built.socket_address.address = address
        built.socket_address.port_value = port


def _is_ipv6(address: str) -> bool:
    return ":" in address and not is_socket(address)


def _weight_scale(groups: Iterable[Group]) -> Callable[[int], int]:
    """Scales down weights that add up to more than 32 bits, which Envoy refuses."""
    places = members = 0
    for group in groups:
        places += group.weight
        members += sum(endpoint.weight for endpoint in group.endpoints)
    most = max(places, members)
    if most <= _MOST:
        return lambda weight: weight
    # Half of what is allowed leaves room for the ones that are raised to 1.
    return lambda weight: max(1, weight * (_MOST // 2) // most)


@lru_cache(_CACHED_LOCALITIES)
def _build_locality(where: Locality) -> bytes:
    locality = base_pb2.Locality(region=where.region, zone=where.zone, sub_zone=where.subzone)
    return locality.SerializeToString(deterministic=True)


@lru_cache(_CACHED_ENDPOINTS)
def _frame_lb_endpoint(endpoint: Endpoint, port: int, weight: int) -> bytes:
    built = endpoint_components_pb2.LbEndpoint(health_status=health_check_pb2.HEALTHY)
    _fill_address(built.endpoint.address, endpoint.address, port)
    body = built.SerializeToString(deterministic=True)
    weighed = frame(_ENDPOINT_WEIGHT, b"\x08" + varint(weight))
    metadata = _frame_metadata(endpoint.labels, endpoint.cluster_id)
    return frame(_LB_ENDPOINTS, body + metadata + weighed)


@lru_cache(_CACHED_METADATA)
def _frame_metadata(labels: Labels, cluster_id: str) -> bytes:
    """Nothing where nothing is known that anyone would read."""
    metadata = base_pb2.Metadata()
    known = dict(labels)
    workload = _workload(known, cluster_id)
    if workload:
        metadata.filter_metadata["istio"].update({"workload": workload})
    if mode := known.get(_TLS_MODE):
        metadata.filter_metadata["envoy.transport_socket_match"].update({"tlsMode": mode})
    raw = metadata.SerializeToString(deterministic=True)
    return frame(_ENDPOINT_METADATA, raw) if raw else b""


def _workload(labels: Mapping[str, str], cluster_id: str) -> str:
    """``name;namespace;canonical name;revision;cluster``, for telemetry, as far as it is known."""
    name = next((labels[each] for each in _CANONICAL_NAMES if each in labels), "")
    if not name:
        return ""
    revision = next((labels[each] for each in _CANONICAL_REVISIONS if each in labels), "latest")
    return f";;{name};{revision};{cluster_id}"
