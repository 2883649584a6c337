"""Kubernetes for the suite: Services and EndpointSlices of a namespace, by a ServiceAccount."""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from tests.contract.server_driver import ServerDriver
from tests.support.certificate import Authority
from tests.support.servers.etcd import EtcdServer
from tests.support.servers.kube_apiserver import (
    KubeApiserver,
    KubeClient,
    endpoint_slice,
    service,
)

NAMESPACE = "contract"
PORTS = {"http": 80}
BINDING = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "mesh"},
    "roleRef": {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": "cluster-admin",
    },
    "subjects": [{"kind": "ServiceAccount", "name": "mesh", "namespace": NAMESPACE}],
}
ACCOUNT = {
    "apiVersion": "v1",
    "kind": "ServiceAccount",
    "metadata": {"name": "mesh", "namespace": NAMESPACE},
}
AT_ONCE = 32


class KubernetesDriver(ServerDriver):
    """An API server with an etcd of its own, which goes with it when it loses its memory."""

    type = "kubernetes"
    # Each kind has a watch of its own.
    asks_per_second = 60.0

    def __init__(self, folder: Path, *, secure: bool = False) -> None:
        self._etcd = EtcdServer(folder / "etcd")
        self._api = KubeApiserver(folder / "kube", self._etcd)
        super().__init__(folder, self._api, self._etcd, self._api.port, secure=secure)
        self._token_file = folder / "token"
        self._numbers = count()

    @property
    def authority(self) -> Authority:
        return self._api.authority

    @property
    def ignored(self) -> frozenset[str]:
        return frozenset({"kubernetes.default.svc.cluster.local"})

    def entry(self, port: int) -> dict[str, Any]:
        path = self.folder / f"kubeconfig-{port}"
        config = yaml.safe_load(self._api.kubeconfig(url=f"https://127.0.0.1:{port}"))
        config["users"][0]["user"] = {"tokenFile": str(self._token_file)}
        path.write_text(yaml.safe_dump(config))
        return {"type": "kubernetes", "kubeconfig": str(path)}

    def host(self, service: str) -> str:
        return f"{service}.{NAMESPACE}.svc.cluster.local"

    async def start(self) -> None:
        if not self._etcd.running:
            await self._etcd.start()
        await super().start()
        if not self._token_file.exists():
            async with self._api.client() as client:
                await client.create_namespace(NAMESPACE)
                await client.apply(BINDING)
            await self.permit()

    async def wipe(self) -> None:
        await self._etcd.stop()
        await super().wipe()
        # The account is gone with the rest.
        self._token_file.unlink()

    async def back_up(self) -> None:
        await self._etcd.stop()
        await super().back_up()

    async def restore(self) -> None:
        await self._etcd.stop()
        await super().restore()

    async def aclose(self) -> None:
        await super().aclose()
        self._etcd.kill()

    async def put(self, service: str, addresses: Sequence[str]) -> None:
        await self.put_all({service: addresses})

    async def put_all(self, services: Mapping[str, Sequence[str]]) -> None:
        gate = asyncio.Semaphore(AT_ONCE)
        async with self._api.client() as client:

            async def put(service: str, addresses: Sequence[str]) -> None:
                async with gate:
                    await self._put(client, service, addresses)

            await asyncio.gather(*(put(*each) for each in services.items()))

    async def _put(self, client: KubeClient, name: str, addresses: Sequence[str]) -> None:
        if name not in self._known:
            # The server takes longer to choose an address, the more it has given out.
            number = next(self._numbers)
            address = f"10.{97 + number // 62_500}.{number // 250 % 250}.{number % 250 + 1}"
            await client.apply(service(name, NAMESPACE, PORTS, clusterIP=address))
        await client.apply(endpoint_slice(name, NAMESPACE, PORTS, addresses))
        self._known[name] = set(addresses)

    async def remove(self, service_name: str) -> None:
        slices = endpoint_slice(service_name, NAMESPACE, PORTS, [])
        async with self._api.client() as client:
            await client.delete(service(service_name, NAMESPACE, PORTS), slices)
        del self._known[service_name]

    async def revoke(self) -> None:
        async with self._api.client() as client:
            await client.delete(ACCOUNT)

    async def permit(self) -> None:
        async with self._api.client() as client:
            self._token_file.write_text(await client.token_of(NAMESPACE, "mesh"))

    def _issue(self, *, expired: bool) -> None:
        names = ["127.0.0.1", "kubernetes"]
        self.authority.issue("localhost", names, expired=expired)
