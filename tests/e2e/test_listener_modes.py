"""The ways in which a proxy gets its ports without redirection, on a real Envoy."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from aggregator.model.service import Endpoint, Service
from config.mesh import MeshConfig
from tests.support.builders import endpoint, port, service
from tests.support.certificate import Authority
from tests.support.mesh import MemorySource, running_mesh
from tests.support.poll import eventually
from tests.support.port import Ports
from tests.support.rules import sidecar
from tests.support.servers.backend import HttpBackend, TcpBackend, ask_tcp
from tests.support.servers.envoy import Envoy, Node, running_envoy

pytestmark = pytest.mark.e2e
REVIEWS = "reviews.shop.svc.cluster.local"


@pytest.fixture
def ports() -> Iterator[Ports]:
    reserved = Ports()
    yield reserved
    reserved.close()


def at(backend: HttpBackend | TcpBackend) -> Endpoint:
    return endpoint(backend.address, ports={"p": backend.port})


def on(host: str, number: int, protocol: str, created: float = 0.0) -> Service:
    return service(host, port(number, protocol, name="p"), created=created)


@asynccontextmanager
async def proxied(
    source: MemorySource,
    folder: Path,
    *,
    mode: str = "NONE",
    mesh: MeshConfig | None = None,
    delta: bool = True,
) -> AsyncIterator[Envoy]:
    node = Node(interception_mode=mode)
    async with (
        running_mesh(source, mesh=mesh) as plane,
        running_envoy(plane.address, folder, node=node, delta=delta) as envoy,
    ):
        yield envoy


async def get(url: str, host: str = "", **how: str) -> tuple[int, str]:
    """Status and the backend that answered."""
    headers = {"Host": host} if host else {}
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers=headers, proxy=how.get("proxy")) as response,
    ):
        return response.status, response.headers.get("x-backend", "")


async def ask_tls(number: int, name: str) -> str:
    """Which backend a TLS connection for *name* ends at."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"https://127.0.0.1:{number}/", ssl=context, server_hostname=name) as response,
    ):
        return response.headers["x-backend"]


@pytest.mark.parametrize("delta", [True, False], ids=["delta", "state-of-the-world"])
async def test_ports_on_the_loopback_address(tmp_path: Path, ports: Ports, *, delta: bool) -> None:
    """INTERCEPTION_MODE NONE: HTTP and TLS services share ports, the oldest has a TCP one."""
    http, tcp, tls = ports.reserve(), ports.reserve(), ports.reserve()
    authority = Authority(tmp_path / "certs")
    source = MemorySource()
    async with AsyncExitStack() as stack:
        for name in ("reviews", "ratings"):
            backend = await stack.enter_async_context(HttpBackend(name))
            source.put_service(on(f"{name}.shop.svc.cluster.local", http, "HTTP"), at(backend))
        for name, age in (("young", 2.0), ("old", 1.0)):
            database = await stack.enter_async_context(TcpBackend(name))
            source.put_service(on(f"{name}.example.org", tcp, "TCP", age), at(database))
        for name in ("a", "b"):
            pair = authority.issue(f"{name}.example.org")
            secure = HttpBackend(name, tls=authority.server_context(pair))
            await stack.enter_async_context(secure)
            source.put_service(on(f"{name}.example.org", tls, "TLS"), at(secure))
        await stack.enter_async_context(proxied(source, tmp_path, delta=delta))

        url = f"http://127.0.0.1:{http}/"
        await eventually(lambda: get(url, REVIEWS), lambda found: found == (200, "reviews"))
        assert await get(url, f"ratings:{http}") == (200, "ratings")
        assert (await get(url, "nobody.example.org"))[0] == 502
        assert await eventually(lambda: ask_tcp("127.0.0.1", tcp)) == "old"
        assert await eventually(lambda: ask_tls(tls, "a.example.org")) == "a"
        assert await ask_tls(tls, "b.example.org") == "b"
        with pytest.raises(aiohttp.ClientError):
            await ask_tls(tls, "nobody.example.org")


