"""What people and programs put into a real Consul by mistake."""

from pathlib import Path
from typing import Any

import pytest

from aggregator.generators.spec import CLUSTER
from tests.support.consul_mesh import consul_mesh
from tests.support.daemon_process import serving
from tests.support.poll import eventually
from tests.support.servers.consul import ConsulClient, ConsulServer
from tests.support.xds_client import connected

pytestmark = pytest.mark.servers

RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: web, namespace: shop}}
spec: {{host: {host}, trafficPolicy: {{connectionPool: {{tcp: {{connectTimeout: {timeout}}}}}}}}}
"""


async def test_each_mistake_costs_only_what_it_is_in(
    consul: ConsulServer, api: ConsulClient, prefix: str
) -> None:
    """Told with its reason, while the rest is served."""

    async def put(name: str, number: int, address: str, port: int, **more: Any) -> None:
        await api.register(f"{prefix}-{name}", f"{prefix}-{name}-{number}", address, port, **more)

    good = f"{prefix}-good.service.dc1.consul"
    large = f"{prefix}-large.service.dc1.consul"
    await put("good", 1, "10.0.0.1", 80)
    await put("good", 2, "10.0.0.2", -5)
    await put("good", 3, "10.0.0.3", 700_000)
    await put("good", 4, "not an address", 80)
    await put("not dns!", 1, "10.0.0.1", 80)
    await put("ünïcode", 1, "10.0.0.1", 80)
    await put("x" * 70, 1, "10.0.0.1", 80)
    await put("a/../b?c", 1, "10.0.0.1", 80)
    await put("portless", 1, "10.0.0.1", 0)
    await put("tags", 1, "10.0.0.1", 80, tags=["", "=", "a=\x00\x1b[31m", "é", "x" * 5000])
    for number in range(2):
        # Consul itself takes at most 64 pairs of meta, but any number of tags.
        tags = [f"{number}-{each}=" + "x" * 1000 for each in range(400)]
        await put("large", number, f"10.0.1.{number}", 80, tags=tags)

    async with consul_mesh(consul.address, services=(f"{prefix}-*",)) as mesh:
        assert mesh.hosts() == sorted([good, large, f"{prefix}-tags.service.dc1.consul"])
        assert mesh.addresses(good) == ["10.0.0.1"]
        assert mesh.addresses(large) == ["10.0.1.0", "10.0.1.1"]
        problems = mesh.problems()
        for told in ("-5", "700000", "not an address", "not dns!", "portless", "at most 65536"):
            assert told in problems
        assert all(each.isprintable() for each in problems.split("\n"))
        assert len(problems) < 8000
        await put("good", 2, "10.0.0.2", 80)
        await eventually(lambda: mesh.addresses(good) == ["10.0.0.1", "10.0.0.2"])
        assert "-5" not in mesh.problems()
    for name in ("not dns!", "ünïcode", "a/../b?c"):
        await api.deregister(f"{prefix}-{name}-1")


async def test_a_rule_in_a_key_reaches_the_proxies(
    consul: ConsulServer, api: ConsulClient, prefix: str, tmp_path: Path
) -> None:
    """From the KV store to a stream, and a mistake in it never."""
    host = f"{prefix}-web.service.dc1.consul"
    await api.register(f"{prefix}-web", f"{prefix}-web-1", "10.0.0.1", 80)
    file = tmp_path / "mesh.yaml"
    file.write_text(
        f"registries:\n- {{name: dc1, type: consul, address: '{consul.address}', "
        f"services: ['{prefix}-*'], kv_prefix: {prefix}/rules, namespace: shop}}\n"
    )
    async with serving("-c", str(file)) as daemon:
        await daemon.ready()
        async with connected(daemon.grpc) as stream:
            name = f"outbound|80||{host}"
            assert name in (await stream.get(CLUSTER)).names
            await api.put(f"{prefix}/rules/web", RULE.format(host=host, timeout="7s"))
            assert b"\x08\x07" in (await stream.take(CLUSTER)).resources[name]
            await api.put(f"{prefix}/rules/web", RULE.format(host=host, timeout="seven"))
            await eventually(lambda: daemon.logged("problem"))
            assert f"kv/{prefix}/rules/web:5" in str(daemon.logged("problem"))
            await api.put(f"{prefix}/rules/web", RULE.format(host=host, timeout="9s"))
            assert b"\x08\x09" in (await stream.take(CLUSTER)).resources[name]
        await api.delete(f"{prefix}/rules/", recurse=True)
