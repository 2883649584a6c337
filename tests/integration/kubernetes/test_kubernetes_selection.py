"""Namespaces of a real cluster that are not discovered count for nothing."""

import pytest

from config.mesh import MeshConfig
from config.selector import LabelSelector
from tests.support.kube_follower import following_kube, fresh_namespace
from tests.support.poll import eventually
from tests.support.servers.kube_apiserver import KubeApiserver, endpoint_slice, service

pytestmark = pytest.mark.servers
HTTP = {"http": 80}


async def test_namespaces_come_and_go_with_their_labels(kube: KubeApiserver) -> None:
    """Labelling a namespace is all that it takes, in either direction."""
    shop, bank = fresh_namespace(), fresh_namespace()
    selector = LabelSelector(match_labels={"mesh": shop})
    async with kube.client() as client, following_kube(kube) as follower:
        for name, labels in ((shop, {"mesh": shop}), (bank, {})):
            await client.create_namespace(name, labels)
            await client.apply(
                service("a", name, HTTP), endpoint_slice("a", name, HTTP, ["10.1.0.1"])
            )
            await follower.has("a", name, "10.1.0.1")

        follower.aggregate.set_mesh(MeshConfig(discovery_selectors=(selector,)))
        assert follower.service("a", shop) is not None
        assert {key.namespace for key in follower.aggregate.service_keys()} == {shop}

        await client.apply(endpoint_slice("a", bank, HTTP, ["10.1.0.2"]))
        await client.create_namespace(bank, {"mesh": shop})
        await follower.has("a", bank, "10.1.0.2")
        await client.create_namespace(shop, {"mesh": "other"})
        await eventually(lambda: follower.service("a", shop) is None)

        follower.aggregate.set_mesh(MeshConfig())
        assert follower.service("a", shop) is not None
