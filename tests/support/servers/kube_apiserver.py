"""A real kube-apiserver without controllers or nodes, and a client for what tests write.

Several of them share one etcd, each below a prefix of its own. It refuses loopback addresses in
EndpointSlices: use those of 10.0.0.0/8, which nobody has to answer.
"""

import base64
import csv
import http.client
import json
import ssl
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import aiohttp
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from msgspec import Struct

from tests.support.certificate import Authority
from tests.support.port import free_port
from tests.support.servers.build import KUBE_APISERVER
from tests.support.servers.etcd import EtcdServer
from tests.support.servers.process import Server, need

ADMIN_TOKEN: Final = "admin-token"
ADMINS: Final = "system:masters"
_PREFIXES: Final = count(1)


class User(Struct, frozen=True):
    """Somebody with a token, as the token file has him; what he may do is said by RBAC objects."""

    token: str
    name: str
    groups: Sequence[str] = ()


class KubeApiserver(Server):
    """An API server that keeps its port, its certificate and its place in etcd over restarts.

    `users` are read at each start; to revoke a token, take the user away and restart, or use the
    token of a ServiceAccount (`KubeClient.token_of`) and delete the account. *arguments* are added
    to the command at each start.

    A restart forgets the history of watches: one that goes on from a revision before the last
    change is answered with 410. `--watch-cache=false` gives the history to etcd, where
    `compact` shortens it.
    """

    seconds_to_start = 60.0

    def __init__(
        self,
        folder: Path,
        etcd: EtcdServer,
        *,
        name: str = "kube-apiserver",
        arguments: Sequence[str] = (),
    ) -> None:
        super().__init__(name, folder)
        self.port: Final = free_port()
        self.etcd: Final = etcd
        self.prefix: Final = f"/k{next(_PREFIXES)}-{name}"
        self.authority: Final = Authority(folder / "tls", "kubernetes")
        self.certificate: Final = self.authority.issue("localhost", ["127.0.0.1", "kubernetes"])
        self.users: Final = [User(ADMIN_TOKEN, "admin", [ADMINS])]
        self.arguments: Final = list(arguments)
        self._signing_key: Final = folder / "service-account.key"
        self._signing_key.write_bytes(_private_key())

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        """The certificate that clients have to trust."""
        return self.authority.ca

    def command(self) -> list[str]:
        """RBAC and tokens; nothing that a lone API server does not need."""
        flags = {
            "etcd-servers": self.etcd.url,
            "etcd-prefix": self.prefix,
            "bind-address": "127.0.0.1",
            "secure-port": str(self.port),
            "tls-cert-file": str(self.certificate.cert),
            "tls-private-key-file": str(self.certificate.key),
            "service-account-key-file": str(self._signing_key),
            "service-account-signing-key-file": str(self._signing_key),
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-cluster-ip-range": "10.96.0.0/14",
            "token-auth-file": str(self._write_users()),
            "authorization-mode": "RBAC",
            "disable-admission-plugins": "ServiceAccount",
            # It would list itself at an address that it refuses.
            "endpoint-reconciler-type": "none",
            "profiling": "false",
            "shutdown-delay-duration": "0s",
        }
        if self.etcd.authority is not None:
            flags["etcd-cafile"] = str(self.etcd.authority.ca)
        command = [need(KUBE_APISERVER), *(f"--{name}={value}" for name, value in flags.items())]
        return command + self.arguments

    def is_ready(self) -> bool:
        """Whether all that runs after its start has run: roles and namespaces are there."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=1, context=self.authority.client_context()
        )
        try:
            connection.request(
                "GET", "/readyz", headers={"Authorization": f"Bearer {self.users[0].token}"}
            )
            return connection.getresponse().status == 200
        except (http.client.HTTPException, ssl.SSLError):
            return False
        finally:
            connection.close()

    def kubeconfig(self, token: str = ADMIN_TOKEN, *, url: str = "", ca: Path | None = None) -> str:
        """A kubeconfig as text, with everything in it. *url* may lead through a proxy."""
        cluster = {
            "server": url or self.url,
            "certificate-authority-data": _encode(ca or self.ca),
        }
        return str(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": self.name, "cluster": cluster}],
                    "users": [{"name": "user", "user": {"token": token}}],
                    "contexts": [
                        {"name": self.name, "context": {"cluster": self.name, "user": "user"}}
                    ],
                    "current-context": self.name,
                }
            )
        )

    def write_kubeconfig(self, path: Path, token: str = ADMIN_TOKEN, *, url: str = "") -> Path:
        """`kubeconfig` in a file; returns its path."""
        path.write_text(self.kubeconfig(token, url=url))
        return path

    def client(self, token: str = ADMIN_TOKEN) -> "KubeClient":
        """A client; to be used as a context manager."""
        return KubeClient(self, token)

    def _write_users(self) -> Path:
        path = self.folder / "tokens.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            for user in self.users:
                writer.writerow([user.token, user.name, user.name, ",".join(user.groups)])
        return path


class KubeRefusedError(Exception):
    """The request that the API server answered with an error."""

    def __init__(self, what: str, status: int, text: str) -> None:
        super().__init__(f"{what}: {status} {text}")
        self.status: Final = status


class KubeClient:
    """What tests write. Objects are documents as `kubectl` takes them."""

    def __init__(self, server: KubeApiserver, token: str) -> None:
        self._server: Final = server
        self._http: Final = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=server.authority.client_context(), limit=32),
            headers={"Authorization": f"Bearer {token}"},
            timeout=aiohttp.ClientTimeout(total=30),
        )

    async def __aenter__(self) -> "KubeClient":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.close()

    async def apply(self, *documents: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Create each object, or replace the one that is there; its status too, if it has one."""
        return [await self._apply(document) for document in documents]

    async def apply_yaml(self, text: str) -> list[dict[str, Any]]:
        """`apply` for the documents of a YAML text."""
        return await self.apply(*(each for each in yaml.safe_load_all(text) if each))

    async def create_namespace(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """A namespace; no controller is there that would delete one again."""
        metadata = {"name": name, "labels": dict(labels or {})}
        await self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})

    async def patch(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Merge *document*, which names the object and has what changes, into the object."""
        return await self.call(
            "PATCH", object_path(document), document, content="application/merge-patch+json"
        )

    async def delete(self, *documents: Mapping[str, Any]) -> None:
        """Delete each object, at once; only its names matter."""
        for document in documents:
            await self.call("DELETE", object_path(document), {"gracePeriodSeconds": 0})

    async def get(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The object that *document* names, as it is now."""
        return await self.call("GET", object_path(document))

    async def token_of(self, namespace: str, account: str, *, seconds: int = 3600) -> str:
        """A token of a ServiceAccount, which is created if it is missing."""
        metadata = {"name": account, "namespace": namespace}
        document = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
        await self.apply(document)
        answer = await self.call(
            "POST", f"{object_path(document)}/token", {"spec": {"expirationSeconds": seconds}}
        )
        return str(answer["status"]["token"])

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        content: str = "application/json",
    ) -> dict[str, Any]:
        """Any request. Raises KubeRefusedError for an answer that is not 2xx."""
        data = None if body is None else json.dumps(body).encode()
        async with self._http.request(
            method, f"{self._server.url}{path}", data=data, headers={"Content-Type": content}
        ) as answer:
            text = await answer.text()
            if answer.status >= 300:
                raise KubeRefusedError(f"{method} {path}", answer.status, text)
        found = json.loads(text)
        assert isinstance(found, dict)
        return found

    async def _apply(self, document: Mapping[str, Any]) -> dict[str, Any]:
        path = object_path(document)
        try:
            found = await self.call("POST", path.rpartition("/")[0], document)
        except KubeRefusedError as error:
            if error.status != 409:
                raise
            old = await self.call("GET", path)
            version = old["metadata"]["resourceVersion"]
            metadata = {**document["metadata"], "resourceVersion": version}
            if document["kind"] == "Service" and "clusterIP" not in document["spec"]:
                ip = old["spec"].get("clusterIP")
                document = {**document, "spec": {**document["spec"], "clusterIP": ip}}
            found = await self.call("PUT", path, {**document, "metadata": metadata})
        if "status" in document and found.get("status") != document["status"]:
            status = {"status": document["status"]}
            content = "application/merge-patch+json"
            found = await self.call("PATCH", f"{path}/status", status, content=content)
        return found


