"""A real Envoy that knows nothing but the address of the control plane."""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import pytest
from msgspec import Struct

from tests.support.poll import eventually

DRAIN_SECONDS: Final = 3
READY_SECONDS: Final = 20.0
STOP_SECONDS: Final = 10.0
LOG_TAIL: Final = 12_000
_HTTP2: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

RUNNING: Final[list["Envoy"]] = []
"""Those that were started and not yet stopped, so that a failing test can show their logs."""


class Node(Struct, frozen=True, kw_only=True):
    """How an Envoy introduces itself; `locality` is ``region/zone/subzone``."""

    id: str = "vm-1"
    cluster: str = "vms"
    namespace: str = "shop"
    interception_mode: str = "NONE"
    labels: Mapping[str, str] = {}
    locality: str = ""
    metadata: Mapping[str, Any] = {}

    def describe(self) -> dict[str, Any]:
        """The bootstrap's ``node``."""
        metadata: dict[str, Any] = {"NAMESPACE": self.namespace}
        if self.interception_mode:
            metadata["INTERCEPTION_MODE"] = self.interception_mode
        if self.labels:
            metadata["LABELS"] = dict(self.labels)
        node: dict[str, Any] = {
            "id": self.id,
            "cluster": self.cluster,
            "metadata": metadata | dict(self.metadata),
        }
        if self.locality:
            names = ("region", "zone", "sub_zone")
            node["locality"] = dict(zip(names, self.locality.split("/"), strict=False))
        return node


def find_envoy() -> str:
    """The binary. Without one the test is skipped on a developer's machine and fails in CI."""
    beside = Path(sys.executable).with_name("envoy")
    found = str(beside) if beside.exists() else shutil.which("envoy")
    if found is None:
        message = "there is no envoy beside the Python interpreter nor on the PATH"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


def build_bootstrap(xds: str, node: Node, *, delta: bool) -> dict[str, Any]:
    """Everything over ADS from *xds* (``host:port``), the admin server on a port of its own."""
    host, _, port = xds.rpartition(":")
    source = {"ads": {}, "resource_api_version": "V3"}
    return {
        "node": node.describe(),
        "admin": {"address": _address("127.0.0.1", 0)},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC" if delta else "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "control-plane"}}],
            },
            "cds_config": source,
            "lds_config": source,
        },
        "static_resources": {"clusters": [_control_plane(host, int(port))]},
    }


