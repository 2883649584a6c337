"""Tests of adapters.kubernetes.catalog: objects go in as JSON, and come out as a mesh."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from adapters.kubernetes.catalog import Catalog
from adapters.kubernetes.decode import (
    Decode,
    decode_namespaces,
    decode_node_places,
    decode_pods,
    decode_services,
    decode_slices,
)
from adapters.kubernetes.problem import ProblemBook
from adapters.kubernetes.publisher import Publisher
from adapters.kubernetes.table import Taker
from aggregator.model.registry import NetworkGateway, RegistryContext
from aggregator.model.service import Endpoint, Locality, ServiceKey
from aggregator.registry.aggregate import Aggregate
from tests.support.clock import FakeClock
from tests.support.kube_follower import node, place, pod
from tests.support.servers.kube_apiserver import endpoint_slice, service

HTTP = {"http": 80}
HOST = ServiceKey("shop", "a.shop.svc.cluster.local")
Document = Mapping[str, Any]


class Cluster:
    """A catalog that feeds an aggregate."""

    def __init__(self, **context: Any) -> None:
        made = RegistryContext(name="east", cluster_id="east", **context)
        self.changes: list[object] = []
        self.aggregate = Aggregate(self.changes.extend, clock=FakeClock())
        sink = self.aggregate.sink("east", made)
        self.asked_for_nodes: list[bool] = []
        self.problems = ProblemBook(sink)
        self.catalog = Catalog(
            made,
            Publisher(sink, "east"),
            self.problems,
            system_namespace="istio-system",
            on_node_port=lambda: self.asked_for_nodes.append(True),
        )
        self._kinds: dict[str, tuple[Decode[Any], Taker[Any]]] = {
            "Namespace": (decode_namespaces("east"), self.catalog.namespaces),
            "Node": (decode_node_places("east"), self.catalog.nodes),
            "Pod": (decode_pods("east"), self.catalog.pods),
            "EndpointSlice": (decode_slices("east"), self.catalog.slices),
            "Service": (decode_services("east"), self.catalog.services),
        }

    def put(self, *documents: Document) -> None:
        """The server says that objects are like this."""
        for document in documents:
            decode, taker = self._kinds[document["kind"]]
            decoded = decode(Raw(json.dumps(document).encode()))
            taker.put((decoded.namespace, decoded.name), decoded.object)

    def delete(self, *documents: Document) -> None:
        """The server says that they are gone."""
        for document in documents:
            metadata = document["metadata"]
            _, taker = self._kinds[document["kind"]]
            taker.put((metadata.get("namespace", ""), metadata["name"]), None)

    async def listed(self, kind: str, *documents: Document, namespace: str = "") -> None:
        """The server lists a kind."""
        decode, taker = self._kinds[kind]
        decoded = [decode(Raw(json.dumps(each).encode())) for each in documents]
        found = {(each.namespace, each.name): each.object for each in decoded}
        await taker.list(namespace, {name: each for name, each in found.items() if each})

    async def begin(self, *documents: Document) -> "Cluster":
        """Everything is listed for the first time."""
        for kind in self._kinds:
            await self.listed(kind, *(each for each in documents if each["kind"] == kind))
        await self.catalog.publish()
        return self

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Those of the service `a`."""
        return self.aggregate.endpoints(HOST)

    @property
    def addresses(self) -> list[str]:
        """Their addresses."""
        return [each.address for each in self.endpoints]

    def told(self) -> list[str]:
        """What is wrong."""
        self.problems.flush()
        found = self.aggregate.problems().values()
        return [str(each) for problems in found for each in problems]


def of(name: str, *targets: str, addresses: Iterable[str] = ()) -> dict[str, Any]:
    """A slice of `a` with an endpoint for each address, which names a pod."""
    made = endpoint_slice("a", "shop", HTTP, list(addresses), suffix=name)
    for endpoint, target in zip(made["endpoints"], targets, strict=True):
        endpoint["targetRef"] = {"kind": "Pod", "name": target, "namespace": "shop"}
    return made