def object_path(document: Mapping[str, Any]) -> str:
    """Where the API has the object; the namespace is the one that its metadata name, if any."""
    version, metadata = document["apiVersion"], document["metadata"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    if namespace := metadata.get("namespace"):
        root += f"/namespaces/{namespace}"
    return f"{root}/{plural(document['kind'])}/{metadata['name']}"


def plural(kind: str) -> str:
    """The resource of a kind, by the rule that all kinds of ours follow."""
    name = kind.lower()
    if name == "endpoints":
        return name
    if name.endswith("y") and name[-2] not in "aeiou":
        return f"{name[:-1]}ies"
    return f"{name}es" if name.endswith(("s", "x", "ch", "sh")) else f"{name}s"


def service(
    name: str,
    namespace: str,
    ports: Mapping[str, int],
    *,
    labels: Mapping[str, str] | None = None,
    selector: Mapping[str, str] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """A Service; *ports* are numbers by name."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels or {})},
        "spec": {
            "ports": [{"name": each, "port": port} for each, port in ports.items()],
            **({"selector": dict(selector)} if selector else {}),
            **spec,
        },
    }


def endpoint_slice(
    service_name: str,
    namespace: str,
    ports: Mapping[str, int],
    addresses: Sequence[str],
    *,
    suffix: str = "1",
    ready: bool = True,
    zone: str = "",
    node: str = "",
) -> dict[str, Any]:
    """An EndpointSlice of a Service, with one endpoint for each address."""
    extra = ({"zone": zone} if zone else {}) | ({"nodeName": node} if node else {})
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "addressType": "IPv6" if any(":" in each for each in addresses) else "IPv4",
        "metadata": {
            "name": f"{service_name}-{suffix}",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service_name},
        },
        "ports": [{"name": each, "port": port} for each, port in ports.items()],
        "endpoints": [
            {"addresses": [each], "conditions": {"ready": ready}, **extra} for each in addresses
        ],
    }


def _private_key() -> bytes:
    return rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _encode(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
