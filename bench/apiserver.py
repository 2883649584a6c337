"""A real API server as the input: filled with the mesh, then written to over one connection.

The servers are those of the tests: an etcd and a kube-apiserver, without controllers or nodes.
"""

import asyncio
import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pytest

from bench.child import BenchError
from bench.mesh import PORTS, Mesh, address
from tests.support.servers.etcd import EtcdServer
from tests.support.servers.kube_apiserver import (
    ADMIN_TOKEN,
    KubeApiserver,
    KubeClient,
    endpoint_slice,
    object_path,
    service,
)

AT_ONCE: Final = 32
ZONES: Final = 3
_PORTS: Final = {port.name: port.number for port in PORTS}


class ApiServer:
    """A cluster that has the mesh, and pods beside it."""

    def __init__(self, folder: Path) -> None:
        self._etcd: Final = EtcdServer(folder / "etcd")
        self.kube: Final = KubeApiserver(folder / "kube", self._etcd)
        self._http: Final = http.client.HTTPSConnection(
            "127.0.0.1", self.kube.port, timeout=30, context=self.kube.authority.client_context()
        )

    def __enter__(self) -> Self:
        """Start both. Raises BenchError where a program is missing."""
        try:
            self._etcd.start_now()
            self.kube.start_now()
        except (pytest.skip.Exception, pytest.fail.Exception) as error:
            raise BenchError(str(error)) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End both."""
        self._http.close()
        self.kube.kill()
        self._etcd.kill()

    def fill(self, mesh: Mesh, pods: int = 0) -> None:
        """Write the mesh: nodes, namespaces, services, their slices, and so many pods."""
        asyncio.run(self._fill(mesh, pods))

    async def _fill(self, mesh: Mesh, pods: int) -> None:
        async with self.kube.client() as client:
            for name in sorted({mesh.namespace(number) for number in range(mesh.services)}):
                await client.create_namespace(name)
            await _write(client, (_node(zone) for zone in range(ZONES)))
            await _write(client, (_service(mesh, number) for number in range(mesh.services)))
            await _write(client, (_slice(mesh, number) for number in range(mesh.services)))
            await _write(client, (_pod(mesh, number) for number in range(pods)))

    def write(self, mesh: Mesh, first_address: str) -> int:
        """Put an endpoint of the first service elsewhere; returns when the request was sent."""
        document = _slice(mesh, 0, first_address)
        self._request("GET", "/readyz")  # the connection is open before the clock starts
        written = time.monotonic_ns()
        changed = {"endpoints": document["endpoints"]}
        self._request("PATCH", object_path(document), changed)
        return written

    def list_everything(self) -> int:
        """Read what an adapter reads of the mesh, and do nothing with it; returns the bytes."""
        paths = ("/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices", "/api/v1/pods")
        return sum(len(page) for path in paths for page in self._pages(path))

    def _pages(self, path: str) -> Iterator[bytes]:
        more = ""
        while True:
            page = self._request("GET", f"{path}?limit=500&continue={more}")
            yield page
            # The token is in the list's metadata, at the very beginning.
            more = str(json.loads(page)["metadata"].get("continue", ""))
            if not more:
                return

    def _request(self, method: str, path: str, body: object = None) -> bytes:
        headers = {
            "Authorization": f"Bearer {ADMIN_TOKEN}",
            "Content-Type": "application/merge-patch+json",
        }
        data = None if body is None else json.dumps(body)
        self._http.request(method, path, data, headers)
        answer = self._http.getresponse()
        text = answer.read()
        if answer.status != http.HTTPStatus.OK:
            message = f"{method} {path}: {answer.status} {text[:200]!r}"
            raise BenchError(message)
        return text


async def _write(client: KubeClient, documents: Iterator[dict[str, Any]]) -> None:
    """Create all of them, some at once."""

    async def work() -> None:
        for document in documents:
            await client.apply(document)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())


def _name(mesh: Mesh, number: int) -> str:
    return mesh.host(number).partition(".")[0]


def _node(zone: int) -> dict[str, Any]:
    labels = {
        "topology.kubernetes.io/region": "r1",
        "topology.kubernetes.io/zone": f"z{zone}",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"node{zone}", "labels": labels},
    }


def _service(mesh: Mesh, number: int) -> dict[str, Any]:
    name = _name(mesh, number)
    return service(name, mesh.namespace(number), _PORTS, selector={"app": name})


def _slice(mesh: Mesh, number: int, first_address: str = "") -> dict[str, Any]:
    addresses = [address(number, index) for index in range(mesh.endpoints)]
    if first_address:
        addresses[0] = first_address
    document = endpoint_slice(_name(mesh, number), mesh.namespace(number), _PORTS, addresses)
    for index, endpoint in enumerate(document["endpoints"]):
        endpoint |= {"zone": f"z{index % ZONES}", "nodeName": f"node{index % ZONES}"}
    return document


def _pod(mesh: Mesh, number: int) -> dict[str, Any]:
    """A pod behind one of the services' endpoints."""
    of, index = number % mesh.services, number // mesh.services % mesh.endpoints
    name = _name(mesh, of)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{name}-{number}",
            "namespace": mesh.namespace(of),
            "labels": {"app": name, "version": "v1", "pod-template-hash": f"{number:010x}"},
        },
        "spec": {
            "nodeName": f"node{index % ZONES}",
            "containers": [{"name": "app", "image": "app:1"}],
        },
        "status": {"phase": "Running", "podIP": address(of, index)},
    }
