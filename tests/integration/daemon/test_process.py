"""The daemon as a process: its signals, its reloads, and what it tells the service manager."""

import asyncio
import json
import signal
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import grpc
import grpc.aio
import pytest
from cryptography.hazmat.primitives import serialization
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from aggregator.generators.spec import CLUSTER
from tests.support.certificate import Authority
from tests.support.daemon_process import serving
from tests.support.poll import eventually
from tests.support.port import free_port

SERVICE = """
services:
- host: {host}
  namespace: shop
  ports: [{{name: http, number: 80, protocol: HTTP}}]
  endpoints: [{{address: 10.0.0.1}}]
"""


class Folder:
    """Settings with registries that read folders of one service each."""

    def __init__(self, root: Path) -> None:
        self.root: Final = root
        self.file: Final = root / "mesh.yaml"
        for name in ("a", "b"):
            (root / name).mkdir()
            (root / name / "service.yaml").write_text(SERVICE.format(host=f"{name}.mesh"))

    def write(self, *names: str, extra: str = "") -> None:
        """Name these folders as registries, by an atomic replacement as editors do it."""
        lines = "".join(f"- {{name: {name}, type: files, path: {name}/}}\n" for name in names)
        new = self.root / ".mesh.yaml.new"
        new.write_text(f"registries:\n{lines}{extra}")
        new.replace(self.file)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Two folders, one of which is a registry."""
    made = Folder(tmp_path)
    made.write("a")
    return made


class Manager:
    """A service manager that listens."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self._socket: Final = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self.messages: Final[list[str]] = []

    def told(self, start: str) -> list[str]:
        """Every message so far that begins so."""
        while True:
            try:
                self.messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return [each for each in self.messages if each.startswith(start)]

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """A service manager in the place of systemd."""
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


async def test_a_folder_is_served_without_settings(folder: Folder) -> None:
    """The embedded default: one folder in, a mesh out."""
    async with serving("--config-dir", str(folder.root / "a")) as daemon:
        await daemon.ready()
        hosts = await daemon.hosts()

    assert hosts == {"a.mesh"}
    assert daemon.noise == []


async def test_the_service_manager_is_told_of_every_stage(folder: Folder, manager: Manager) -> None:
    """Units of Type=notify start in order, are reloaded with an end, and are watched over."""
    environ = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "200000"}
    async with serving("-c", str(folder.file), environ=environ) as daemon:
        await eventually(lambda: manager.told("READY=1"))
        assert await daemon.get("/ready") == "ready\n"
        assert manager.told("READY=1") == ["READY=1\nSTATUS=1 services from 1 registries"]
        await eventually(lambda: len(manager.told("WATCHDOG=1")) > 3)
        daemon.signal(signal.SIGHUP)
        await eventually(lambda: len(manager.told("READY=1")) == 2)
        daemon.signal(signal.SIGTERM)
        assert await daemon.process.wait() == 0

    assert "MONOTONIC_USEC=" in manager.told("RELOADING=1")[0]
    assert len(manager.told("STOPPING=1")) == 1
    stages = [each.partition("=")[0] for each in manager.messages if "WATCHDOG" not in each]
    assert stages == ["READY", "RELOADING", "READY", "STOPPING"]
    assert daemon.noise == []


async def test_a_reload_does_not_pass_for_readiness(folder: Folder, manager: Manager) -> None:
    """What the manager starts after us waits until the registries are in."""
    folder.write("a", "late")
    environ = {"NOTIFY_SOCKET": str(manager.path)}
    async with serving("-c", str(folder.file), environ=environ) as daemon:
        await eventually(lambda: daemon.get("/healthz"))
        daemon.signal(signal.SIGHUP)
        await eventually(lambda: daemon.logged("settings_reloaded"))
        assert manager.told("READY=1") == []
        (folder.root / "late").mkdir()
        await eventually(lambda: manager.told("READY=1"))
        daemon.signal(signal.SIGHUP)
        await eventually(lambda: len(manager.told("READY=1")) == 2)

    assert len(manager.told("RELOADING=1")) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_with_its_streams_open(
    folder: Folder, number: signal.Signals
) -> None:
    """A rollout does not wait for Envoys, whose streams never end by themselves."""
    async with serving("-c", str(folder.file)) as daemon:
        await daemon.ready()
        async with grpc.aio.insecure_channel(daemon.grpc) as channel:
            stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
            call = stub.StreamAggregatedResources()
            node = base_pb2.Node(id="proxy-1")
            await call.write(discovery_pb2.DiscoveryRequest(type_url=CLUSTER.type_url, node=node))
            response = await call.read()
            daemon.signal(number)
            async with asyncio.timeout(10):
                assert await daemon.process.wait() == 0
            call.cancel()

    assert "a.mesh" in str(response)
    last = [each["message"] for each in daemon.events][-3:]
    assert last == ["daemon_stopping", "client_disconnected", "daemon_stopped"]
    assert daemon.noise == []