def _control_plane(host: str, port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(host, port)}}
    return {
        "name": "control-plane",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            _HTTP2: {
                "@type": f"type.googleapis.com/{_HTTP2}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": "control-plane",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


class Envoy:
    """A running Envoy and its admin interface."""

    def __init__(
        self, node: Node, process: asyncio.subprocess.Process, log: Path, admin_file: Path
    ) -> None:
        self.node: Final = node
        self.log: Final = log
        self.admin = ""
        self._process: Final = process
        self._admin_file: Final = admin_file
        # Connections are not kept: each question stands alone, also after a long time.
        self._http: Final = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),
            timeout=aiohttp.ClientTimeout(total=10),
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.returncode is None

    def log_tail(self) -> str:
        """The end of what it logged."""
        return self.log.read_text(errors="replace")[-LOG_TAIL:]

    # The admin interface

    async def ask(self, path: str, **query: str) -> str:
        """GET from the admin interface."""
        question = f"?{urlencode(query)}" if query else ""
        async with self._http.get(f"http://{self.admin}/{path}{question}") as response:
            return await response.text()

    async def post(self, path: str) -> str:
        """POST to the admin interface, such as ``logging?level=debug``."""
        async with self._http.post(f"http://{self.admin}/{path}") as response:
            return await response.text()

    async def is_live(self) -> bool:
        """Whether it has all that it waits for at its start."""
        try:
            return (await self.ask("ready")).strip() == "LIVE"
        except aiohttp.ClientError:
            return False

    async def wait_live(self, seconds: float = READY_SECONDS) -> None:
        """Return once it serves."""
        await self.wait_admin(seconds)
        await eventually(self.is_live, seconds=seconds, hint="Envoy did not become live")

    async def wait_admin(self, seconds: float = READY_SECONDS) -> None:
        """Return once the admin interface can be asked."""
        self.admin = await eventually(self._read_admin, seconds=seconds, hint="Envoy did not start")

    def _read_admin(self) -> str:
        if not self.running:
            message = f"Envoy ended with {self._process.returncode}:\n{self.log_tail()}"
            raise RuntimeError(message)
        return self._admin_file.read_text() if self._admin_file.exists() else ""

    async def stats(self, pattern: str = "") -> dict[str, int]:
        """Counters and gauges, those that match the regular expression *pattern* only."""
        query = {"filter": pattern} if pattern else {}
        answer = json.loads(await self.ask("stats", format="json", **query))
        pairs = ((each.get("name"), each.get("value")) for each in answer["stats"])
        return {name: value for name, value in pairs if isinstance(value, int)}

    async def clusters(self) -> dict[str, Any]:
        """Clusters with their hosts, by name."""
        answer = json.loads(await self.ask("clusters", format="json"))
        return {each["name"]: each for each in answer.get("cluster_statuses", ())}

    async def config_dump(self, resource: str = "") -> list[dict[str, Any]]:
        """The dump's sections, or the entries of one (``dynamic_listeners``)."""
        query = {"resource": resource} if resource else {}
        answer = json.loads(await self.ask("config_dump", include_eds="on", **query))
        return list(answer.get("configs", ()))

    # Its end

    async def stop(self) -> None:
        """End the process and wait for it."""
        if self in RUNNING:
            RUNNING.remove(self)
        await self._http.close()
        if self.running:
            self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


async def start_envoy(
    xds: str,
    folder: Path,
    *,
    node: Node | None = None,
    delta: bool = True,
    workers: int = 2,
    arguments: Sequence[str] = (),
    bootstrap: Mapping[str, Any] | None = None,
    wait: bool = True,
) -> Envoy:
    """Start an Envoy for the control plane at *xds*, its files in *folder*.

    *bootstrap* is laid over the top level of the generated one. Without *wait* the process has been
    started, and that is all.
    """
    node = node or Node()
    content = build_bootstrap(xds, node, delta=delta) | dict(bootstrap or {})
    file, log, admin = _prepare(folder, content)
    command = [find_envoy(), "-c", str(file), "--use-dynamic-base-id", "--log-level", "info"]
    command += ["--component-log-level", "upstream:warning"]
    command += ["--admin-address-path", str(admin), "--drain-time-s", str(DRAIN_SECONDS)]
    command += ["--concurrency", str(workers), *arguments]
    # So that it ends with us however we end.
    guard = shutil.which("setpriv")
    if guard:
        command = [guard, "--pdeathsig", "KILL", *command]
    with log.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(*command, stdout=sink, stderr=sink)
    envoy = Envoy(node, process, log, admin)
    RUNNING.append(envoy)
    if wait:
        try:
            await envoy.wait_live()
        except BaseException as error:
            error.add_note(f"Envoy's log:\n{envoy.log_tail()}")
            await envoy.stop()
            raise
    return envoy


def _prepare(folder: Path, bootstrap: Mapping[str, Any]) -> tuple[Path, Path, Path]:
    """Write the bootstrap beside those of earlier ones; where to log, where the admin port goes."""
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.glob("envoy-*.json")))
    file = folder / f"envoy-{number}.json"
    file.write_text(json.dumps(bootstrap, indent=1))
    return file, file.with_suffix(".log"), file.with_suffix(".admin")


@asynccontextmanager
async def running_envoy(
    xds: str,
    folder: Path,
    *,
    node: Node | None = None,
    delta: bool = True,
    workers: int = 2,
    arguments: Sequence[str] = (),
    bootstrap: Mapping[str, Any] | None = None,
    wait: bool = True,
) -> AsyncIterator[Envoy]:
    """`start_envoy` for the block."""
    envoy = await start_envoy(
        xds,
        folder,
        node=node,
        delta=delta,
        workers=workers,
        arguments=arguments,
        bootstrap=bootstrap,
        wait=wait,
    )
    try:
        yield envoy
    except Exception as error:
        error.add_note(f"Envoy's log:\n{envoy.log_tail()}")
        raise
    finally:
        await envoy.stop()
