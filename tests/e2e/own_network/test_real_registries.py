"""One host out of real clusters, a real Consul and files, as one Envoy serves it."""

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.http_client import HttpClient
from tests.support.poll import eventually
from tests.support.port import Ports
from tests.support.servers.backend import HttpBackend
from tests.support.servers.consul import ConsulServer
from tests.support.servers.envoy import Envoy, Node, start_envoy
from tests.support.servers.kube_apiserver import (
    KubeApiserver,
    KubeClient,
    endpoint_slice,
    service,
)
from tests.support.shared_mesh import (
    SharedMesh,
    counted,
    ejecting,
    running_shared_mesh,
    wait_endpoints,
)
from tests.support.traffic import Traffic

pytestmark = [pytest.mark.e2e, pytest.mark.servers, pytest.mark.slow]

NODE: Final = Node(locality="eu/eu-1/a", metadata={"CLUSTER_ID": "east", "NETWORK": "net1"})
FILES: Final = {"name": "files", "type": "files", "path": "files"}
ADDRESSES: Final = count(2)
NAMESPACES: Final = count(1)


class Case:
    """A namespace of the mesh with one host in it, `reviews`, and what serves it."""

    def __init__(self, folder: Path, stack: AsyncExitStack, ports: Ports) -> None:
        self.folder: Final = folder
        self.namespace: Final = f"shop-{next(NAMESPACES)}"
        self.host: Final = f"reviews.{self.namespace}.svc.cluster.local"
        self.port: Final = ports.reserve()
        self.registries: Final[list[dict[str, Any]]] = []
        self.backends: Final[list[HttpBackend]] = []
        self._stack: Final = stack
        self._mesh: SharedMesh | None = None
        self._envoy: Envoy | None = None
        self._client: HttpClient | None = None

    @property
    def mesh(self) -> SharedMesh:
        """The running daemon."""
        assert self._mesh is not None
        return self._mesh

    async def backend(self, name: str, port: int = 0) -> HttpBackend:
        """A backend at an address of its own."""
        address = f"10.1.0.{next(ADDRESSES)}"
        made = await self._stack.enter_async_context(HttpBackend(name, address=address, port=port))
        self.backends.append(made)
        return made

    async def cluster(self, name: str, server: KubeApiserver, **more: Any) -> KubeClient:
        """A Kubernetes registry of that name; returns a client of it, with the namespace there."""
        file = server.write_kubeconfig(self.folder / f"{name}.kubeconfig")
        entry = {"name": name, "type": "kubernetes", "kubeconfig": str(file)}
        self.registries.append(entry | {"namespaces": [self.namespace]} | more)
        client = await self._stack.enter_async_context(server.client())
        await client.create_namespace(self.namespace)
        return client

    async def serve(self, client: KubeClient, *backends: HttpBackend) -> None:
        """Have a cluster serve the host by these."""
        slices = [
            endpoint_slice(
                "reviews", self.namespace, {"http": each.port}, [each.address], suffix=each.name
            )
            for each in backends
        ]
        await client.apply(service("reviews", self.namespace, {"http": self.port}), *slices)

    async def run(self, *rules: Mapping[str, Any], **sections: Any) -> None:
        """Start the daemon and the Envoy."""
        self.registries.append(FILES)
        if rules:
            (self.folder / "files").mkdir()
        self._mesh = await self._stack.enter_async_context(
            running_shared_mesh(self.folder, registries=self.registries, **sections)
        )
        if rules:
            self.mesh.write("files", "rules.yaml", *rules)
        node = Node(
            id=f"vm.{self.namespace}",
            namespace=self.namespace,
            locality=NODE.locality,
            metadata=NODE.metadata,
        )
        self._envoy = await start_envoy(
            self.mesh.daemon.grpc, self.folder / "envoy", node=node, workers=1
        )
        self._stack.push_async_callback(self._envoy.stop)
        self._client = await self._stack.enter_async_context(HttpClient())

    def set_up(self, **sections: Any) -> None:
        """Change the settings."""
        self.mesh.set_up(registries=self.registries, **sections)

    async def expect(self, *tiers: Mapping[HttpBackend, int], host: str = "") -> None:
        """Return once Envoy has these, by priority, with their weights."""
        assert self._envoy is not None
        expected = {
            backend.at: (priority, weight)
            for priority, tier in enumerate(tiers)
            for backend, weight in tier.items()
        }
        await wait_endpoints(self._envoy, host or self.host, self.port, expected)

    async def ask(self, times: int = 1, *, host: str = "") -> dict[str, int]:
        """Who answers so many requests, each with 200."""
        assert self._client is not None
        counted(self.backends)
        for _ in range(times):
            url = f"http://127.0.0.1:{self.port}/"
            answer = await self._client.send(url, host=host or self.host)
            assert answer.status == 200, answer
        return dict(counted(self.backends))


