"""Rules are read of whatever kinds the API server has, while it has them."""

from typing import Any

import pytest

from adapters.kubernetes.reflector import Pace
from tests.support.crds import install_crds, our_crds
from tests.support.kube_follower import following_kube, fresh_namespace
from tests.support.poll import eventually
from tests.support.servers.fixture import Make
from tests.support.servers.kube_apiserver import KubeApiserver, KubeClient, KubeRefusedError

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]
PACE = Pace(patience=60.0, poll=0.5, longest=0.5)
OURS = our_crds()


def virtual_service(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    """A VirtualService of the host `a.mesh`."""
    route = [{"route": [{"destination": {"host": "a.mesh"}}]}]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"hosts": ["a.mesh"], "http": route, **spec},
    }


async def test_kinds_come_and_go_with_their_definitions(make_kube: Make[KubeApiserver]) -> None:
    """A definition that appears later is taken up; with a deleted one its rules are deleted."""
    server = make_kube()
    await server.start()
    shop = fresh_namespace()
    async with server.client() as client, following_kube(server, pace=PACE) as follower:
        await client.create_namespace(shop)
        assert follower.rules(shop) == []
        await install_crds(client)
        entry = {
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": {"name": "out", "namespace": shop},
            "spec": {
                "hosts": ["out.mesh"],
                "resolution": "STATIC",
                "ports": [{"number": 80, "name": "http"}],
                "endpoints": [{"address": "10.1.0.1"}],
            },
        }
        await client.apply(virtual_service("a", shop), entry)
        both = [f"ServiceEntry {shop}/out", f"VirtualService {shop}/a"]
        await eventually(lambda: follower.rules(shop) == both)
        (found,) = (
            each
            for key in follower.aggregate.config_keys()
            if key.kind == "VirtualService" and (each := follower.aggregate.config(key))
        )
        assert found.origin.source == f"east/{shop}/a"
        assert found.created > 0

        weights = [{"destination": {"host": "a.mesh"}, "weight": -1}]
        wrong = virtual_service("wrong", shop, http=[{"route": weights}])
        unchecked = [{**each, "spec": _unchecked(each["spec"])} for each in OURS]
        await client.apply(*unchecked)
        await eventually(lambda: _written(client, wrong))
        await eventually(lambda: follower.problems("weight"))
        (problem,) = follower.problems("weight")
        assert problem.startswith(f"east/{shop}/wrong: VirtualService {shop}/wrong: spec.http[0]")
        assert follower.rules(shop) == both, "one bad rule harms only itself"
        await client.apply(virtual_service("a", shop, http=[{"route": weights}]))
        await eventually(lambda: len(follower.problems("weight")) == 2)
        assert follower.rules(shop) == both, "one that was good stays what it was"
        await client.apply(virtual_service("a", shop))
        await eventually(lambda: len(follower.problems("weight")) == 1)

        await server.restart()
        await client.apply(virtual_service("b", shop))
        await eventually(lambda: f"VirtualService {shop}/b" in follower.rules(shop), seconds=20)

        definition = next(each for each in OURS if each["spec"]["names"]["plural"][0] == "v")
        await client.delete(definition)
        await eventually(lambda: follower.rules(shop) == both[:1], seconds=20)
        await eventually(lambda: not follower.problems("weight"))


async def test_rules_are_left_alone_where_the_registry_gives_none(kube: KubeApiserver) -> None:
    """The common switch holds here too."""
    shop = fresh_namespace()
    async with kube.client() as client:
        await client.create_namespace(shop)
        await install_crds(client)
        await client.apply(virtual_service("a", shop))
        async with following_kube(kube) as follower:
            await eventually(lambda: follower.rules(shop))
        async with following_kube(kube, context={"rules": False}) as follower:
            assert not follower.aggregate.config_keys()
        async with following_kube(kube, namespaces=["default"]) as follower:
            assert follower.rules(shop) == []


def _unchecked(spec: dict[str, Any]) -> dict[str, Any]:
    """A definition that takes anything, as one of another version of the project may."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    versions = [{**each, "schema": {"openAPIV3Schema": schema}} for each in spec["versions"]]
    return {**spec, "versions": versions}


async def _written(client: KubeClient, document: dict[str, Any]) -> bool:
    """Whether the server takes a document by now."""
    try:
        await client.apply(document)
    except KubeRefusedError:
        return False
    return True
