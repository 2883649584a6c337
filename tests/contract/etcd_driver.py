"""etcd for the suite: a key for each service and for each of its instances, behind a password."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from tests.contract.driver import Ability
from tests.contract.server_driver import ServerDriver
from tests.support.certificate import Authority
from tests.support.servers.etcd import EtcdClient, EtcdServer, key_range

ROOT_PASSWORD = "root-password"
USER = "mesh"
API_VERSION = "mesh-aggregator/v1"


class EtcdDriver(ServerDriver):
    """A user who may read all keys below the prefix."""

    type = "etcd"
    abilities = ServerDriver.abilities | {Ability.BAD}
    changes_per_second = 1000

    def __init__(self, folder: Path, *, secure: bool = False) -> None:
        self._authority = Authority(folder / "tls")
        self._etcd = EtcdServer(
            folder / "etcd",
            authority=self._authority if secure else None,
            # Each log-in would take the server 50 ms otherwise, which is not what is tested.
            arguments=["--bcrypt-cost", "4"],
        )
        super().__init__(folder, self._etcd, self._etcd, self._etcd.port, secure=secure)
        self._password_file = folder / "password"
        self._passwords = 0

    @property
    def authority(self) -> Authority:
        return self._authority

    def entry(self, port: int) -> dict[str, Any]:
        return {
            "type": "etcd",
            "endpoints": [f"127.0.0.1:{port}"],
            "prefix": "/mesh/",
            "user": USER,
            "password_file": str(self._password_file),
            **({"tls": {"ca": str(self._authority.ca)}} if self.secure else {}),
        }

    def host(self, service: str) -> str:
        return f"{service}.contract.mesh"

    async def start(self) -> None:
        await super().start()
        if not self._has_users():
            await self._add_users()

    async def put(self, service: str, addresses: Sequence[str]) -> None:
        await self.put_all({service: addresses})

    async def put_all(self, services: Mapping[str, Sequence[str]]) -> None:
        gone = [
            self._instance_key(service, address)
            for service, addresses in services.items()
            for address in self._known.get(service, set()) - set(addresses)
        ]
        async with self._client() as client:
            await client.put_all(dict(self._values(services)), gone)
        for service, addresses in services.items():
            self._known[service] = set(addresses)

    async def remove(self, service: str) -> None:
        async with self._client() as client:
            await client.delete(self._service_key(service))
            await client.delete(self._instance_key(service, ""), prefix=True)
        del self._known[service]

    async def spoil(self, service: str) -> None:
        async with self._client() as client:
            await client.put(self._service_key(service), b"\xff\xfe{")

    async def revoke(self) -> None:
        async with self._client() as client:
            body = {"name": USER, "password": "another-password"}
            await client.call("auth/user/changepw", body)

    async def permit(self) -> None:
        self._passwords += 1
        password = f"password-{self._passwords}"
        async with self._client() as client:
            await client.call("auth/user/changepw", {"name": USER, "password": password})
        self._password_file.write_text(password)

    def _client(self) -> AbstractAsyncContextManager[EtcdClient]:
        return self._etcd.client(user="root", password=ROOT_PASSWORD)

    def _has_users(self) -> bool:
        return (self._etcd.data / "users").exists()

    async def _add_users(self) -> None:
        self._password_file.write_text("password-0")
        grant = {"permType": "READ", **key_range("/mesh/", prefix=True)}
        async with self._etcd.client() as client:
            await client.call("auth/user/add", {"name": USER, "password": "password-0"})
            await client.call("auth/role/add", {"name": USER})
            await client.call("auth/role/grant", {"name": USER, "perm": grant})
            await client.call("auth/user/grant", {"user": USER, "role": USER})
            await client.enable_auth(ROOT_PASSWORD)
        # Lies beside etcd's own files, so that it goes and comes with them.
        (self._etcd.data / "users").touch()

    def _values(self, services: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
        for service, addresses in services.items():
            ports = [{"number": 80, "protocol": "HTTP"}]
            value = {"apiVersion": API_VERSION, "kind": "Service", "ports": ports}
            yield self._service_key(service), json.dumps(value)
            for address in addresses:
                value = {"apiVersion": API_VERSION, "kind": "Instance", "address": address}
                yield self._instance_key(service, address), json.dumps(value)

    def _service_key(self, service: str) -> str:
        return f"/mesh/services/contract/{self.host(service)}"

    def _instance_key(self, service: str, address: str) -> str:
        return f"/mesh/instances/contract/{self.host(service)}/{address}"