async def test_nothing_is_told_before_all_is_known() -> None:
    """An endpoint without its labels would leave its subset, and come back."""
    cluster = Cluster()
    slices = of("1", "p", addresses=["10.0.0.1"])
    await cluster.listed("EndpointSlice", slices)
    await cluster.listed("Service", service("a", "shop", HTTP))
    cluster.put(pod("p", "shop", ["10.0.0.1"], labels={"app": "a"}))
    assert cluster.changes == []

    await cluster.catalog.publish()
    assert cluster.endpoints[0].labels == (("app", "a"),)


async def test_what_the_pod_says_counts_before_its_node_and_the_registry() -> None:
    """Locality: pod, node, the slice's zone, the registry. Network: pod, registry."""
    slices = of("1", "one", "two", "gone", addresses=["10.0.0.1", "10.0.0.2", "10.0.0.3"])
    slices["endpoints"][2]["zone"] = "z"
    label = {"topology.istio.io/locality": "us.us-1", "topology.istio.io/network": "n1"}
    cluster = await Cluster(locality="eu/default", network="n0").begin(
        service("a", "shop", HTTP),
        slices,
        node("n", place("eu", "eu-1")),
        pod("one", "shop", ["10.0.0.1"], labels=label, node="n"),
        pod("two", "shop", ["10.0.0.2"], node="n"),
    )

    one, two, three = cluster.endpoints
    assert (one.locality, one.network) == (Locality("us", "us-1"), "n1")
    assert (two.locality, two.network) == (Locality("eu", "eu-1"), "n0")
    assert (three.locality, three.network) == (Locality("eu", "z"), "n0")


async def test_an_endpoint_without_a_reference_is_that_of_the_pod_at_its_address() -> None:
    """Slices that people write; but not where several pods share the host's address."""
    slices = endpoint_slice("a", "shop", HTTP, ["10.0.0.1", "10.0.0.9"])
    cluster = await Cluster().begin(
        service("a", "shop", HTTP),
        slices,
        pod("one", "shop", ["10.0.0.1"], labels={"app": "one"}),
        pod("other", "other", ["10.0.0.9"], labels={"app": "other"}),
        pod("host", "shop", ["10.0.0.9"], labels={"app": "host"}, hostNetwork=True),
    )
    assert [each.labels for each in cluster.endpoints] == [(("app", "one"),), ()]

    cluster.put(pod("one", "shop", ["10.0.0.2"], labels={"app": "one"}))
    assert [each.labels for each in cluster.endpoints] == [(), ()]
    cluster.put(pod("two", "shop", ["10.0.0.9"], labels={"app": "two"}))
    assert [each.labels for each in cluster.endpoints] == [(), (("app", "two"),)]


async def test_a_change_touches_what_refers_to_it_and_nothing_else() -> None:
    """A heartbeat of a node, or a condition of a pod, touches no endpoint."""
    slices = of("1", "one", "two", addresses=["10.0.0.1", "10.0.0.2"])
    cluster = await Cluster().begin(
        service("a", "shop", HTTP),
        service("b", "shop", HTTP),
        endpoint_slice("b", "shop", HTTP, ["10.0.0.3"]),
        slices,
        node("n", place("eu", "eu-1")),
        pod("one", "shop", ["10.0.0.1"], node="n"),
        pod("two", "shop", ["10.0.0.2"]),
    )
    merged = cluster.aggregate.merge_total

    cluster.put(node("n", {**place("eu", "eu-1"), "heartbeat": "2"}, "192.0.2.1"))
    cluster.put(pod("one", "shop", ["10.0.0.1"], node="n", ready=False))
    assert cluster.aggregate.merge_total == merged

    cluster.put(node("n", place("eu", "eu-2")))
    assert cluster.aggregate.merge_total == merged + 1
    assert [each.locality.zone for each in cluster.endpoints] == ["eu-2", ""]
    cluster.delete(node("n", {}))
    assert [each.locality.zone for each in cluster.endpoints] == ["", ""]

    cluster.put(of("1", "one", addresses=["10.0.0.1"]))
    merged = cluster.aggregate.merge_total
    cluster.put(pod("two", "shop", ["10.0.0.2"], labels={"app": "two"}))
    assert cluster.aggregate.merge_total == merged, "the slice does not name it any more"


