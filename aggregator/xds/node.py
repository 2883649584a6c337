"""Reads the `Node` message into our model of the client."""

from collections.abc import Mapping
from typing import Any, Final

from envoy.config.core.v3 import base_pb2
from google.protobuf.json_format import MessageToDict

from aggregator.model.errors import StreamError
from aggregator.model.proxy import Proxy
from aggregator.model.service import Locality, labels_of
from config.duration import parse_duration

KINDS: Final = frozenset({"sidecar", "router", "waypoint", "ztunnel", "agentgateway"})
ISTIO_DRAIN_SECONDS: Final = 45.0
ENVOY_DRAIN_SECONDS: Final = 600.0
LONGEST_ID: Final = 1024
"""Of a node's id, which every line of the log about it repeats."""


def decode_node(node: base_pb2.Node, domain_suffix: str, istio_drain: float) -> Proxy:
    """Take Istio's node ids (``type~ip~id~domain``) and metadata keys; any other id is a plain
    Envoy.

    Metadata that has another type than Istio gives it is ignored, not refused. *istio_drain* is the
    mesh's drain time. Raises StreamError for metadata that is no JSON, and for an endless id.
    """
    if len(node.id) > LONGEST_ID:
        message = f"the id of a node has at most {LONGEST_ID} characters, found {len(node.id)}"
        raise StreamError(message)
    metadata = _metadata(node)
    parts = node.id.split("~")
    istio = len(parts) == 4 and parts[0] in KINDS
    kind, address, name, domain = parts if istio else ("sidecar", "", "", "")
    in_name = name.rpartition(".")[2] if "." in name else ""
    namespace = _text(metadata, "NAMESPACE") or in_name or "default"
    labels = {
        key: value for key, value in _mapping(metadata, "LABELS").items() if isinstance(value, str)
    }
    addresses = [each for each in _text(metadata, "INSTANCE_IPS").split(",") if each]
    locality = Locality.parse(
        "/".join((node.locality.region, node.locality.zone, node.locality.sub_zone))
    )
    by_label = labels.get("topology.istio.io/locality") or labels.get("istio-locality")
    return Proxy(
        id=node.id,
        kind=kind,
        istio_id=istio,
        addresses=tuple(addresses or ([address] if address else ())),
        namespace=namespace,
        domain=domain or f"{namespace}.svc.{domain_suffix}",
        cluster=node.cluster,
        cluster_id=_text(metadata, "CLUSTER_ID"),
        network=_text(metadata, "NETWORK") or labels.get("topology.istio.io/network", ""),
        locality=Locality.parse(by_label.replace(".", "/")) if by_label else locality,
        labels=labels_of(labels),
        node_name=_text(metadata, "NODE_NAME"),
        generator=_text(metadata, "GENERATOR"),
        interception_mode=_text(metadata, "INTERCEPTION_MODE"),
        istio_version=_text(metadata, "ISTIO_VERSION"),
        user_agent=node.user_agent_name,
        user_agent_version=_version(node),
        extensions=frozenset(each.name for each in node.extensions),
        drain_seconds=_drain(metadata, istio_drain if istio else ENVOY_DRAIN_SECONDS),
        metadata=metadata,
    )


def _metadata(node: base_pb2.Node) -> dict[str, Any]:
    try:
        metadata: dict[str, Any] = MessageToDict(node.metadata)
    except ValueError as error:  # numbers that JSON does not have
        message = f"the metadata of node {node.id!r} cannot be read: {error}"
        raise StreamError(message) from error
    return metadata


def _text(metadata: Mapping[str, Any], key: str) -> str:
    value = metadata.get(key)
    return value if isinstance(value, str) else ""


def _mapping(metadata: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = metadata.get(key)
    return value if isinstance(value, dict) else {}


def _drain(metadata: Mapping[str, Any], default: float) -> float:
    text = _text(_mapping(metadata, "PROXY_CONFIG"), "drainDuration")
    try:
        return float(parse_duration(text)) if text else default
    except ValueError:
        return default


def _version(node: base_pb2.Node) -> str:
    version = node.user_agent_build_version.version
    if node.HasField("user_agent_build_version"):
        return f"{version.major_number}.{version.minor_number}.{version.patch}"
    return node.user_agent_version
