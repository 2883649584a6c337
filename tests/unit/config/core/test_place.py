"""Tests of config.core.place, config.core.pod and config.core.gateway."""

from typing import Any

import msgspec
import pytest

from aggregator.model.registry import NetworkGateway
from aggregator.model.service import NOWHERE, Health, Locality
from config.core.gateway import CoreNode, NodePlace, network_gateways, node_place_of
from config.core.place import labelled_locality, node_locality
from config.core.pod import CorePod, Pod, pod_of
from config.core.service import CoreService

NET = {"topology.istio.io/network": "n1"}


@pytest.mark.parametrize(
    ("labels", "locality"),
    [
        ({}, NOWHERE),
        ({"istio-locality": "eu.eu-1.row"}, Locality("eu", "eu-1", "row")),
        ({"istio-locality": "eu", "topology.istio.io/locality": "us.us-1"}, Locality("us", "us-1")),
        ({"topology.kubernetes.io/region": "eu"}, NOWHERE),
    ],
)
def test_a_pods_own_label_has_dots_for_slashes(labels: dict[str, str], locality: Locality) -> None:
    """A label's value cannot have slashes; labels of nodes mean nothing on a pod."""
    assert labelled_locality(labels) == locality


@pytest.mark.parametrize(
    ("labels", "locality"),
    [
        ({}, NOWHERE),
        ({"topology.istio.io/subzone": "row"}, NOWHERE),
        ({"topology.kubernetes.io/region": "eu"}, Locality("eu")),
        ({"topology.kubernetes.io/zone": "z"}, Locality("home", "z")),
        ({"failure-domain.beta.kubernetes.io/region": "old",
          "failure-domain.beta.kubernetes.io/zone": "z"}, Locality("old", "z")),
        ({"topology.kubernetes.io/region": "eu", "topology.kubernetes.io/zone": "z",
          "topology.istio.io/subzone": "row"}, Locality("eu", "z", "row")),
    ],
)  # fmt: skip
def test_a_node_is_where_its_labels_say(labels: dict[str, str], locality: Locality) -> None:
    """Old names count where the new ones are missing; without a region it is in the default's."""
    assert node_locality(labels, Locality("home", "x")) == locality


def core_pod(**status: Any) -> CorePod:
    """A pod that runs."""
    return msgspec.convert(
        {
            "metadata": {"name": "p", "namespace": "shop", "labels": {"app": "p", **NET}},
            "spec": {
                "serviceAccountName": "sa",
                "nodeName": "n",
                "hostname": "h",
                "subdomain": "sub",
            },
            "status": {"phase": "Running", "podIP": "10.0.0.1", **status},
        },
        CorePod,
    )


def test_a_pod_is_a_workload_with_an_identity() -> None:
    """All of its addresses, each once."""
    found = pod_of(core_pod(podIPs=[{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]))

    assert found == Pod(
        namespace="shop",
        name="p",
        addresses=("10.0.0.1", "fd00::1"),
        labels=(("app", "p"), ("topology.istio.io/network", "n1")),
        node="n",
        service_account="sa",
        hostname="h",
        locality=NOWHERE,
        network="n1",
        health=Health.NOT_READY,
        on_host=False,
    )


@pytest.mark.parametrize("status", [{"podIP": ""}, {"phase": "Succeeded"}, {"phase": "Failed"}])
def test_a_pod_without_address_or_with_an_end_is_no_workload(status: dict[str, Any]) -> None:
    """A finished job's address may be another pod's by now."""
    assert pod_of(core_pod(**status)) is None


@pytest.mark.parametrize(
    ("ready", "deleted", "health"),
    [
        ("True", "", Health.READY),
        ("False", "", Health.NOT_READY),
        ("True", "2026-01-01T00:00:00Z", Health.DRAINING),
        ("False", "2026-01-01T00:00:00Z", Health.TERMINATING),
    ],
)
def test_health_follows_from_readiness_and_deletion(
    ready: str, deleted: str, health: Health
) -> None:
    """As a slice would tell it."""
    decoded = core_pod(conditions=[{"type": "Ready", "status": ready}])
    metadata = msgspec.structs.replace(decoded.metadata, deletion_timestamp=deleted)
    found = pod_of(msgspec.structs.replace(decoded, metadata=metadata))

    assert found is not None
    assert found.health is health


def core_service(spec: dict[str, Any], labels: dict[str, str], **extra: Any) -> CoreService:
    """A Service of some labels."""
    metadata = {"name": "gate", "namespace": "shop", "labels": labels, **extra}
    return msgspec.convert({"metadata": metadata, "spec": spec}, CoreService)


def test_a_labelled_service_is_a_way_in_at_its_external_addresses() -> None:
    """At port 15443 unless a label names another."""
    spec = {"type": "LoadBalancer", "externalIPs": ["192.0.2.1"], "ports": [{"port": 80}]}

    assert network_gateways(core_service(spec, NET), "east", list) == (
        NetworkGateway("n1", "192.0.2.1", 15443, "east"),
    )
    other = {**NET, "networking.istio.io/gatewayPort": "80"}
    assert network_gateways(core_service(spec, other), "east", list)[0].port == 80
    assert network_gateways(core_service(spec, {}), "east", list) == ()


@pytest.mark.parametrize("selector", ["", "{}", '{"gate": "yes"}', "[]", "{", None])
def test_nodes_are_chosen_by_the_annotation_else_by_the_same_label(selector: str | None) -> None:
    """An annotation that cannot be read chooses none rather than all."""
    nodes = [
        NodePlace((("gate", "yes"),), ("192.0.2.1",)),
        NodePlace((("topology.istio.io/network", "n1"),), ("192.0.2.2",)),
    ]
    spec = {"type": "NodePort", "ports": [{"port": 15443, "nodePort": 30443}]}
    annotations = {} if selector is None else {"traffic.istio.io/nodeSelector": selector}
    found = network_gateways(
        core_service(spec, NET, annotations=annotations), "east", lambda: nodes
    )

    expected = {
        "": ["192.0.2.1", "192.0.2.2"],
        "{}": ["192.0.2.1", "192.0.2.2"],
        '{"gate": "yes"}': ["192.0.2.1"],
        None: ["192.0.2.2"],
    }
    assert [each.address for each in found] == expected.get(selector, [])
    assert all(each.port == 30443 for each in found)


def test_a_node_is_reached_at_external_addresses_else_at_internal_ones() -> None:
    """Its names are no addresses."""
    addresses = [
        {"type": "InternalIP", "address": "10.0.0.1"},
        {"type": "Hostname", "address": "n"},
        {"type": "ExternalIP", "address": "192.0.2.1"},
    ]
    both = msgspec.convert({"status": {"addresses": addresses}}, CoreNode)
    inside = msgspec.convert({"status": {"addresses": addresses[:2]}}, CoreNode)

    assert node_place_of(both).addresses == ("192.0.2.1",)
    assert node_place_of(inside).addresses == ("10.0.0.1",)