@pytest.fixture
def ports() -> Iterator[Ports]:
    """Ports of this test."""
    reserved = Ports()
    yield reserved
    reserved.close()


@pytest.fixture
async def case(tmp_path: Path, ports: Ports) -> AsyncIterator[Case]:
    """A case that nothing runs of yet."""
    async with AsyncExitStack() as stack:
        yield Case(tmp_path, stack, ports)


FindCluster = Callable[[str], KubeApiserver]


async def test_two_clusters_fail_over(case: Case, kube_cluster: FindCluster) -> None:
    """The cluster in the own region first. When its pods die the other takes over, and when its API
    server dies nothing happens at all.
    """
    near, far = await case.backend("near"), await case.backend("far")
    east = await case.cluster("east", kube_cluster("east"), locality="eu/eu-1/a")
    west = await case.cluster("west", kube_cluster("west"), locality="us/us-1/a")
    await case.serve(east, near)
    await case.serve(west, far)
    await case.run(ejecting(case.host, case.namespace))
    await case.expect({near: 1}, {far: 1})
    await eventually(case.ask, seconds=15)
    assert await case.ask(20) == {"near": 20, "far": 0}

    async with Traffic(case.port, case.host) as traffic:
        kube_cluster("east").kill()
        await wait_state(case, "east", "degraded")
        assert (await case.ask(20))["far"] == 0
    assert traffic.failures == []
    await kube_cluster("east").start()

    await near.stop()
    await eventually(case.ask, lambda seen: seen["far"] == 1, seconds=15)
    async with Traffic(case.port, case.host) as traffic:
        assert (await case.ask(50))["near"] == 0
    assert traffic.failures == []


async def test_virtual_ips_are_those_of_the_proxys_cluster(
    case: Case, kube_cluster: FindCluster
) -> None:
    """The service is asked for by the address that the own cluster gave it; the other cluster gave
    that very address to another service.
    """
    ours, theirs = await case.backend("ours"), await case.backend("theirs")
    east = await case.cluster("east", kube_cluster("east"))
    west = await case.cluster("west", kube_cluster("west"))
    await case.serve(east, ours)
    found = await east.get(service("reviews", case.namespace, {}))
    address = found["spec"]["clusterIP"]
    foreign = service("foreign", case.namespace, {"http": case.port}, clusterIP=address)
    slices = endpoint_slice("foreign", case.namespace, {"http": theirs.port}, [theirs.address])
    await west.apply(foreign, slices)
    await case.run()
    await case.expect({ours: 1})
    await case.expect({theirs: 1}, host=case.host.replace("reviews", "foreign"))

    await eventually(lambda: case.ask(host=address), seconds=15)
    assert await case.ask(10, host=f"{address}:{case.port}") == {"ours": 10, "theirs": 0}
    assert (await case.ask(10, host=case.host.replace("reviews", "foreign")))["theirs"] == 10


async def test_another_network_is_reached_through_its_gateway_service(
    case: Case, kube_cluster: FindCluster
) -> None:
    """A Service labelled with its network, by the address that its load balancer has."""
    near, hidden = await case.backend("near"), await case.backend("hidden")
    gateway = await case.backend("gateway", port=15443)
    east = await case.cluster("east", kube_cluster("east"), network="net1")
    west = await case.cluster("west", kube_cluster("west"), network="net2")
    await case.serve(east, near)
    await case.serve(west, hidden)
    await case.run()
    await case.expect({near: 1, hidden: 1})

    door = service(
        "gateway",
        case.namespace,
        {"tls": 15443},
        labels={"topology.istio.io/network": "net2"},
        type="LoadBalancer",
    )
    balancer = {"loadBalancer": {"ingress": [{"ip": gateway.address}]}}
    await west.apply(door | {"status": balancer})
    await case.expect({near: 1, gateway: 1})
    seen = await case.ask(40)
    assert abs(seen["gateway"] - 20) < 8, seen
    await west.delete(door)
    await case.expect({near: 1, hidden: 1})