@pytest.mark.parametrize("mode", ["NONE", ""])
async def test_ports_and_sockets_of_a_sidecar(tmp_path: Path, ports: Ports, mode: str) -> None:
    """Egress listeners with captureMode NONE are there with and without redirection."""
    http, tcp, inward = ports.reserve(), ports.reserve(), ports.reserve()
    socket = tmp_path / "mesh.sock"
    source = MemorySource()
    async with (
        HttpBackend("reviews") as reviews,
        HttpBackend("self") as workload,
        TcpBackend("database") as database,
    ):
        source.put_service(on(REVIEWS, http, "HTTP"), at(reviews))
        source.put_service(on("db.shop.svc.cluster.local", 5432, "TCP"), at(database))
        source.put_config(
            sidecar(
                f"""
                egress:
                - port: {{number: {http}, protocol: HTTP}}
                  bind: 127.0.0.1
                  captureMode: NONE
                  hosts: [shop/*]
                - port: {{number: 0, protocol: HTTP}}
                  bind: unix://{socket}
                  captureMode: NONE
                  hosts: [shop/*]
                - port: {{number: {tcp}, protocol: TCP}}
                  captureMode: NONE
                  hosts: [shop/db.shop.svc.cluster.local]
                ingress:
                - port: {{number: {inward}, protocol: HTTP}}
                  bind: 127.0.0.1
                  captureMode: NONE
                  defaultEndpoint: {workload.at}
                """
            )
        )
        async with proxied(source, tmp_path, mode=mode):
            url = f"http://127.0.0.1:{http}/"
            await eventually(lambda: get(url, REVIEWS), lambda found: found == (200, "reviews"))
            assert await eventually(lambda: ask_tcp("127.0.0.1", tcp)) == "database"
            inside = f"http://127.0.0.1:{inward}/"
            await eventually(lambda: get(inside), lambda found: found == (200, "self"))
            connector = aiohttp.UnixConnector(str(socket))
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.get(f"http://{REVIEWS}:{http}/") as response,
            ):
                assert response.headers["x-backend"] == "reviews"


@pytest.mark.parametrize("mode", ["NONE", ""])
async def test_one_port_as_an_http_proxy(tmp_path: Path, ports: Ports, mode: str) -> None:
    """mesh.proxyHttpPort: applications that know proxies need no other port."""
    proxy, number = ports.reserve(), ports.reserve()
    source = MemorySource()
    async with HttpBackend("reviews") as reviews:
        source.put_service(on(REVIEWS, number, "HTTP"), at(reviews))
        mesh = MeshConfig(proxy_http_port=proxy)
        async with proxied(source, tmp_path, mode=mode, mesh=mesh):
            through = f"http://127.0.0.1:{proxy}"
            await eventually(
                lambda: get(f"http://{REVIEWS}:{number}/", proxy=through),
                lambda found: found == (200, "reviews"),
            )


async def test_capture_stands_idle_without_redirection(tmp_path: Path, ports: Ports) -> None:
    """All of Istio's outbound listeners are active, and no port of a service is bound."""
    number = ports.reserve()
    source = MemorySource()
    source.put_service(on(REVIEWS, number, "HTTP"))
    vip = service("db.example.org", port(number, "TCP", name="p"), addresses=["10.9.9.9"])
    source.put_service(vip)
    mesh = MeshConfig(proxy_listen_port=ports.reserve())
    async with proxied(source, tmp_path, mode="", mesh=mesh) as envoy:

        async def active() -> set[str]:
            dump = await envoy.config_dump("dynamic_listeners")
            return {each["name"] for each in dump if "active_state" in each}

        wanted = {"virtualOutbound", f"0.0.0.0_{number}", f"10.9.9.9_{number}"}
        await eventually(active, lambda found: found == wanted)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", number)
