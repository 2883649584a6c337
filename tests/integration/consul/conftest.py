"""A real Consul for all tests here, which share it: each has services and keys of its own name."""

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.servers.consul import ConsulClient, ConsulServer


@pytest.fixture(scope="session")
def consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulServer]:
    """One server of one datacenter."""
    server = ConsulServer(tmp_path_factory.mktemp("consul"))
    server.start_now()
    yield server
    server.kill()


@pytest.fixture
async def api(consul: ConsulServer) -> AsyncIterator[ConsulClient]:
    """What writes to it."""
    async with consul.client() as client:
        yield client


@pytest.fixture
def prefix() -> str:
    """What begins the names of this test's services and keys."""
    return f"t{uuid.uuid4().hex[:8]}"
