"""Our model of a connected client, read from the xDS `Node` message."""

from collections.abc import Mapping

from msgspec import Struct

from aggregator.model.service import NOWHERE, Labels, Locality


class Proxy(Struct, frozen=True, kw_only=True):
    """What a client says about itself; generators see it only through their view.

    A node id of the form ``type~ip~id~domain`` is Istio's; any other one is a plain Envoy, whose
    `kind` is ``sidecar`` and whose namespace and domain come from its metadata or the defaults.
    """

    id: str
    kind: str = "sidecar"  # sidecar, router, waypoint, ztunnel, agentgateway
    istio_id: bool = False
    addresses: tuple[str, ...] = ()
    namespace: str = "default"
    domain: str = ""  # DNS domain, such as "shop.svc.cluster.local"
    cluster: str = ""
    cluster_id: str = ""
    network: str = ""
    locality: Locality = NOWHERE
    labels: Labels = ()
    node_name: str = ""
    generator: str = ""  # metadata GENERATOR, "grpc" for gRPC's own clients
    interception_mode: str = ""  # metadata INTERCEPTION_MODE, "NONE" for explicit ports
    istio_version: str = ""
    user_agent: str = ""
    user_agent_version: str = ""
    extensions: frozenset[str] = frozenset()
    drain_seconds: float = 600.0
    metadata: Mapping[str, object] = {}
