"""Kubernetes' Pod: a workload with an address, labels and an identity."""

from msgspec import Struct, field

from aggregator.model.service import Health, Labels, Locality, labels_of
from config.core.metadata import ObjectMeta
from config.core.place import NETWORK_LABEL, labelled_locality

_ENDED = frozenset({"Succeeded", "Failed"})


class PodSpec(Struct, frozen=True, rename="camel"):
    """What was asked for."""

    service_account_name: str = ""
    node_name: str = ""
    hostname: str = ""
    subdomain: str = ""
    host_network: bool = False


class PodAddress(Struct, frozen=True):
    """One address; a pod has one of each family."""

    ip: str = ""


class PodCondition(Struct, frozen=True):
    """Whether something holds."""

    type: str = ""
    status: str = ""


class PodStatus(Struct, frozen=True, rename="camel"):
    """What became of it."""

    phase: str = ""
    pod_ip: str = field(default="", name="podIP")
    pod_ips: tuple[PodAddress, ...] = field(default=(), name="podIPs")
    conditions: tuple[PodCondition, ...] = ()


class CorePod(Struct, frozen=True, rename="camel"):
    """A Pod; what this control plane has no use for is left out."""

    metadata: ObjectMeta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class Pod(Struct, frozen=True):
    """What a pod says of itself, which is not all: its node may tell where it is.

    `locality` and `network` are those of its labels. Pods on the network of their host share its
    address with others.
    """

    namespace: str
    name: str
    addresses: tuple[str, ...]
    labels: Labels
    node: str
    service_account: str
    hostname: str
    locality: Locality
    network: str
    health: Health
    on_host: bool

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"


def pod_of(decoded: CorePod) -> Pod | None:
    """The workload that it is; None while it has no address, or once it has ended."""
    metadata, spec, status = decoded.metadata, decoded.spec, decoded.status
    found = dict.fromkeys((status.pod_ip, *(each.ip for each in status.pod_ips)))
    addresses = tuple(address for address in found if address)
    if not addresses or status.phase in _ENDED:
        return None
    return Pod(
        metadata.namespace,
        metadata.name,
        addresses,
        labels_of(metadata.labels),
        spec.node_name,
        spec.service_account_name,
        spec.hostname if spec.subdomain else "",
        labelled_locality(metadata.labels),
        metadata.labels.get(NETWORK_LABEL, ""),
        _health(metadata, status),
        spec.host_network,
    )


def _health(metadata: ObjectMeta, status: PodStatus) -> Health:
    ready = any(each.type == "Ready" and each.status == "True" for each in status.conditions)
    if metadata.deletion_timestamp:
        return Health.DRAINING if ready else Health.TERMINATING
    return Health.READY if ready else Health.NOT_READY
