"""A real aggregate that a real API server feeds, and what is written to one."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

from adapters.kubernetes.adapter import KubernetesAdapter
from adapters.kubernetes.reflector import USUAL, Pace
from adapters.kubernetes.settings import KubernetesSettings
from aggregator.model.change import Change
from aggregator.model.errors import Origin
from aggregator.model.registry import AdapterSpec, RegistryContext
from aggregator.model.secret import Redacted
from aggregator.model.service import Endpoint, Service, ServiceKey
from aggregator.registry.aggregate import Aggregate
from aggregator.registry.settings import RegistrySettings
from aggregator.registry.status import RegistryState, RegistryStatus
from aggregator.registry.supervisor import Supervisor
from config.kind_table import kinds
from config.shape import decode_struct
from tests.support.poll import NotYetError, eventually
from tests.support.servers.kube_apiserver import KubeApiserver

NAME: Final = "east"
_NAMESPACES: Final = count(1)


def fresh_namespace() -> str:
    """A name that no other test uses."""
    return f"kube-{next(_NAMESPACES)}"


class KubeFollower:
    """An aggregate that a supervised adapter feeds."""

    def __init__(
        self, base: Path, kubeconfig: str, pace: Pace, context: Mapping[str, Any], fields: Any
    ) -> None:
        self.changes: Final[list[Change]] = []
        self.aggregate: Final = Aggregate(self.changes.extend, clock=time.monotonic)

        def create(made: RegistryContext, settings: KubernetesSettings) -> KubernetesAdapter:
            return KubernetesAdapter(made, settings, pace=pace, environment={})

        def load(_type: str, _origin: Origin) -> AdapterSpec:
            return AdapterSpec(
                "kubernetes", KubernetesSettings, create, is_cluster=True, longest_wait=0.5
            )

        self.supervisor: Final = Supervisor(self.aggregate, load_adapter=load)
        made = RegistryContext(
            name=NAME,
            cluster_id=NAME,
            base_dir=str(base),
            credential=Redacted(kubeconfig.encode()),
            **context,
        )
        settings = decode_struct(fields, KubernetesSettings, "", lambda _path: Origin("test"))
        self.supervisor.apply(
            [RegistrySettings(name=NAME, type="kubernetes", context=made, adapter=settings)]
        )

    def service(self, name: str, namespace: str) -> Service | None:
        """A service of the mesh."""
        return self.aggregate.service(_key(name, namespace))

    def endpoints(self, name: str, namespace: str) -> tuple[Endpoint, ...]:
        """Its endpoints."""
        return self.aggregate.endpoints(_key(name, namespace))

    def addresses(self, name: str, namespace: str) -> list[str]:
        """Where it is served."""
        return [each.address for each in self.endpoints(name, namespace)]

    def rules(self, namespace: str) -> list[str]:
        """The rules of a namespace."""
        keys = self.aggregate.config_keys()
        return sorted(str(key) for key in keys if key.namespace == namespace)

    def problems(self, about: str = "") -> list[str]:
        """What is wrong now, as far as the text has *about* in it."""
        found = [str(each) for told in self.aggregate.problems().values() for each in told]
        return sorted(each for each in found if about in each)

    @property
    def status(self) -> RegistryStatus:
        """How the registry does."""
        (status,) = self.supervisor.status()
        return status

    async def has(self, name: str, namespace: str, *addresses: str, seconds: float = 10.0) -> None:
        """Return once a service has just these endpoints."""
        try:
            await eventually(
                lambda: self.addresses(name, namespace),
                lambda found: found == sorted(addresses),
                seconds=seconds,
            )
        except NotYetError as error:
            error.add_note(f"{self.status} {self.problems()}")
            raise


@asynccontextmanager
async def following_kube(
    cluster: str | KubeApiserver,
    /,
    *,
    base: Path = Path(),
    pace: Pace = USUAL,
    synced: bool = True,
    context: Mapping[str, Any] | None = None,
    **fields: Any,
) -> AsyncIterator[KubeFollower]:
    """Follow a cluster until the block ends. It is a server or a kubeconfig; an empty one leaves it
    to the settings.
    """
    if isinstance(cluster, str):
        kubeconfig = cluster
    else:
        kubeconfig = await asyncio.to_thread(cluster.kubeconfig)
    follower = KubeFollower(base, kubeconfig, pace, context or {}, fields)
    task = asyncio.create_task(follower.supervisor.run())
    try:
        if synced:
            await eventually(
                lambda: follower.status,
                lambda found: found.state is RegistryState.SYNCED,
                seconds=20,
            )
        yield follower
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])


def pod(
    name: str,
    namespace: str,
    addresses: Sequence[str],
    *,
    labels: Mapping[str, str] | None = None,
    node: str = "",
    account: str = "",
    ready: bool = True,
    **spec: Any,
) -> dict[str, Any]:
    """A Pod that runs."""
    wanted = {"nodeName": node, "serviceAccountName": account}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels or {})},
        "spec": {
            "containers": [{"name": "main", "image": "registry/none"}],
            **{key: value for key, value in wanted.items() if value},
            **spec,
        },
        "status": {
            "phase": "Running",
            "podIP": addresses[0],
            "podIPs": [{"ip": each} for each in addresses],
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def node(name: str, labels: Mapping[str, str], *addresses: str) -> dict[str, Any]:
    """A Node with external addresses."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": dict(labels)},
        "status": {"addresses": [{"type": "ExternalIP", "address": each} for each in addresses]},
    }


def place(region: str, zone: str, subzone: str = "") -> dict[str, str]:
    """The labels by which a node says where it is."""
    extra = {"topology.istio.io/subzone": subzone} if subzone else {}
    return {
        "topology.kubernetes.io/region": region,
        "topology.kubernetes.io/zone": zone,
        **extra,
    }


def _key(name: str, namespace: str) -> ServiceKey:
    return ServiceKey(namespace, f"{name}.{namespace}.svc.cluster.local")


# Kinds are found by reading a folder, which the event loop must not do.
kinds()
