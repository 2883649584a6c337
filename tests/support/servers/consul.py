"""A real Consul server of one member, alone or joined with other datacenters, and a client of its
HTTP API.
"""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import aiohttp

from tests.support.certificate import Authority
from tests.support.poll import eventually
from tests.support.port import free_port
from tests.support.servers.build import CONSUL
from tests.support.servers.process import StoredServer, need

BATCH: Final = 32
"""Instances of one transaction, with their checks; Consul takes 64 operations."""

MANAGEMENT_TOKEN: Final = "11111111-2222-3333-4444-555555555555"


class ConsulServer(StoredServer):
    """A server of one datacenter that keeps its ports, its data and its tokens over restarts.

    With *acl* only those with a token may do anything; `MANAGEMENT_TOKEN` may do everything. With
    *authority* it speaks HTTPS. It joins *wan*, a server of another datacenter that has to run.
    *settings* are merged into its configuration.
    """

    def __init__(
        self,
        folder: Path,
        *,
        datacenter: str = "dc1",
        acl: bool = False,
        authority: Authority | None = None,
        wan: "ConsulServer | None" = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"consul-{datacenter}", folder)
        self.datacenter: Final = datacenter
        self.port: Final = free_port()
        self.wan_port: Final = free_port()
        self.acl: Final = acl
        self.authority: Final = authority
        self.settings: Final = dict(settings or {})
        self.certificate: Final = (
            authority.issue("localhost", ["127.0.0.1"]) if authority is not None else None
        )
        self._wan: Final = wan
        self._server_port: Final = free_port()
        self._lan_port: Final = free_port()

    @property
    def address(self) -> str:
        """``host:port`` of the HTTP API."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The address with its scheme."""
        return f"{'https' if self.authority else 'http'}://{self.address}"

    def command(self) -> list[str]:
        """An agent with a configuration file, which is written anew."""
        file = self.folder / "consul.json"
        file.write_text(json.dumps(self._configuration(), indent=1))
        return [need(CONSUL), "agent", f"-config-file={file}"]

    def is_ready(self) -> bool:
        """Whether it has a leader that answers from the catalog."""
        try:
            request = urllib.request.Request(  # noqa: S310 — an address of ours.
                f"{self.url}/v1/catalog/services?consistent", headers=self._headers()
            )
            with urllib.request.urlopen(  # noqa: S310
                request, timeout=1, context=self._context()
            ) as answer:
                return "consul" in json.load(answer)
        except urllib.error.HTTPError:
            return False

    def client(self, token: str | None = None) -> "ConsulClient":
        """A client, who may do everything unless *token* says otherwise; a context manager."""
        return ConsulClient(self, token)

    async def wait_joined(self, datacenters: Sequence[str]) -> None:
        """Return once it knows these datacenters, and has a way to each."""
        async with self.client() as client:
            await eventually(
                lambda: client.call("GET", "catalog/datacenters"),
                lambda found: set(datacenters) <= set(found),
                seconds=20,
                hint="the datacenters do not know each other",
            )
            for each in datacenters:
                way = partial(client.reaches, each)
                await eventually(way, seconds=20, hint=f"no way to {each}")

    def _context(self) -> Any:
        return self.authority.client_context() if self.authority else None

    def _headers(self) -> dict[str, str]:
        return {"X-Consul-Token": MANAGEMENT_TOKEN} if self.acl else {}

    def _configuration(self) -> dict[str, Any]:
        made: dict[str, Any] = {
            "datacenter": self.datacenter,
            "primary_datacenter": self._wan.datacenter if self._wan else self.datacenter,
            "node_name": f"server-{self.datacenter}",
            "data_dir": str(self.data),
            "server": True,
            "bootstrap_expect": 1,
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "log_level": "warn",
            "disable_update_check": True,
            "leave_on_terminate": False,
            "ports": {
                "http": -1 if self.certificate else self.port,
                "https": self.port if self.certificate else -1,
                "dns": -1,
                "grpc": -1,
                "grpc_tls": -1,
                "serf_lan": self._lan_port,
                "serf_wan": self.wan_port,
                "server": self._server_port,
            },
            "connect": {"enabled": False},
            "performance": {"raft_multiplier": 1},
        }
        if self._wan is not None:
            made["retry_join_wan"] = [f"127.0.0.1:{self._wan.wan_port}"]
            made["retry_interval_wan"] = "1s"
        if self.certificate is not None:
            made["tls"] = {
                "https": {
                    "cert_file": str(self.certificate.cert),
                    "key_file": str(self.certificate.key),
                }
            }
        if self.acl:
            tokens = {"initial_management": MANAGEMENT_TOKEN, "agent": MANAGEMENT_TOKEN}
            made["acl"] = {
                "enabled": True,
                "default_policy": "deny",
                "enable_token_persistence": True,
                "tokens": tokens,
            }
        return made | self.settings


class ConsulRefusedError(Exception):
    """The request that Consul answered with an error."""

    def __init__(self, what: str, status: int, text: str) -> None:
        super().__init__(f"{what}: {status} {text}")
        self.status: Final = status


