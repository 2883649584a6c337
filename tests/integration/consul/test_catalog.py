"""Services of one datacenter of a real Consul."""

import pytest

from aggregator.model.service import Health, Locality, Protocol
from aggregator.registry.status import RegistryState
from tests.support.consul_mesh import ConsulMesh, consul_mesh
from tests.support.poll import eventually
from tests.support.servers.consul import ConsulClient, ConsulServer

pytestmark = pytest.mark.servers


async def test_what_is_registered_is_served(
    consul: ConsulServer, api: ConsulClient, prefix: str
) -> None:
    """The plain case, with all that a service may tell."""
    name = f"{prefix}-web"
    await api.add_node(f"{prefix}-n1", "10.0.0.9", {"zone": "b"})
    await api.register(
        name,
        f"{name}-1",
        "10.0.0.1",
        8080,
        node=f"{prefix}-n1",
        tags=["version=v1", "prod"],
        meta={"protocol": "http"},
        Weights={"Passing": 3, "Warning": 1},
    )
    await api.register(name, f"{name}-2", "", 8080, node=f"{prefix}-n1", status="warning")

    async with consul_mesh(consul.address, services=(f"{prefix}-*",)) as mesh:
        host = f"{name}.service.dc1.consul"
        assert mesh.hosts() == [host]
        (port,) = mesh.service(host).ports
        assert (port.number, port.name, port.protocol) == (8080, "http-8080", Protocol.HTTP)
        one, two = mesh.endpoints(host)
        assert (one.address, one.weight, one.locality) == ("10.0.0.1", 3, Locality("dc1", "b"))
        assert dict(one.labels) == {
            "version": "v1",
            "consul-tag/prod": "true",
            "protocol": "http",
            "consul-datacenter": "dc1",
        }
        assert (two.address, two.weight, two.health) == ("10.0.0.9", 1, Health.READY)
        assert mesh.problems() == ""


async def test_instances_come_change_and_go_while_it_runs(
    consul: ConsulServer, api: ConsulClient, prefix: str
) -> None:
    """Watches, not polling: nothing here waits for the next sweep."""
    name, host = f"{prefix}-web", f"{prefix}-web.service.dc1.consul"
    async with consul_mesh(consul.address, services=(f"{prefix}-*",)) as mesh:
        await api.register(name, f"{name}-1", "10.0.0.1", 80)
        await eventually(lambda: mesh.addresses(host) == ["10.0.0.1"])
        await api.register(name, f"{name}-2", "10.0.0.2", 80)
        await eventually(lambda: mesh.addresses(host) == ["10.0.0.1", "10.0.0.2"])
        await api.set_status(f"{name}-1", "critical")
        await eventually(lambda: mesh.addresses(host) == ["10.0.0.2"])
        assert [each.health for each in mesh.endpoints(host)] == [Health.NOT_READY, Health.READY]
        await api.set_status(f"{name}-1", "passing")
        await eventually(lambda: mesh.addresses(host) == ["10.0.0.1", "10.0.0.2"])
        await api.deregister(f"{name}-2")
        await eventually(lambda: mesh.addresses(host) == ["10.0.0.1"])
        await api.deregister(f"{name}-1")
        await eventually(lambda: mesh.addresses(host) == [])


async def gone(mesh: ConsulMesh, host: str) -> None:
    """Return once a host has no endpoints, or is not there."""
    await eventually(lambda: not mesh.addresses(host))


async def test_a_service_in_maintenance_gets_no_traffic_whatever_the_settings_say(
    consul: ConsulServer, api: ConsulClient, prefix: str
) -> None:
    """Somebody took it out on purpose."""
    name, host = f"{prefix}-web", f"{prefix}-web.service.dc1.consul"
    await api.call(
        "PUT",
        "agent/service/register",
        {"Name": name, "ID": name, "Address": "10.0.0.1", "Port": 80},
    )
    states = ("passing", "warning", "critical")
    async with consul_mesh(consul.address, services=(f"{prefix}-*",), health=states) as mesh:
        await eventually(lambda: mesh.addresses(host) == ["10.0.0.1"])
        await api.call("PUT", f"agent/service/maintenance/{name}?enable=true&reason=test")
        await gone(mesh, host)
        await api.call("PUT", f"agent/service/maintenance/{name}?enable=false")
        await eventually(lambda: mesh.addresses(host) == ["10.0.0.1"])
    await api.call("PUT", f"agent/service/deregister/{name}")


async def test_only_what_the_settings_ask_for_is_read(
    consul: ConsulServer, api: ConsulClient, prefix: str
) -> None:
    """By name and tag; an instance that gets the tag later comes then."""
    await api.register(f"{prefix}-a", f"{prefix}-a1", "10.0.0.1", 80, tags=["prod"])
    await api.register(f"{prefix}-a", f"{prefix}-a2", "10.0.0.2", 80, tags=["production"])
    await api.register(f"{prefix}-ab", f"{prefix}-ab1", "10.0.0.3", 80)
    await api.register(f"{prefix}-b", f"{prefix}-b1", "10.0.0.4", 80, tags=["prod"])
    one, other = (f"{prefix}-{name}.service.dc1.consul" for name in ("a", "ab"))
    async with consul_mesh(consul.address, services=(f"{prefix}-a*",), tags=("prod",)) as mesh:
        assert mesh.hosts() == [one]
        assert mesh.addresses(one) == ["10.0.0.1"]
        await api.register(f"{prefix}-ab", f"{prefix}-ab1", "10.0.0.3", 80, tags=["prod"])
        await eventually(lambda: mesh.hosts() == [one, other])


async def test_namespaces_are_asked_for_by_name(consul: ConsulServer) -> None:
    """This edition of Consul has none, and its own words say so."""
    async with consul_mesh(consul.address, namespaces=("shop",), synced=False) as mesh:
        await eventually(lambda: mesh.status().state is RegistryState.FAILED)
        assert "Namespaces are a Consul Enterprise feature" in mesh.status().last_error
