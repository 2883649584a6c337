"""Rules in Consul's KV store, and the daemon's own entry in its catalog."""

import json

import pytest

from adapters.consul.settings import ConsulRegistration
from aggregator.model.config import ConfigKey
from tests.support.consul_mesh import consul_mesh
from tests.support.poll import eventually
from tests.support.servers.consul import ConsulClient, ConsulRefusedError, ConsulServer

pytestmark = pytest.mark.servers


def rule(name: str, host: str, timeout: str = "1s") -> str:
    """A rule in YAML."""
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: shop}}
spec:
  hosts: [{host}]
  http: [{{timeout: {timeout}, route: [{{destination: {{host: {host}}}}}]}}]
"""


def key(name: str) -> ConfigKey:
    """What identifies such a rule."""
    return ConfigKey("VirtualService", "shop", name)


async def test_rules_come_change_and_go_with_their_keys(
    consul: ConsulServer, api: ConsulClient, prefix: str
) -> None:
    """YAML and JSON, in folders too; keys of others that only begin alike are not read."""
    await api.put(f"{prefix}/web", rule("web", "web.mesh"))
    await api.put(f"{prefix}-other/web", rule("other", "web.mesh"))
    await api.put(f"{prefix}/", "")
    async with consul_mesh(consul.address, kv_prefix=prefix, services=("none",)) as mesh:
        assert set(mesh.aggregate.config_keys()) == {key("web")}
        spec = {"hosts": ["api.mesh"], "http": [{"route": [{"destination": {"host": "api.mesh"}}]}]}
        await api.put(
            f"{prefix}/team/api.json",
            json.dumps(
                {
                    "apiVersion": "networking.istio.io/v1",
                    "kind": "VirtualService",
                    "metadata": {"name": "api", "namespace": "shop"},
                    "spec": spec,
                }
            ),
        )
        await eventually(lambda: set(mesh.aggregate.config_keys()) == {key("web"), key("api")})
        await api.put(f"{prefix}/web", rule("web2", "web.mesh"))
        await eventually(lambda: set(mesh.aggregate.config_keys()) == {key("web2"), key("api")})
        await api.delete(f"{prefix}/team/", recurse=True)
        await eventually(lambda: set(mesh.aggregate.config_keys()) == {key("web2")})
        await api.delete(f"{prefix}/", recurse=True)
        await eventually(lambda: not mesh.aggregate.config_keys())


async def test_a_bad_value_keeps_only_its_own_last_good_state(
    consul: ConsulServer, api: ConsulClient, prefix: str
) -> None:
    """Told with the key and line, and gone from the problems once it is mended."""
    await api.put(f"{prefix}/one", rule("one", "one.mesh"))
    await api.put(f"{prefix}/two", rule("two", "two.mesh"))
    async with consul_mesh(consul.address, kv_prefix=prefix, services=("none",)) as mesh:
        await api.put(f"{prefix}/one", rule("one", "one.mesh").replace("timeout", "timeuot"))
        await eventually(lambda: "timeuot" in mesh.problems())
        assert f"consul/kv/{prefix}/one:7" in mesh.problems()
        await api.put(f"{prefix}/two", rule("two", "two.mesh", "9s"))
        await api.put(f"{prefix}/three", b"\\xff\\xfe not text")
        await eventually(lambda: "UTF-8" in mesh.problems() or "three" in mesh.problems())

        def timeout_of_two() -> str:
            config = mesh.aggregate.config(key("two"))
            return str(config.spec.http[0].timeout) if config else ""

        await eventually(lambda: timeout_of_two() == "9s")
        assert set(mesh.aggregate.config_keys()) == {key("one"), key("two")}
        await api.put(f"{prefix}/one", rule("one", "one.mesh"))
        await api.delete(f"{prefix}/three")
        await eventually(lambda: mesh.problems() == "")


async def test_rules_are_left_alone_where_the_registry_gives_services_only(
    consul: ConsulServer, api: ConsulClient, prefix: str
) -> None:
    """The setting that all registries have."""
    await api.put(f"{prefix}/web", rule("web", "web.mesh"))
    async with consul_mesh(
        consul.address, context={"rules": False}, kv_prefix=prefix, services=("none",)
    ) as mesh:
        assert not mesh.aggregate.config_keys()


async def test_the_daemon_is_in_the_catalog_for_as_long_as_it_runs(
    consul: ConsulServer, api: ConsulClient, prefix: str
) -> None:
    """Alive by its own word, back if somebody takes it out, gone when it ends."""
    registration = ConsulRegistration(address="10.0.0.5", port=15010, name=prefix, tags=("xds",))
    async with consul_mesh(consul.address, services=("none",), register=registration):

        async def status() -> list[str]:
            found = await api.call("GET", f"health/service/{prefix}")
            return [check["Status"] for each in found for check in each["Checks"]]

        await eventually(status, lambda found: found and set(found) == {"passing"})
        (entry,) = await api.call("GET", f"catalog/service/{prefix}")
        assert (entry["ServiceAddress"], entry["ServicePort"]) == ("10.0.0.5", 15010)
        assert entry["ServiceTags"] == ["xds"]
        await api.call("PUT", f"agent/service/deregister/{entry['ServiceID']}")
        await eventually(status, lambda found: found and set(found) == {"passing"}, seconds=15)
    with pytest.raises(ConsulRefusedError):
        await api.call("GET", f"agent/service/{entry['ServiceID']}")