class ConsulClient:
    """What tests write and read; paths are those below ``/v1/``."""

    def __init__(self, server: ConsulServer, token: str | None) -> None:
        self._server: Final = server
        if token is None and server.acl:
            token = MANAGEMENT_TOKEN
        tls = server.authority.client_context() if server.authority else True
        self._http: Final = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=32),
            headers={"X-Consul-Token": token} if token else {},
            timeout=aiohttp.ClientTimeout(total=30),
        )

    async def __aenter__(self) -> "ConsulClient":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.close()

    async def register(
        self,
        service: str,
        instance: str,
        address: str,
        port: int,
        *,
        node: str = "tests",
        status: str = "passing",
        tags: Sequence[str] = (),
        meta: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        """An instance in the catalog, on a node that has no agent. *more* are fields of the service
        as the catalog takes them, such as ``Weights``.
        """
        await self.call(
            "PUT",
            "catalog/register",
            {
                "Node": node,
                "Address": "10.0.0.1",
                "SkipNodeUpdate": True,
                "Service": {
                    "Service": service,
                    "ID": instance,
                    "Address": address,
                    "Port": port,
                    "Tags": list(tags),
                    "Meta": dict(meta or {}),
                    **more,
                },
                "Check": {
                    "Node": node,
                    "CheckID": f"check-{instance}",
                    "Name": "check",
                    "ServiceID": instance,
                    "Status": status,
                },
            },
        )

    async def register_all(
        self, instances: Sequence[tuple[str, str, str, int]], *, node: str = "tests"
    ) -> None:
        """Many healthy instances of (service, id, address, port), in transactions of some."""
        await self.add_node(node)
        for start in range(0, len(instances), BATCH):
            steps: list[dict[str, Any]] = []
            for service, instance, address, port in instances[start : start + BATCH]:
                found = {"Service": service, "ID": instance, "Address": address, "Port": port}
                check = {
                    "Node": node,
                    "CheckID": f"check-{instance}",
                    "Name": "check",
                    "ServiceID": instance,
                    "Status": "passing",
                }
                steps.append({"Service": {"Verb": "set", "Node": node, "Service": found}})
                steps.append({"Check": {"Verb": "set", "Check": check}})
            await self.call("PUT", "txn", steps)

    async def deregister(self, instance: str, *, node: str = "tests") -> None:
        """An instance, and its check."""
        await self.call("PUT", "catalog/deregister", {"Node": node, "ServiceID": instance})

    async def set_status(self, instance: str, status: str, *, node: str = "tests") -> None:
        """What its check says: ``passing``, ``warning`` or ``critical``."""
        await self.call(
            "PUT",
            "catalog/register",
            {
                "Node": node,
                "Address": "10.0.0.1",
                "SkipNodeUpdate": True,
                "Check": {
                    "Node": node,
                    "CheckID": f"check-{instance}",
                    "Name": "check",
                    "ServiceID": instance,
                    "Status": status,
                },
            },
        )

    async def add_node(
        self, node: str, address: str = "10.0.0.1", meta: Mapping[str, str] | None = None
    ) -> None:
        """A node without an agent."""
        await self.call(
            "PUT",
            "catalog/register",
            {"Node": node, "Address": address, "NodeMeta": dict(meta or {})},
        )

    async def put(self, key: str, value: str | bytes) -> None:
        """A key of the KV store."""
        raw = value.encode() if isinstance(value, str) else value
        await self.call("PUT", f"kv/{key}", raw)

    async def delete(self, key: str, *, recurse: bool = False) -> None:
        """A key of the KV store, or all below it."""
        await self.call("DELETE", f"kv/{key}{'?recurse' if recurse else ''}")

    async def create_token(self, rules: str, *, name: str) -> tuple[str, str]:
        """A token with a policy of its own of these rules: its accessor, its secret."""
        await self.call("PUT", "acl/policy", {"Name": name, "Rules": rules})
        answer = await self.call("PUT", "acl/token", {"Policies": [{"Name": name}]})
        return answer["AccessorID"], answer["SecretID"]

    async def revoke_token(self, accessor: str) -> None:
        """Delete a token."""
        await self.call("DELETE", f"acl/token/{accessor}")

    async def snapshot(self) -> bytes:
        """All that the datacenter knows."""
        return await self._ask("GET", "snapshot", None)

    async def restore(self, snapshot: bytes) -> None:
        """Know again what *snapshot* says, while clients go on."""
        await self.call("PUT", "snapshot", snapshot)

    async def reaches(self, datacenter: str) -> bool:
        """Whether questions about another datacenter are answered."""
        try:
            await self.call("GET", f"catalog/services?dc={datacenter}")
        except ConsulRefusedError:
            return False
        return True

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | Sequence[Mapping[str, Any]] | bytes | None = None,
    ) -> Any:
        """Any request. Raises ConsulRefusedError for an answer that is not 200."""
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        text = await self._ask(method, path, raw)
        return json.loads(text) if text.strip() else None

    async def _ask(self, method: str, path: str, raw: bytes | None) -> bytes:
        async with self._http.request(method, f"{self._server.url}/v1/{path}", data=raw) as answer:
            text = await answer.read()
            if answer.status != 200:
                raise ConsulRefusedError(
                    f"{method} {path}", answer.status, text.decode(errors="replace")
                )
        return text


async def start_joined(*servers: ConsulServer) -> None:
    """Start servers of several datacenters and wait until each knows all."""
    for server in servers:
        await server.start()
    names = [server.datacenter for server in servers]
    await asyncio.gather(*(server.wait_joined(names) for server in servers))