async def test_a_pod_of_two_addresses_is_two_workloads() -> None:
    """Selectors of other services pick both; health follows the pod's conditions."""
    both = pod("p", "shop", ["10.0.0.1", "fd00::1"], labels={"app": "p"}, ready=False)
    cluster = await Cluster().begin(both)
    assert cluster.aggregate.summary("east").counts.workloads == 2

    cluster.put(pod("p", "shop", ["fd00::1"], labels={"app": "p"}))
    assert cluster.aggregate.summary("east").counts.workloads == 1
    ended = {**pod("p", "shop", ["fd00::1"]), "status": {"phase": "Succeeded", "podIP": "fd00::1"}}
    cluster.put(ended)
    assert cluster.aggregate.summary("east").counts.workloads == 0


async def test_a_relisting_is_judged_and_an_event_believed() -> None:
    """A server that lists far less than before removes nothing yet; one that says deleted does."""
    addresses = [f"10.0.0.{number}" for number in range(1, 41)]
    slices = endpoint_slice("a", "shop", HTTP, addresses)
    cluster = await Cluster().begin(service("a", "shop", HTTP), slices)
    await cluster.listed("EndpointSlice")
    assert len(cluster.addresses) == 40
    assert cluster.aggregate.summary("east").held

    await cluster.listed("EndpointSlice", slices)
    assert not cluster.aggregate.summary("east").held
    cluster.delete(slices)
    assert cluster.addresses == []


async def test_listings_of_namespaces_leave_each_other_alone() -> None:
    """Where only some namespaces may be read, each has a watch of its own."""
    cluster = await Cluster().begin(
        service("a", "shop", HTTP), service("a", "other", HTTP), service("a", "third", HTTP)
    )
    await cluster.listed("Service", namespace="other")

    assert [key.namespace for key in sorted(cluster.aggregate.service_keys())] == ["shop", "third"]


async def test_slices_and_services_may_come_in_any_order() -> None:
    """A slice that was there first is told only while its service is not."""
    cluster = await Cluster().begin()
    cluster.put(endpoint_slice("a", "shop", HTTP, ["10.0.0.1"]))
    (problem,) = cluster.told()
    assert problem.startswith("east/shop/a-1: EndpointSlice shop/a-1: ")
    assert "there is no Service 'a' in namespace shop" in problem

    cluster.put(service("a", "shop", HTTP))
    assert cluster.told() == []
    assert cluster.addresses == ["10.0.0.1"]
    cluster.delete(service("a", "shop", HTTP))
    assert len(cluster.told()) == 1
    cluster.delete(endpoint_slice("a", "shop", HTTP, []))
    assert cluster.told() == []


async def test_slices_of_a_name_for_another_host_count_once_it_is_none() -> None:
    """Kubernetes leaves them when a Service becomes an ExternalName, and nobody follows them."""
    name = service("a", "shop", HTTP, type="ExternalName", externalName="a.example")
    cluster = await Cluster().begin(name, of("1", "p", addresses=["10.0.0.1"]))
    assert cluster.addresses == ["a.example"]

    cluster.put(service("a", "shop", HTTP))
    assert cluster.addresses == ["10.0.0.1"]
    cluster.put(name)
    cluster.put(of("1", "p", "q", addresses=["10.0.0.1", "10.0.0.2"]))
    assert cluster.addresses == ["a.example"]
    cluster.put(service("a", "shop", HTTP))
    assert cluster.addresses == ["10.0.0.1", "10.0.0.2"]


async def test_without_a_listing_of_services_no_slice_is_said_to_lack_one() -> None:
    """They may be forbidden."""
    cluster = Cluster()
    await cluster.listed("EndpointSlice", endpoint_slice("a", "shop", HTTP, ["10.0.0.1"]))
    await cluster.catalog.publish()

    assert cluster.told() == []


