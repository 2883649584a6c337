"""Consul for the suite: instances in the catalog, behind ACLs."""

import asyncio
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.contract.server_driver import ServerDriver
from tests.support.certificate import Authority
from tests.support.servers.consul import ConsulClient, ConsulServer

READ = "".join(f'{kind}_prefix "" {{policy="read"}} ' for kind in ("service", "node", "agent"))
AT_ONCE = 32
NODES = 100
NOBODY = "10.0.0.9"


class ConsulDriver(ServerDriver):
    """A token that may read everything. Consul knows a service by its instances alone: one without
    any has a last one that is critical.
    """

    type = "consul"
    tells_deletions = False
    asks_per_second = 20.0

    def __init__(self, folder: Path, *, secure: bool = False) -> None:
        self._authority = Authority(folder / "tls")
        self._consul = ConsulServer(
            folder / "consul", acl=True, authority=self._authority if secure else None
        )
        super().__init__(folder, self._consul, self._consul, self._consul.port, secure=secure)
        self._token_file = folder / "token"
        self._accessor = ""
        self._tokens = 0

    @property
    def authority(self) -> Authority:
        return self._authority

    @property
    def ignored(self) -> frozenset[str]:
        return frozenset({self.host("consul")})

    def entry(self, port: int) -> dict[str, Any]:
        return {
            "type": "consul",
            "address": f"127.0.0.1:{port}",
            "token_file": str(self._token_file),
            # The server is ours alone.
            "sweep_rate": 2000,
            **({"tls": {"ca": str(self._authority.ca)}} if self.secure else {}),
        }

    def host(self, service: str) -> str:
        return f"{service}.service.dc1.consul"

    async def start(self) -> None:
        await super().start()
        if not self._token_file.exists():
            await self.permit()

    async def wipe(self) -> None:
        await super().wipe()
        # The token is gone with the rest.
        self._token_file.unlink()

    async def put(self, service: str, addresses: Sequence[str]) -> None:
        await self.put_all({service: addresses})

    async def put_all(self, services: Mapping[str, Sequence[str]]) -> None:
        gate = asyncio.Semaphore(AT_ONCE)
        async with self._consul.client() as client:
            await self._put_new(client, services)

            async def put(service: str, addresses: Sequence[str]) -> None:
                async with gate:
                    await self._put(client, service, addresses)

            await asyncio.gather(*(put(*each) for each in services.items()))

    async def _put_new(self, client: ConsulClient, services: Mapping[str, Sequence[str]]) -> None:
        """Many at once are much faster, and cost what a node already has."""
        by_node: defaultdict[str, list[tuple[str, str, str, int]]] = defaultdict(list)
        for service, addresses in services.items():
            if addresses and service not in self._known:
                by_node[_node(service)].extend(
                    (service, f"{service}-{address}", address, 80) for address in addresses
                )
                self._known[service] = set(addresses)
        for node, instances in by_node.items():
            await client.register_all(instances, node=node)

    async def _put(self, client: ConsulClient, service: str, addresses: Sequence[str]) -> None:
        node, known = _node(service), self._known.setdefault(service, set())
        for address in sorted(set(addresses) - known) or ([] if addresses else [NOBODY]):
            status = "passing" if addresses else "critical"
            instance = f"{service}-{address}"
            await client.register(service, instance, address, 80, node=node, status=status)
        for address in sorted(known - set(addresses)):
            await client.deregister(f"{service}-{address}", node=node)
        known.clear()
        known.update(addresses or [NOBODY])

    async def remove(self, service: str) -> None:
        async with self._consul.client() as client:
            for address in self._known.pop(service):
                await client.deregister(f"{service}-{address}", node=_node(service))

    async def revoke(self) -> None:
        async with self._consul.client() as client:
            await client.revoke_token(self._accessor)

    async def permit(self) -> None:
        self._tokens += 1
        async with self._consul.client() as client:
            name = f"mesh-{self._tokens}"
            self._accessor, token = await client.create_token(READ, name=name)
        self._token_file.write_text(token)


def _node(service: str) -> str:
    return f"node-{zlib.crc32(service.encode()) % NODES}"
