"""One control plane and one Envoy for each protocol variant, shared by all tests of a run."""

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from msgspec import Struct

from tests.support.folder_mesh import FolderMesh, running_folder_mesh
from tests.support.http_client import HttpClient
from tests.support.port import Ports
from tests.support.servers.backend import HttpBackend
from tests.support.servers.envoy import RUNNING, Node, start_envoy
from tests.support.town import Town

BOTH_VARIANTS: Final = pytest.mark.parametrize("town", ["delta", "sotw"], indirect=True)
CLIENT_LABELS: Final = {"app": "caller", "version": "v7"}


class Backends(Struct, frozen=True):
    """Three versions of an HTTP service."""

    v1: HttpBackend
    v2: HttpBackend
    v3: HttpBackend


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of the Envoys that run when a test fails."""
    report = yield
    if report.failed:
        for envoy in RUNNING:
            report.sections.append((f"log of Envoy {envoy.node.id}", envoy.log_tail()[-3000:]))
    return report


@pytest.fixture(scope="session")
def ports() -> Iterator[Ports]:
    """Ports for listeners of Envoys."""
    held = Ports()
    yield held
    held.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def client() -> AsyncIterator[HttpClient]:
    """A client that keeps connections open."""
    async with HttpClient() as shared:
        yield shared


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def backends() -> AsyncIterator[Backends]:
    """HTTP backends that every test may use as endpoints."""
    async with HttpBackend("v1") as v1, HttpBackend("v2") as v2, HttpBackend("v3") as v3:
        yield Backends(v1, v2, v3)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def folder_mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FolderMesh]:
    """The control plane over one folder; what does not say otherwise stays in its namespace."""
    folder = tmp_path_factory.mktemp("mesh")
    own = {"defaultVirtualServiceExportTo": ["."], "defaultDestinationRuleExportTo": ["."]}
    async with running_folder_mesh(folder, mesh=own, registry={"export_to": ["."]}) as mesh:
        yield mesh


StartTown = Callable[[str], Awaitable[Town]]


def node_of(namespace: str) -> Node:
    """The one Envoy of a namespace."""
    return Node(
        id=f"vm-{namespace}",
        namespace=namespace,
        labels=CLIENT_LABELS,
        locality="eu/eu-1/a",
        # So that clusters go soon after what uses them.
        metadata={"PROXY_CONFIG": {"drainDuration": "1s"}},
    )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def towns(
    folder_mesh: FolderMesh,
    backends: Backends,
    client: HttpClient,
    ports: Ports,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[StartTown]:
    """Starts the Envoy of a namespace, named after the protocol variant, once."""
    folder: Path = tmp_path_factory.mktemp("envoys")
    started: dict[str, Town] = {}
    async with AsyncExitStack() as stack:

        async def start(variant: str) -> Town:
            if variant not in started:
                envoy = await start_envoy(
                    folder_mesh.address,
                    folder / variant,
                    node=node_of(variant),
                    delta=variant != "sotw",
                    # One worker gets all changes in order.
                    workers=1,
                )
                stack.push_async_callback(envoy.stop)
                started[variant] = Town(folder_mesh, envoy, client, ports)
                await started[variant].open(backends.v1)
            return started[variant]

        yield start


@pytest_asyncio.fixture(loop_scope="session")
async def found(
    folder_mesh: FolderMesh, backends: Backends, client: HttpClient, ports: Ports, tmp_path: Path
) -> AsyncIterator[StartTown]:
    """Starts an Envoy for one test in a namespace of its own, whose rules may stand already."""
    async with AsyncExitStack() as stack:

        async def start(namespace: str) -> Town:
            envoy = await start_envoy(
                folder_mesh.address, tmp_path / namespace, node=node_of(namespace), workers=1
            )
            stack.push_async_callback(envoy.stop)
            town = Town(folder_mesh, envoy, client, ports)
            await town.open(backends.v1)
            return town

        yield start


@pytest_asyncio.fixture(loop_scope="session")
async def town(request: pytest.FixtureRequest, towns: StartTown) -> Town:
    """The Envoy of one protocol variant, delta unless the test is for both."""
    return await towns(getattr(request, "param", "delta"))