async def test_a_vm_joins_a_kubernetes_service_and_a_pod_joins_a_service_of_vms(
    case: Case, kube_cluster: FindCluster
) -> None:
    """Selectors pick pods and machines alike, whichever registry tells of them."""
    pod, machine = await case.backend("pod"), await case.backend("machine")
    if pod.port != machine.port:
        await machine.stop()
        machine.port = pod.port
        await machine.start()
    east = await case.cluster("east", kube_cluster("east"))
    labels = {"app": "reviews"}
    selecting = service("reviews", case.namespace, {"http": case.port}, selector=labels)
    selecting["spec"]["ports"][0]["targetPort"] = pod.port
    slices = endpoint_slice("reviews", case.namespace, {"http": pod.port}, [pod.address])
    container = {"name": "main", "image": "main"}
    made = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pod", "namespace": case.namespace, "labels": labels},
        "spec": {"containers": [container], "nodeName": "node"},
        "status": {
            "phase": "Running",
            "podIP": pod.address,
            "podIPs": [{"ip": pod.address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
    await east.apply(selecting, slices, made)
    ports = [{"number": case.port, "name": "http", "protocol": "HTTP", "targetPort": pod.port}]
    entry = {
        "hosts": ["vms.example.com"],
        "ports": ports,
        "resolution": "STATIC",
        "workloadSelector": {"labels": labels},
    }
    await case.run(
        _rule("WorkloadEntry", case, {"address": machine.address, "labels": labels, "weight": 2}),
        _rule("ServiceEntry", case, entry),
    )

    for host in (case.host, "vms.example.com"):
        await case.expect({pod: 1, machine: 2}, host=host)
        await eventually(lambda name=host: case.ask(host=name), seconds=15)  # type: ignore[misc]
        seen = await case.ask(60, host=host)
        assert abs(seen["machine"] - 40) < 12, seen


async def test_a_service_moves_from_consul_to_kubernetes(
    case: Case, kube_cluster: FindCluster, consul: ConsulServer
) -> None:
    """Weight by weight, at the backends and without a failed request. When one side dies the other
    takes over; when Consul itself dies, nothing happens.
    """
    old, new = await case.backend("old"), await case.backend("new")
    east = await case.cluster("east", kube_cluster("east"))
    await case.serve(east, new)
    name = "reviews"
    case.registries.append(
        {
            "name": "consul",
            "type": "consul",
            "address": consul.address,
            "services": [name],
            "host_template": f"{{service}}.{case.namespace}.svc.cluster.local",
            "namespace": case.namespace,
            "protocol": "HTTP",
            "mapping": {"ports": {"policy": "fixed", "number": case.port}},
        }
    )

    def share(percent: int) -> dict[str, Any]:
        weights = {"consul": percent, "east": 100 - percent}
        return {"merge": [{"hosts": [case.host], "policy": "weights", "weights": weights}]}

    async with consul.client() as client:
        await client.register(name, name, old.address, old.port)
    await case.run(ejecting(case.host, case.namespace), **share(90))
    await case.expect({old: 9, new: 1})
    await eventually(case.ask, seconds=15)
    seen = await case.ask(200)
    assert abs(seen["old"] - 180) < 16, seen

    async with Traffic(case.port, case.host, clients=2) as traffic:
        case.set_up(**share(50))
        await case.expect({old: 1, new: 1})
        seen = await case.ask(100)
        assert abs(seen["old"] - seen["new"]) < 40, seen
    assert traffic.failures == []

    consul.kill()
    await wait_state(case, "consul", "degraded")
    assert (await case.ask(20))["old"] > 0
    await old.stop()
    await eventually(lambda: case.ask(20), seconds=20)
    async with Traffic(case.port, case.host, clients=2) as traffic:
        assert (await case.ask(50))["old"] == 0
    assert traffic.failures == []

    await old.start()
    await consul.start()
    await wait_state(case, "consul", "synced")
    async with Traffic(case.port, case.host, clients=2) as traffic:
        case.set_up(**share(0))
        await case.expect({new: 1})
        assert (await case.ask(50))["old"] == 0
    assert traffic.failures == []


async def wait_state(case: Case, registry: str, state: str) -> None:
    """Return once the daemon says that a registry is like this."""

    async def found() -> str:
        answer = json.loads(await case.mesh.daemon.get("/debug/registryz?services=false"))
        [row] = [each for each in answer["registries"] if each["name"] == registry]
        return str(row["state"])

    await eventually(found, lambda seen: seen == state, seconds=20, hint=f"not {state}")


def _rule(kind: str, case: Case, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": {"name": kind.lower(), "namespace": case.namespace},
        "spec": dict(spec),
    }
