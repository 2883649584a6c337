"""A real API server as one of many clusters, with accounts that may read everything in it."""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

from tests.support.servers.kube_apiserver import (
    KubeApiserver,
    KubeClient,
    endpoint_slice,
    service,
)

ACCOUNTS: Final = "mesh-test"
_NUMBERS: Final = count(1)


class RemoteCluster:
    """One test's view of an API server: a namespace of its own, and accounts that it can revoke."""

    def __init__(self, server: KubeApiserver, client: KubeClient, namespace: str) -> None:
        self.server: Final = server
        self.client: Final = client
        self.namespace: Final = namespace

    async def open(self) -> None:
        """Create the namespaces."""
        for name in (ACCOUNTS, self.namespace):
            await self.client.create_namespace(name)

    async def serve(self, name: str, *addresses: str, port: int = 80) -> None:
        """Have a service with these endpoints, or others than before."""
        await self.client.apply(
            service(name, self.namespace, {"http": port}),
            endpoint_slice(name, self.namespace, {"http": 8080}, addresses),
        )

    async def move(self, name: str, *addresses: str) -> None:
        """Give a service other endpoints."""
        await self.client.apply(endpoint_slice(name, self.namespace, {"http": 8080}, addresses))

    async def account(self) -> "Account":
        """Somebody new who may read all."""
        name = f"reader-{next(_NUMBERS)}"
        token = await self.client.token_of(ACCOUNTS, name)
        await self.client.apply(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": f"{ACCOUNTS}-{name}"},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": "cluster-admin",
                },
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": ACCOUNTS}],
            }
        )
        return Account(self, name, token)

    async def keep_secret(self, name: str, data: Mapping[str, str], **labels: str) -> None:
        """Have a secret as Istio's tool writes it."""
        await self.client.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {
                    "name": name,
                    "namespace": self.namespace,
                    "labels": {"istio/multiCluster": "true", **labels},
                },
                "stringData": dict(data),
            }
        )

    async def delete_secret(self, name: str) -> None:
        """Delete a secret."""
        metadata = {"name": name, "namespace": self.namespace}
        await self.client.delete({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})


class Account:
    """A ServiceAccount with a token."""

    def __init__(self, cluster: RemoteCluster, name: str, token: str) -> None:
        self.token: Final = token
        self._cluster: Final = cluster
        self._name: Final = name

    def kubeconfig(self, url: str = "") -> str:
        """A kubeconfig of the account; *url* may lead through a proxy."""
        return self._cluster.server.kubeconfig(self.token, url=url)

    async def revoke(self) -> None:
        """Delete the account: from now on new requests with its token are refused."""
        metadata = {"name": self._name, "namespace": ACCOUNTS}
        await self._cluster.client.delete(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
        )


async def write(folder: Path, cluster_id: str, kubeconfig: str) -> None:
    """Put a kubeconfig into a folder, all of it at once."""

    def put() -> None:
        folder.mkdir(exist_ok=True)
        aside = folder / f".{cluster_id}"
        aside.write_text(kubeconfig)
        aside.rename(folder / f"{cluster_id}.yaml")

    await asyncio.to_thread(put)


def found_in(folder: str, **keys: Any) -> dict[str, Any]:
    """The settings of a registry that finds clusters in a folder."""
    return {"name": "more", "type": "remote_clusters", "kubeconfigs": folder, **keys}


def ids(cluster_id: str, addresses: Sequence[str]) -> list[str]:
    """Endpoints as `SettingsMesh.places` writes them."""
    return sorted(f"{cluster_id}/{address}" for address in addresses)