async def test_nodes_are_ways_in_where_a_service_has_a_port_on_them() -> None:
    """By the annotation's selector if there is one, and then addresses of nodes are asked for."""
    labels = {"topology.istio.io/network": "n1", "networking.istio.io/gatewayPort": "8443"}
    gate = service("gate", "shop", {"tls": 8443}, labels=labels, type="NodePort")
    gate["spec"]["ports"][0]["nodePort"] = 30443
    gate["metadata"]["annotations"] = {"traffic.istio.io/nodeSelector": '{"gate": "yes"}'}
    cluster = await Cluster().begin(
        node("n", {"gate": "yes"}, "192.0.2.1"), node("m", {}, "192.0.2.2")
    )
    assert not cluster.catalog.needs_node_addresses

    cluster.put(gate)
    assert cluster.asked_for_nodes
    assert cluster.aggregate.gateways("n1") == (NetworkGateway("n1", "192.0.2.1", 30443, "east"),)
    cluster.put(node("m", {"gate": "yes"}, "192.0.2.2"))
    cluster.delete(node("n", {}))
    assert cluster.aggregate.gateways("n1") == (NetworkGateway("n1", "192.0.2.2", 30443, "east"),)
    cluster.put(service("gate", "shop", {"tls": 8443}))
    assert cluster.aggregate.gateways("n1") == ()


OBJECTS: list[Document] = [
    service("a", "shop", HTTP),
    service("a", "shop", {"http": 81}),
    service("a", "shop", HTTP, type="ExternalName", externalName="a.example"),
    node("n", place("eu", "eu-1")),
    node("n", place("eu", "eu-2")),
    pod("p", "shop", ["10.0.0.1"], labels={"app": "a"}, node="n"),
    pod("p", "shop", ["10.0.0.1", "fd00::1"], labels={"app": "b"}, node="n"),
    pod("q", "shop", ["10.0.0.2"], labels={"istio-locality": "us.us-1"}, node="n"),
    of("1", "p", addresses=["10.0.0.1"]),
    of("1", "p", "q", addresses=["10.0.0.1", "10.0.0.2"]),
    endpoint_slice("a", "shop", HTTP, ["10.0.0.2"], suffix="2", node="n"),
    {"kind": "Namespace", "metadata": {"name": "istio-system", "labels": {}}},
    {
        "kind": "Namespace",
        "metadata": {"name": "istio-system", "labels": {"topology.istio.io/network": "n1"}},
    },
]
STEPS = st.lists(st.tuples(st.booleans(), st.sampled_from(OBJECTS)), max_size=20)


@given(STEPS)
@settings(deadline=None, max_examples=60)
def test_the_way_does_not_matter_only_what_there_is(steps: list[tuple[bool, Document]]) -> None:
    """Two replicas that saw other events and see the same objects have the same mesh."""

    async def check() -> None:
        present: dict[tuple[str, str], Document] = {}
        followed = await Cluster().begin()
        for there, document in steps:
            key = (document["kind"], document["metadata"]["name"])
            if there:
                followed.put(document)
                present[key] = document
            else:
                followed.delete(document)
                present.pop(key, None)
        fresh = await Cluster().begin(*present.values())
        assert followed.endpoints == fresh.endpoints
        assert followed.aggregate.service(HOST) == fresh.aggregate.service(HOST)
        counts = [each.aggregate.summary("east").counts for each in (followed, fresh)]
        assert counts[0] == counts[1]
        assert followed.told() == fresh.told()

    asyncio.run(check())


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({**service("a", "shop", HTTP), "spec": {"ports": 3}},
         "east/shop/a: Service shop/a: spec.ports: expected a list, found 3"),
        ({"kind": "Service", "metadata": {"name": "a", "namespace": "shop", "labels": 3}},
         "metadata.labels: expected an object, found 3"),
        ({**endpoint_slice("a", "shop", HTTP, []), "addressType": "FQDN"},
         "left out: its addresses are FQDN"),
    ],
)  # fmt: skip
def test_an_object_of_a_wrong_shape_is_told(document: Document, problem: str) -> None:
    """With cluster, kind and name as far as they can be read."""
    decode: dict[str, Decode[Any]] = {
        "Service": decode_services("east"),
        "EndpointSlice": decode_slices("east"),
    }
    decoded = decode[document["kind"]](Raw(msgspec.json.encode(document)))

    assert decoded.object is None
    assert problem in str(decoded.problems[0])


def test_null_is_no_wrong_shape() -> None:
    """The API server writes null for an empty list."""
    document = {**endpoint_slice("a", "shop", HTTP, []), "endpoints": None, "ports": None}
    decoded = decode_slices("east")(Raw(msgspec.json.encode(document)))

    assert decoded.problems == ()
    assert decoded.object is not None
