"""Objects that are unusual, and right all the same."""

from typing import Any

import pytest

from adapters.kubernetes.reflector import Pace
from aggregator.model.service import Health, Locality, Protocol, Resolution
from tests.support.crds import our_crds
from tests.support.kube_follower import following_kube, fresh_namespace, node, pod
from tests.support.poll import eventually
from tests.support.servers.fixture import Make
from tests.support.servers.kube_apiserver import (
    KubeApiserver,
    KubeClient,
    KubeRefusedError,
    endpoint_slice,
    service,
)

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]
HTTP = {"http": 80}
PACE = Pace(poll=0.5, longest=0.5)


async def test_a_service_that_becomes_a_name_leaves_its_old_endpoints(kube: KubeApiserver) -> None:
    """Kubernetes leaves the slices of such a Service where they are, and nobody follows them."""
    shop = fresh_namespace()
    async with kube.client() as client, following_kube(kube) as follower:
        await client.create_namespace(shop)
        await client.apply(service("a", shop, HTTP), endpoint_slice("a", shop, HTTP, ["10.1.7.1"]))
        await follower.has("a", shop, "10.1.7.1")

        await client.delete(service("a", shop, HTTP))
        await client.apply(service("a", shop, HTTP, type="ExternalName", externalName="a.example"))
        await follower.has("a", shop, "a.example")
        found = follower.service("a", shop)
        assert found is not None
        assert (found.resolution, found.addresses) == (Resolution.DNS, ())

        await client.delete(service("a", shop, HTTP))
        await client.apply(service("a", shop, HTTP))
        await follower.has("a", shop, "10.1.7.1")


async def test_endpoints_of_one_address_with_different_ports_are_different(
    kube: KubeApiserver,
) -> None:
    """While a named port moves, one slice has the old number and one the new; and a slice need not
    serve every port of its Service.
    """
    shop = fresh_namespace()
    ports = {"http": 80, "grpc": 90}
    async with kube.client() as client, following_kube(kube) as follower:
        await client.create_namespace(shop)
        await client.apply(
            service("a", shop, ports),
            endpoint_slice("a", shop, {"http": 8080, "grpc": 9090}, ["10.1.8.1"], suffix="1"),
            endpoint_slice("a", shop, {"http": 8080, "grpc": 9090}, ["10.1.8.1"], suffix="2"),
            endpoint_slice("a", shop, {"http": 8081}, ["10.1.8.1", "10.1.8.2"], suffix="3"),
        )
        await follower.has("a", shop, "10.1.8.1", "10.1.8.1", "10.1.8.2")
        found = follower.service("a", shop)
        assert found is not None
        served = sorted(
            (each.address, *(each.port_number(port) for port in found.ports))
            for each in follower.endpoints("a", shop)
        )
        assert served == [
            ("10.1.8.1", 8080, 9090),
            ("10.1.8.1", 8081, 0),
            ("10.1.8.2", 8081, 0),
        ]


async def test_what_says_nothing_of_its_place_and_state_is_where_the_registry_is(
    kube: KubeApiserver,
) -> None:
    """A Node without labels, a pod without an address, an endpoint without conditions."""
    shop = fresh_namespace()
    bare = pod("bare", shop, ["10.1.9.9"], node="n-bare")
    del bare["status"]
    slices = endpoint_slice("a", shop, HTTP, ["10.1.9.1", "10.1.9.2", "10.1.9.3"], node="n-bare")
    one, two, three = slices["endpoints"]
    one["targetRef"] = {"kind": "Pod", "name": "bare", "namespace": shop}
    del one["conditions"]
    two["conditions"] = {"ready": False, "serving": True, "terminating": True}
    three["conditions"] = {"ready": True, "serving": True, "terminating": True}
    context = {"locality": "eu/eu-1"}
    async with kube.client() as client, following_kube(kube, context=context) as follower:
        await client.create_namespace(shop)
        await client.apply(
            node("n-bare", {}),
            bare,
            service("a", shop, HTTP, clusterIP="None", publishNotReadyAddresses=True),
            slices,
        )
        await follower.has("a", shop, "10.1.9.1", "10.1.9.2", "10.1.9.3")
        found = follower.endpoints("a", shop)
        assert {each.locality for each in found} == {Locality("eu", "eu-1")}
        assert [each.health for each in found] == [Health.READY, Health.DRAINING, Health.READY]


async def test_the_protocol_is_what_the_field_says_before_the_name(kube: KubeApiserver) -> None:
    """Kubernetes' own words for protocols count too."""
    shop = fresh_namespace()
    wanted = service("a", shop, {"tcp-a": 1, "http-b": 2, "http-c": 3, "grpc": 4, "d": 5})
    for port, told in zip(
        wanted["spec"]["ports"], ("http", "kubernetes.io/h2c", "tls", None, None), strict=True
    ):
        port |= {"appProtocol": told} if told else {}
    async with kube.client() as client, following_kube(kube) as follower:
        await client.create_namespace(shop)
        await client.apply(wanted)
        await eventually(lambda: follower.service("a", shop))
        found = follower.service("a", shop)
        assert found is not None
        assert [port.protocol for port in found.ports] == [
            Protocol.HTTP,
            Protocol.HTTP2,
            Protocol.TLS,
            Protocol.GRPC,
            Protocol.TCP,
        ]


async def test_a_kind_is_read_in_a_version_that_is_served(make_kube: Make[KubeApiserver]) -> None:
    """The best one may be known and not be served, and that may change."""
    server = make_kube()
    await server.start()
    shop = fresh_namespace()
    plural = "serviceentries"
    (definition,) = (each for each in our_crds() if each["spec"]["names"]["plural"] == plural)
    async with server.client() as client, following_kube(server, pace=PACE) as follower:
        await client.create_namespace(shop)
        await client.apply(_serving(definition, "v1beta1"))
        await eventually(lambda: _written(client, _entry("out", shop, "v1beta1")))
        await eventually(lambda: follower.rules(shop) == [f"ServiceEntry {shop}/out"])

        await client.apply(_serving(definition, "v1"))
        await eventually(lambda: _written(client, _entry("other", shop, "v1")))
        both = [f"ServiceEntry {shop}/other", f"ServiceEntry {shop}/out"]
        await eventually(lambda: follower.rules(shop) == both)
        assert not follower.problems(shop)


def _entry(name: str, namespace: str, version: str) -> dict[str, Any]:
    return {
        "apiVersion": f"networking.istio.io/{version}",
        "kind": "ServiceEntry",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"hosts": [f"{name}.mesh"], "ports": [{"number": 80, "name": "http"}]},
    }


async def _written(client: KubeClient, document: dict[str, Any]) -> bool:
    """Whether the server takes a document by now."""
    try:
        await client.apply(document)
    except KubeRefusedError:
        return False
    return True


def _serving(definition: dict[str, Any], only: str) -> dict[str, Any]:
    """A definition of which one version is served."""
    spec = definition["spec"]
    versions = [{**each, "served": each["name"] == only} for each in spec["versions"]]
    return {**definition, "spec": {**spec, "versions": versions}}
