"""Two datacenters of real Consuls that are joined, read through the agent of one."""

import asyncio
from collections.abc import Iterator

import pytest

from aggregator.model.service import Locality
from aggregator.registry.status import RegistryState
from tests.support.consul_mesh import consul_mesh
from tests.support.poll import eventually
from tests.support.servers.consul import ConsulServer

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ConsulServer, ConsulServer]]:
    """Servers of dc1 and dc2, each with its instance of the same service."""
    one = ConsulServer(tmp_path_factory.mktemp("dc1"))
    two = ConsulServer(tmp_path_factory.mktemp("dc2"), datacenter="dc2", wan=one)
    one.start_now()
    two.start_now()
    asyncio.run(_fill(one, two))
    yield one, two
    one.kill()
    two.kill()


async def _fill(one: ConsulServer, two: ConsulServer) -> None:
    await asyncio.gather(*(each.wait_joined(["dc1", "dc2"]) for each in (one, two)))
    async with one.client() as api:
        await api.register("web", "web-1", "10.0.0.1", 80)
    async with two.client() as api:
        wan = {"wan": {"Address": "192.0.2.2", "Port": 8080}}
        await api.register("web", "web-2", "10.2.0.2", 80, TaggedAddresses=wan)


async def test_all_datacenters_are_read_through_one_agent(
    joined: tuple[ConsulServer, ConsulServer],
) -> None:
    """Each has hosts of its own, and the remote one the address that is for others."""
    async with consul_mesh(joined[0].address, datacenters=("*",), services=("web",)) as mesh:
        assert mesh.hosts() == ["web.service.dc1.consul", "web.service.dc2.consul"]
        (near,) = mesh.endpoints("web.service.dc1.consul")
        (far,) = mesh.endpoints("web.service.dc2.consul")
        assert (near.address, near.locality) == ("10.0.0.1", Locality("dc1"))
        assert (far.address, far.locality) == ("192.0.2.2", Locality("dc2"))
        (port,) = mesh.service("web.service.dc2.consul").ports
        assert far.port_number(port) == 8080
        assert dict(far.labels)["consul-datacenter"] == "dc2"


async def test_a_service_in_two_datacenters_can_be_one_host(
    joined: tuple[ConsulServer, ConsulServer],
) -> None:
    """With failover by locality, because a datacenter is a region."""
    async with consul_mesh(
        joined[0].address,
        context={"host_template": "{service}.mesh"},
        datacenters=("dc1", "dc2"),
        regions={"dc2": "eu-west/zone-b"},
        services=("web",),
    ) as mesh:
        assert mesh.hosts() == ["web.mesh"]
        found = {each.address: each.locality for each in mesh.endpoints("web.mesh")}
        assert found == {
            "10.0.0.1": Locality("dc1"),
            "192.0.2.2": Locality("eu-west", "zone-b"),
        }


async def test_only_what_a_dead_datacenter_said_is_stale(
    joined: tuple[ConsulServer, ConsulServer],
) -> None:
    """The other one goes on, and the dead one is found again when it is back."""
    near, far = joined
    async with (
        consul_mesh(
            near.address, datacenters=("dc1", "dc2"), services=("web",), timeout=2.0, wait=1.0
        ) as mesh,
        near.client() as api,
    ):
        far.kill()
        await eventually(lambda: "datacenter dc2 is not read" in mesh.problems(), seconds=30)
        assert mesh.addresses("web.service.dc2.consul") == ["192.0.2.2"]
        assert mesh.status().state is RegistryState.SYNCED
        await api.register("web", "web-1", "10.0.0.9", 80)
        await eventually(lambda: mesh.addresses("web.service.dc1.consul") == ["10.0.0.9"])

        await far.start()
        await eventually(lambda: mesh.problems() == "", seconds=40)
        async with far.client() as other:
            await other.register("web", "web-2", "10.2.0.3", 80)
        await eventually(lambda: mesh.addresses("web.service.dc2.consul") == ["10.2.0.3"])
        await api.register("web", "web-1", "10.0.0.1", 80)


async def test_a_datacenter_that_is_not_there_holds_up_nothing_but_itself(
    joined: tuple[ConsulServer, ConsulServer],
) -> None:
    """A slip in the settings."""
    async with consul_mesh(
        joined[0].address, datacenters=("dc1", "dc9"), services=("web",), synced=False
    ) as mesh:
        await eventually(lambda: "web.service.dc1.consul" in mesh.hosts())
        await eventually(lambda: "dc9" in mesh.problems())
        assert "No path to datacenter" in mesh.problems()
        await eventually(lambda: mesh.status().state is RegistryState.SYNCED, seconds=20)
