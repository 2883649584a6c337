"""What is in a Kubernetes cluster, and what happens to it, is in the mesh."""

from collections.abc import Mapping
from typing import Any

import pytest

from aggregator.model.change import EndpointsChanged
from aggregator.model.registry import Content, NetworkGateway, ShardKey
from aggregator.model.secret import Redacted, Secret
from aggregator.model.service import (
    Health,
    Locality,
    Protocol,
    Resolution,
    ServiceKey,
    TrafficDistribution,
)
from tests.support.documents import load
from tests.support.kube_follower import following_kube, fresh_namespace, node, place, pod
from tests.support.poll import eventually
from tests.support.servers.kube_apiserver import KubeApiserver, endpoint_slice, service

pytestmark = pytest.mark.servers
HTTP = {"http": 80}


async def test_a_service_with_its_endpoints_is_read_and_followed(kube: KubeApiserver) -> None:
    """The plain case, with everything that happens to it while it is watched."""
    shop = fresh_namespace()
    async with kube.client() as client, following_kube(kube) as follower:
        await client.create_namespace(shop)
        await client.apply(
            service("a", shop, HTTP, selector={"app": "a"}),
            endpoint_slice("a", shop, {"http": 8080}, ["10.1.0.1", "10.1.0.2"]),
        )
        await follower.has("a", shop, "10.1.0.1", "10.1.0.2")
        found = follower.service("a", shop)
        assert found is not None
        assert [(port.number, port.protocol) for port in found.ports] == [(80, Protocol.HTTP)]
        assert found.addresses[0].startswith("10.")
        assert found.origin.source == f"east/{shop}/a"
        assert follower.endpoints("a", shop)[0].ports == (("http", 8080),)

        await client.apply(endpoint_slice("a", shop, {"http": 8080}, ["10.1.0.2", "10.1.0.3"]))
        await follower.has("a", shop, "10.1.0.2", "10.1.0.3")
        await client.delete(endpoint_slice("a", shop, {}, []))
        await follower.has("a", shop)
        await client.delete(service("a", shop, {}))
        await eventually(lambda: follower.service("a", shop) is None)


async def test_all_slices_of_a_service_are_one_list_without_doubles(kube: KubeApiserver) -> None:
    """While a slice is split or moved an address is in two of them; IPv6 has slices of its own."""
    shop = fresh_namespace()
    async with kube.client() as client, following_kube(kube) as follower:
        await client.create_namespace(shop)
        await client.apply(
            service("a", shop, HTTP),
            endpoint_slice("a", shop, HTTP, ["10.1.1.1", "10.1.1.2"], suffix="1"),
            endpoint_slice("a", shop, HTTP, ["10.1.1.2", "10.1.1.3"], suffix="2", ready=False),
            endpoint_slice("a", shop, HTTP, ["fd00::1"], suffix="6"),
        )
        await follower.has("a", shop, "10.1.1.1", "10.1.1.2", "10.1.1.3", "fd00::1")
        health = {each.address: each.health for each in follower.endpoints("a", shop)}
        assert health["10.1.1.2"] is Health.READY, "of two words on one address the better counts"
        assert health["10.1.1.3"] is Health.NOT_READY

        await client.delete(endpoint_slice("a", shop, {}, [], suffix="1"))
        await follower.has("a", shop, "10.1.1.2", "10.1.1.3", "fd00::1")
        assert follower.endpoints("a", shop)[0].health is Health.NOT_READY