async def test_a_changed_file_brings_registries_and_takes_them_away(folder: Folder) -> None:
    """Registries come and go without a restart; the one that stays is not read anew."""
    async with serving("-c", str(folder.file)) as daemon:
        await daemon.ready()
        folder.write("a", "b")
        await eventually(daemon.hosts, lambda hosts: hosts == {"a.mesh", "b.mesh"})
        folder.write("b")
        await eventually(daemon.hosts, lambda hosts: hosts == {"b.mesh"})

    synced = [event["adapter"] for event in daemon.logged("registry_synced")]
    assert sorted(synced) == ["a", "b"]
    assert daemon.noise == []


async def test_a_registry_with_other_settings_is_replaced(folder: Folder) -> None:
    """The name stays, what it reads is another folder; the old one is served until that is in."""
    async with serving("-c", str(folder.file)) as daemon:
        await daemon.ready()
        folder.file.write_text("registries: [{name: a, type: files, path: b}]\n")
        await eventually(daemon.hosts, lambda hosts: hosts == {"b.mesh"})
        assert await daemon.get("/ready") == "ready\n"

    assert [event["adapter"] for event in daemon.logged("registry_replacing")] == ["a"]


async def test_a_second_signal_does_not_wait(folder: Folder) -> None:
    """Whoever asks twice wants it gone."""
    async with serving("-c", str(folder.file)) as daemon:
        await daemon.ready()
        async with grpc.aio.insecure_channel(daemon.grpc) as channel:
            stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
            call = stub.StreamAggregatedResources()
            node = base_pb2.Node(id="proxy-1")
            await call.write(discovery_pb2.DiscoveryRequest(type_url=CLUSTER.type_url, node=node))
            await call.read()
            daemon.signal(signal.SIGTERM)
            await eventually(lambda: daemon.logged("daemon_stopping"))
            daemon.signal(signal.SIGTERM)
            assert await daemon.process.wait() == 130
            call.cancel()


async def test_a_config_map_update_is_noticed(folder: Folder) -> None:
    """Kubernetes swaps a link two steps away from the file; its own name never changes."""
    mount = folder.root / "mount"
    for version, name in (("1", "a"), ("2", "b")):
        (mount / f"..v{version}").mkdir(parents=True)
        settings = f"registries: [{{name: {name}, type: files, path: {folder.root}/{name}}}]\n"
        (mount / f"..v{version}" / "mesh.yaml").write_text(settings)
    (mount / "..data").symlink_to("..v1")
    (mount / "mesh.yaml").symlink_to("..data/mesh.yaml")

    async with serving("-c", str(mount / "mesh.yaml")) as daemon:
        await daemon.ready()
        (mount / "..data_tmp").symlink_to("..v2")
        (mount / "..data_tmp").replace(mount / "..data")
        await eventually(daemon.hosts, lambda hosts: hosts == {"b.mesh"})


async def test_broken_settings_change_nothing_and_are_told_once(folder: Folder) -> None:
    """A typing error in production leaves the mesh as it is, and is seen in every place."""
    async with serving("-c", str(folder.file)) as daemon:
        await daemon.ready()
        folder.write("b", extra="lissten: {}\n")
        await eventually(lambda: daemon.logged("settings_rejected"))
        daemon.signal(signal.SIGHUP)
        folder.write("b", extra="lissten: {}\n# again\n")
        await eventually(
            lambda: daemon.get("/metrics"), lambda text: "mesh_settings_rejected 1.0" in text
        )
        settings = json.loads(await daemon.get("/debug/configz"))["settings"]
        hosts = await daemon.hosts()
        folder.write("b")
        await eventually(daemon.hosts, lambda hosts: hosts == {"b.mesh"})
        mended = json.loads(await daemon.get("/debug/configz"))["settings"]

    assert hosts == {"a.mesh"}
    assert "did you mean 'listen'?" in settings["error"]
    assert mended["error"] == ""
    assert mended["reloads"] == 1
    (rejection,) = daemon.logged("settings_rejected")
    assert rejection["problems"] == [
        f"{folder.file}:3: lissten: unknown field 'lissten'; did you mean 'listen'?"
    ]


async def test_settings_that_take_a_restart_are_named(folder: Folder) -> None:
    """Nobody wonders for long why a new address does not answer."""
    async with serving("-c", str(folder.file)) as daemon:
        await daemon.ready()
        tls = "{address: '127.0.0.1:15012', cert: a.pem, key: a.key}"
        folder.write("a", extra=f"push: {{write_timeout: 10s}}\nlisten: {{grpc_tls: {tls}}}\n")
        await eventually(lambda: daemon.logged("settings_reloaded"))

    named = [event["setting"] for event in daemon.logged("settings_restart_needed")]
    assert named == ["listen", "push"]


