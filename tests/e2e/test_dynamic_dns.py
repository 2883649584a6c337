"""Hosts that Envoy resolves as requests name them (resolution DYNAMIC_DNS)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.mesh import MeshConfig
from tests.support.builders import port, service
from tests.support.http_client import HttpClient
from tests.support.mesh import MemorySource, running_mesh
from tests.support.poll import eventually
from tests.support.port import Ports
from tests.support.servers.backend import HttpBackend
from tests.support.servers.envoy import Node, running_envoy

pytestmark = pytest.mark.e2e


@pytest.fixture
def ports() -> Iterator[Ports]:
    """Ports of this test."""
    reserved = Ports()
    yield reserved
    reserved.close()


async def test_any_name_below_a_wildcard_is_resolved(tmp_path: Path, ports: Ports) -> None:
    """``*.localhost`` is no endpoint, and yet each name below it leads to a server."""
    proxy_port, tls_port = ports.reserve(), ports.reserve()
    source = MemorySource()
    async with HttpBackend("v1") as backend, HttpClient() as client:
        web = service(
            "*.localhost", port(backend.port), resolution="DYNAMIC_DNS", mesh_external=True
        )
        secure = service(
            "*.example.com", port(tls_port, "TLS"), resolution="DYNAMIC_DNS", mesh_external=True
        )
        source.put_service(web)
        source.put_service(secure)
        mesh_config = MeshConfig(proxy_http_port=proxy_port)
        async with (
            running_mesh(source, mesh=mesh_config) as mesh,
            # Ports that are not bound: the backend's own is among the services' ports.
            running_envoy(mesh.address, tmp_path, node=Node(interception_mode="")) as envoy,
        ):
            for name in ("a.localhost", "b.localhost"):
                answer = await client.send(
                    f"http://{name}:{backend.port}/", proxy=f"http://127.0.0.1:{proxy_port}"
                )
                assert (answer.status, answer.backend) == (200, "v1")
            assert {each.authority for each in backend.received} == {
                f"{name}.localhost:{backend.port}" for name in "ab"
            }
            (stream,) = mesh.server.streams
            subscriptions = stream.session.subscriptions.values()
            await eventually(lambda: not any(each.unacknowledged for each in subscriptions))
            assert not any(each.nacks for each in subscriptions)
            assert f"0.0.0.0_{tls_port}" in str(await envoy.config_dump("dynamic_listeners"))