async def test_endpoints_have_what_their_pods_and_nodes_tell(kube: KubeApiserver) -> None:
    """Labels, identity and place are not in a slice; a pod's label counts before its node."""
    shop, where = fresh_namespace(), "n-place"
    references = [
        {"kind": "Pod", "name": "one", "namespace": shop},
        {"kind": "Pod", "name": "two", "namespace": shop},
    ]
    slices = endpoint_slice("a", shop, HTTP, ["10.1.2.1", "10.1.2.2"], node=where)
    for endpoint, reference in zip(slices["endpoints"], references, strict=True):
        endpoint["targetRef"] = reference
    labelled = {"app": "a", "istio-locality": "us.us-1.rack", "topology.istio.io/network": "net9"}
    async with kube.client() as client, following_kube(kube) as follower:
        await client.create_namespace(shop)
        await client.apply(
            node(where, place("eu", "eu-1", "row")),
            pod("one", shop, ["10.1.2.1"], labels={"app": "a"}, node=where, account="shopper"),
            pod("two", shop, ["10.1.2.2"], labels=labelled, node=where),
            service("a", shop, HTTP),
            slices,
        )
        await eventually(
            lambda: [each.labels for each in follower.endpoints("a", shop)],
            lambda found: len(found) == 2 and all(found),
        )
        one, two = follower.endpoints("a", shop)
        assert (one.locality, one.network) == (Locality("eu", "eu-1", "row"), "")
        assert (one.service_account, one.node) == ("shopper", where)
        assert (two.locality, two.network) == (Locality("us", "us-1", "rack"), "net9")

        await client.patch(
            {"apiVersion": "v1", "kind": "Pod", "metadata": _named("one", shop, version="v2")}
        )
        await eventually(lambda: ("version", "v2") in follower.endpoints("a", shop)[0].labels)
        assert follower.aggregate.place_of(shop, "east", ["10.1.2.1"]).zone == "eu-1"
        await client.apply(node(where, place("eu", "eu-2")))
        await eventually(
            lambda: follower.aggregate.place_of(shop, "east", ["10.1.2.1"]).zone == "eu-2"
        )
        await eventually(
            lambda: follower.endpoints("a", shop)[0].locality == Locality("eu", "eu-2")
        )
        assert follower.endpoints("a", shop)[1].locality == Locality("us", "us-1", "rack")


async def test_a_change_of_one_pod_is_one_change_of_its_services(kube: KubeApiserver) -> None:
    """What a change costs follows what it concerns."""
    shop = fresh_namespace()
    async with kube.client() as client:
        await client.create_namespace(shop)
        for name, address in (("a", "10.1.3.1"), ("b", "10.1.3.2")):
            await client.apply(
                pod(name, shop, [address], labels={"app": name}),
                service(name, shop, HTTP),
                endpoint_slice(name, shop, HTTP, [address]),
            )
        async with following_kube(kube) as follower:
            assert [each.labels for each in follower.endpoints("a", shop)] == [(("app", "a"),)]
            follower.changes.clear()
            merged = follower.aggregate.merge_total
            await client.patch(
                {"apiVersion": "v1", "kind": "Pod", "metadata": _named("a", shop, tier="x")}
            )
            await eventually(lambda: ("tier", "x") in follower.endpoints("a", shop)[0].labels)
            assert [type(each) for each in follower.changes] == [EndpointsChanged]
            assert follower.aggregate.merge_total == merged + 1


