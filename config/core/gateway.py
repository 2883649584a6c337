"""The ways into a network that a Service labelled with it opens to other networks."""

import json
from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from aggregator.model.registry import NetworkGateway
from aggregator.model.service import Labels, labels_match, labels_of
from config.core.metadata import ObjectMeta
from config.core.place import NETWORK_LABEL
from config.core.service import CoreService

PORT_LABEL: Final = "networking.istio.io/gatewayPort"
"""The port of the Service that takes traffic for other networks, where it is not 15443."""

NODE_SELECTOR: Final = "traffic.istio.io/nodeSelector"
"""The annotation that says on which nodes a NodePort Service may be reached, as JSON of labels."""

_PORT: Final = 15443


class NodeAddress(Struct, frozen=True):
    """One address of a node; `type` is ExternalIP, InternalIP or a kind of name."""

    type: str = ""
    address: str = ""


class NodeStatus(Struct, frozen=True):
    """What a node says of itself."""

    addresses: tuple[NodeAddress, ...] = ()


class CoreNode(Struct, frozen=True):
    """A Node with its addresses."""

    metadata: ObjectMeta = ObjectMeta()
    status: NodeStatus = NodeStatus()


class NodePlace(Struct, frozen=True):
    """A node's labels, and its addresses for those outside."""

    labels: Labels = ()
    addresses: tuple[str, ...] = ()


def node_place_of(decoded: CoreNode) -> NodePlace:
    """The node with its external addresses, else its internal ones."""
    addresses = decoded.status.addresses
    external = tuple(each.address for each in addresses if each.type == "ExternalIP")
    internal = tuple(each.address for each in addresses if each.type == "InternalIP")
    return NodePlace(labels_of(decoded.metadata.labels), external or internal)


def opens_network(decoded: CoreService) -> bool:
    """Whether the Service is a gateway for other networks."""
    return bool(decoded.metadata.labels.get(NETWORK_LABEL))


def by_node_port(decoded: CoreService) -> bool:
    """Whether the Service is such a gateway, and is reached on nodes."""
    return opens_network(decoded) and decoded.spec.type == "NodePort"


def network_gateways(
    decoded: CoreService, cluster_id: str, nodes: Callable[[], Iterable[NodePlace]]
) -> tuple[NetworkGateway, ...]:
    """All ways in that the Service opens; none if it is no gateway, or has no address yet."""
    network = decoded.metadata.labels.get(NETWORK_LABEL, "")
    if not network:
        return ()
    port = _told_port(decoded) or _PORT
    addresses: Iterable[str] = decoded.external_addresses
    if by_node_port(decoded):
        found = (each.node_port for each in decoded.spec.ports if each.port == port)
        port = next(found, 0)
        wanted = _selector(decoded, network)
        addresses = (
            address
            for node in nodes()
            if wanted is not None and labels_match(wanted, node.labels)
            for address in node.addresses
        )
    if not port:
        return ()
    return tuple(
        NetworkGateway(network, address, port, cluster_id) for address in dict.fromkeys(addresses)
    )


def gateway_doubts(decoded: CoreService) -> str:
    """Why a gateway is not the one that its author had in mind, or ""."""
    if not opens_network(decoded):
        return ""
    doubts = []
    port = _told_port(decoded)
    if port is None:
        told = decoded.metadata.labels[PORT_LABEL]
        found = f"expected a port from 1 to 65535, found {told!r}; taken for {_PORT}"
        doubts.append(f'metadata.labels["{PORT_LABEL}"]: {found}')
    if by_node_port(decoded):
        port = port or _PORT
        if not any(each.port == port and each.node_port for each in decoded.spec.ports):
            doubts.append(f"no node is a way into its network: it has no node port for port {port}")
        if _selector(decoded, "") is None:
            expected = "expected a JSON object of labels; no node is taken"
            doubts.append(f'metadata.annotations["{NODE_SELECTOR}"]: {expected}')
    return "; ".join(doubts)


def _told_port(decoded: CoreService) -> int | None:
    """The port that the label names; 0 without a label, None if that is no port."""
    told = decoded.metadata.labels.get(PORT_LABEL)
    if told is None:
        return 0
    return int(told) if told.isdecimal() and 0 < int(told[:9]) < 65536 else None


def _selector(decoded: CoreService, network: str) -> Labels | None:
    """The nodes that the Service names, else those that are labelled with its network."""
    told = decoded.metadata.annotations.get(NODE_SELECTOR)
    if told is None:
        return labels_of({NETWORK_LABEL: network})
    try:
        wanted = json.loads(told or "{}")
    except ValueError:
        return None
    if not isinstance(wanted, dict):
        return None
    return labels_of({str(key): str(value) for key, value in wanted.items()})