async def test_an_address_in_use_ends_it_with_one_line(folder: Folder) -> None:
    """The second daemon on a machine says what is wrong, and touches nothing."""
    async with serving("-c", str(folder.file)) as first:
        await first.ready()
        for option, taken in (("--grpc-address", first.grpc), ("--http-address", first.http[7:])):
            # Of an option that is given twice, the last one counts.
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "aggregator.cli.main", "serve", "-c", str(folder.file)),
                f"--grpc-address=127.0.0.1:{free_port()}",
                f"--http-address=127.0.0.1:{free_port()}",
                *(option, taken),
                stderr=PIPE,
            )
            _, error = await process.communicate()

            assert process.returncode == 1
            lines = [line for line in error.decode().splitlines() if not line.startswith("{")]
            assert lines == [f"mesh-aggregator: cannot listen on {taken}: Address already in use"]


async def test_tls_is_served_from_files_beside_the_settings(folder: Folder) -> None:
    """Paths in the file start at its folder, and only clients with a certificate get through."""
    authority = Authority(folder.root / "tls")
    authority.issue("localhost")
    client = authority.issue("client")
    port = free_port()
    tls = (
        f"{{address: '127.0.0.1:{port}', cert: tls/localhost.pem, key: tls/localhost.key, "
        "client_ca: tls/tests-ca.pem, require_client_cert: true}"
    )
    folder.write("a", extra=f"listen: {{grpc_tls: {tls}}}\n")

    async def ask(credentials: grpc.ChannelCredentials) -> str:
        async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
            stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
            call = stub.StreamAggregatedResources(timeout=5)
            node = base_pb2.Node(id="proxy-1")
            await call.write(discovery_pb2.DiscoveryRequest(type_url=CLUSTER.type_url, node=node))
            response = await call.read()
            call.cancel()
            return str(response)

    root = authority.ca.read_bytes()
    async with serving("-c", str(folder.file)) as daemon:
        await daemon.ready()
        known = grpc.ssl_channel_credentials(
            root, client.key.read_bytes(), client.cert.read_bytes()
        )
        assert "a.mesh" in await ask(known)
        with pytest.raises(grpc.aio.AioRpcError):
            await ask(grpc.ssl_channel_credentials(root))


async def test_certificates_that_are_not_there_end_it_with_one_line(folder: Folder) -> None:
    """A daemon never runs without the protection that it was told to have."""
    folder.write("a", extra="listen: {grpc_tls: {address: '127.0.0.1:0', cert: c, key: k}}\n")
    async with serving("-c", str(folder.file)) as daemon:
        assert await daemon.process.wait() == 2

    (line,) = daemon.noise
    assert line.startswith(f"mesh-aggregator: {folder.root}/c: listen.grpc_tls: cannot read")


async def test_nobody_is_asked_for_the_passphrase_of_a_key(folder: Folder) -> None:
    """A daemon that waits at the terminal serves nobody."""
    pair = Authority(folder.root / "tls").issue("localhost")
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    pair.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    tls = "{address: '127.0.0.1:0', cert: tls/localhost.pem, key: tls/localhost.key}"
    folder.write("a", extra=f"listen: {{grpc_tls: {tls}}}\n")

    async with serving("-c", str(folder.file)) as daemon:
        assert await daemon.process.wait() == 2

    (line,) = daemon.noise
    assert "listen.grpc_tls: cannot read a certificate and its key" in line


async def test_health_asks_the_running_daemon(folder: Folder) -> None:
    """HEALTHCHECK's command agrees with /ready."""
    async with serving("-c", str(folder.file)) as daemon:
        await daemon.ready()
        health = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "aggregator.cli.main", "health"),
            *("--http-address", daemon.http.removeprefix("http://")),
            stdout=PIPE,
        )
        output, _ = await health.communicate()
        folder.file.write_text(
            folder.file.read_text()
            + f"listen: {{http: '0.0.0.0:{daemon.http.rpartition(':')[2]}'}}\n"
        )
        by_file = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "aggregator.cli.main", "health", "-c", str(folder.file)
        )
        await by_file.wait()

    assert (health.returncode, output) == (0, b"ready\n")
    assert by_file.returncode == 0


async def test_a_proxy_is_told_nothing_before_the_registries_are_in(folder: Folder) -> None:
    """An Envoy that reconnects to a daemon just started keeps its clusters meanwhile."""
    missing = folder.root / "late"
    folder.file.write_text(f"registries: [{{name: late, type: files, path: {missing}}}]\n")
    async with serving("-c", str(folder.file)) as daemon:
        await eventually(lambda: daemon.get("/healthz"))
        async with grpc.aio.insecure_channel(daemon.grpc) as channel:
            stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
            call = stub.StreamAggregatedResources()
            node = base_pb2.Node(id="proxy-1")
            await call.write(discovery_pb2.DiscoveryRequest(type_url=CLUSTER.type_url, node=node))
            answer = asyncio.ensure_future(call.read())
            await asyncio.sleep(0.5)
            assert not answer.done()
            missing.mkdir()
            (missing / "service.yaml").write_text(SERVICE.format(host="late.mesh"))
            async with asyncio.timeout(20):
                assert "late.mesh" in str(await answer)
            call.cancel()