async def test_the_kinds_of_services_are_told_apart(kube: KubeApiserver) -> None:
    """Headless, external, unready ones, and what they say of near endpoints and load balancers."""
    shop = fresh_namespace()
    outside = service("c", shop, HTTP, type="LoadBalancer", externalIPs=["192.0.2.9"])
    outside["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
    async with kube.client() as client, following_kube(kube) as follower:
        await client.create_namespace(shop)
        await client.apply(
            service("a", shop, HTTP, clusterIP="None", publishNotReadyAddresses=True),
            service("b", shop, HTTP, type="ExternalName", externalName="example.com"),
            outside,
            service("d", shop, {"x": 90}, trafficDistribution="PreferSameNode"),
        )
        await eventually(lambda: follower.service("d", shop))
        a, b, c, d = (follower.service(name, shop) for name in "abcd")
        assert a is not None
        assert (a.headless, a.addresses, a.publish_not_ready) == (True, (), True)
        assert b is not None
        assert (b.resolution, b.mesh_external) == (Resolution.DNS, True)
        assert follower.addresses("b", shop) == ["example.com"]
        assert c is not None
        assert d is not None
        assert d.traffic_distribution is TrafficDistribution.PREFER_SAME_NODE
        await eventually(
            lambda: follower.service("c", shop),
            lambda found: (
                found is not None and found.external_addresses == ("192.0.2.1", "192.0.2.9")
            ),
        )


async def test_long_lists_are_read_in_pages(kube: KubeApiserver) -> None:
    """A cluster's objects need not fit into one answer."""
    shop = fresh_namespace()
    async with kube.client() as client:
        await client.create_namespace(shop)
        names = [f"s{number}" for number in range(7)]
        await client.apply(*(service(name, shop, HTTP) for name in names))
        async with following_kube(kube, page_size=2) as follower:
            assert all(follower.service(name, shop) for name in names)


async def test_a_vm_joins_a_service_and_a_pod_joins_a_vm_service(kube: KubeApiserver) -> None:
    """Selectors pick workloads of any registry, each with a place of its own."""
    shop = fresh_namespace()
    async with kube.client() as client, following_kube(kube) as follower:
        await client.create_namespace(shop)
        await client.apply(
            node("n-vm", place("eu", "eu-1")),
            pod("one", shop, ["10.1.4.1"], labels={"app": "vms"}, node="n-vm", account="shopper"),
            service("a", shop, HTTP, selector={"app": "a"}),
            endpoint_slice("a", shop, {"http": 8080}, ["10.1.4.2"]),
        )
        await follower.has("a", shop, "10.1.4.2")
        vm = "{address: 192.0.2.5, labels: {app: a}, locality: us/us-1, network: net2, weight: 3}"
        sink = follower.aggregate.sink("vms")
        shard = ShardKey("vms", "rules", Content.RULES)
        sink.update(shard, "vm", load("WorkloadEntry", vm, namespace=shop).config)
        await follower.has("a", shop, "10.1.4.2", "192.0.2.5")
        joined = follower.endpoints("a", shop)[1]
        assert (joined.locality, joined.network, joined.weight) == (
            Locality("us", "us-1"),
            "net2",
            3,
        )

        vms = ServiceKey(shop, "vms.mesh")
        entry = """
            hosts: [vms.mesh]
            resolution: STATIC
            ports: [{number: 80, name: http, targetPort: 8080}]
            workloadSelector: {labels: {app: vms}}
            """
        sink.update(shard, "entry", load("ServiceEntry", entry, namespace=shop).config)
        (picked,) = await eventually(lambda: follower.aggregate.endpoints(vms))
        assert picked.address == "10.1.4.1"
        assert (picked.locality, picked.service_account) == (Locality("eu", "eu-1"), "shopper")
        assert (picked.cluster_id, picked.registry) == ("east", "east")

        await client.patch(
            {"apiVersion": "v1", "kind": "Pod", "metadata": _named("one", shop, app="other")}
        )
        await eventually(lambda: follower.aggregate.endpoints(vms) == ())


async def test_the_system_namespace_names_the_network(kube: KubeApiserver) -> None:
    """Endpoints and workloads without a network of their own are in that of the cluster."""
    shop, system = fresh_namespace(), fresh_namespace()
    async with (
        kube.client() as client,
        following_kube(kube, system_namespace=system, context={"network": "net0"}) as follower,
    ):
        await client.create_namespace(shop)
        await client.apply(service("a", shop, HTTP), endpoint_slice("a", shop, HTTP, ["10.1.5.1"]))
        await follower.has("a", shop, "10.1.5.1")
        assert follower.endpoints("a", shop)[0].network == "net0"
        await client.create_namespace(system, {"topology.istio.io/network": "net1"})
        await eventually(lambda: follower.endpoints("a", shop)[0].network == "net1")
        found = follower.aggregate.namespace(system)
        assert found is not None
        assert ("topology.istio.io/network", "net1") in found.labels


async def test_services_labelled_with_a_network_are_gateways_to_it(kube: KubeApiserver) -> None:
    """By the addresses of a load balancer, or by a port of the nodes that are labelled alike."""
    shop, network = fresh_namespace(), "net-gateway"
    label = {"topology.istio.io/network": network}
    balanced = service("balanced", shop, {"tls": 15443}, labels=label, type="LoadBalancer")
    balanced["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
    by_node = service("by-node", shop, {"tls": 15443}, labels=label, type="NodePort")
    by_node["spec"]["ports"][0]["nodePort"] = 30443
    async with kube.client() as client, following_kube(kube) as follower:
        await client.create_namespace(shop)
        await client.apply(
            balanced,
            by_node,
            node("n-gate", label, "192.0.2.10"),
            node("n-other", {}, "192.0.2.11"),
        )
        expected = (
            NetworkGateway(network, "192.0.2.1", 15443, "east"),
            NetworkGateway(network, "192.0.2.10", 30443, "east"),
        )
        await eventually(lambda: follower.aggregate.gateways(network) == expected)
        await client.delete(by_node, node("n-gate", {}))
        await eventually(lambda: follower.aggregate.gateways(network) == expected[:1])
        await client.delete(balanced)
        await eventually(lambda: follower.aggregate.gateways(network) == ())


async def test_secrets_for_remote_clusters_are_told_where_that_is_asked_for(
    kube: KubeApiserver,
) -> None:
    """Labelled ones of one namespace, and no other secret is ever read."""
    shop = fresh_namespace()
    told: list[dict[str, Secret]] = []
    async with kube.client() as client:
        await client.create_namespace(shop)
        async with following_kube(kube, secrets_namespace=shop) as follower:
            reader = follower.aggregate.sink("reader")
            reader.follow_secrets("east", lambda found, _deleted: told.append(dict(found)))
            assert told == [{}], "an empty listing is told too"
            await client.apply(
                _secret("plain", shop, {}),
                _secret("west", shop, {"istio/multiCluster": "true"}),
            )
            await eventually(lambda: len(told) == 2)
            (found,) = told[-1].values()
            assert (found.name, found.data) == ("west", {"west": Redacted(b"text")})
            await client.delete(_secret("west", shop, {}))
            await eventually(lambda: told[-1] == {})


async def test_what_is_odd_is_told_with_cluster_kind_and_object(kube: KubeApiserver) -> None:
    """A Service without ports, a slice of no Service; both are still what they are."""
    shop = fresh_namespace()
    async with kube.client() as client, following_kube(kube) as follower:
        await client.create_namespace(shop)
        await client.apply(
            service("empty", shop, {}, clusterIP="None"),
            endpoint_slice("nobody", shop, HTTP, ["10.1.6.1"]),
            service("good", shop, HTTP),
        )
        await eventually(lambda: len(follower.problems(shop)) == 2)
        assert follower.problems(shop) == [
            f"east/{shop}/empty: Service {shop}/empty: it has no ports, so nothing can be sent to "
            "it",
            f"east/{shop}/nobody-1: EndpointSlice {shop}/nobody-1: "
            "metadata.labels[\"kubernetes.io/service-name\"]: there is no Service 'nobody' in "
            f"namespace {shop}",
        ]
        assert follower.service("good", shop)
        await client.apply(service("nobody", shop, HTTP), service("empty", shop, HTTP))
        await eventually(lambda: not follower.problems(shop))
        await follower.has("nobody", shop, "10.1.6.1")


def _named(name: str, namespace: str, **labels: str) -> dict[str, Any]:
    return {"name": name, "namespace": namespace, "labels": labels}


def _secret(name: str, namespace: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "stringData": {name: "text"},
    }
