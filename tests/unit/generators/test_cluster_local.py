"""Hosts that serve only their own cluster."""

from typing import Any

import pytest

from aggregator.generators.cluster_local import is_cluster_local, keep_local
from aggregator.model.errors import Origin
from aggregator.model.proxy import Proxy
from config.mesh import MeshConfig
from config.shape import decode_struct
from tests.support.builders import endpoint, service
from tests.support.view import FakeView

ENDPOINTS = [
    endpoint("10.0.0.1", cluster_id="east"),
    endpoint("10.0.0.2", cluster_id="west"),
    endpoint("10.0.0.3"),
]


def view_of(cluster_id: str = "east", *settings: dict[str, Any]) -> FakeView:
    mesh = decode_struct(
        {"serviceSettings": list(settings)}, MeshConfig, "mesh", lambda _: Origin()
    )
    return FakeView(proxy=Proxy(id="test", cluster_id=cluster_id), mesh=mesh)


def local(*hosts: str, local: bool = True) -> dict[str, Any]:
    return {"settings": {"clusterLocal": local}, "hosts": list(hosts)}


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("dns.kube-system.svc.cluster.local", True),
        ("kubernetes.default.svc.cluster.local", True),
        ("reviews.default.svc.cluster.local", False),
        ("dns.kube-system.example.com", False),
    ],
)
def test_what_every_cluster_has_for_itself_is_local_by_default(host: str, expected: bool) -> None:
    """As in Istio: nobody wants the DNS server or the API server of another cluster."""
    assert is_cluster_local(view_of(), host) is expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [("a.shop.mesh", True), ("b.shop.mesh", False), ("c.b.shop.mesh", True), ("x.y", False)],
)
def test_the_most_specific_setting_decides(host: str, expected: bool) -> None:
    """Whatever the order in which they are written."""
    wide, narrow = local("*.shop.mesh"), local("b.shop.mesh", local=False)

    assert is_cluster_local(view_of("east", wide, narrow), host) is expected
    assert is_cluster_local(view_of("east", narrow, wide), host) is expected


def test_the_default_can_be_taken_back() -> None:
    """Some share what is in kube-system."""
    settings = [local("*.kube-system.svc.cluster.local", local=False)]

    assert not is_cluster_local(view_of("east", *settings), "dns.kube-system.svc.cluster.local")


def test_a_local_host_has_the_endpoints_of_the_proxys_cluster() -> None:
    """And those that are in no cluster, which are nowhere else."""
    dns = service("dns.kube-system.svc.cluster.local")

    assert [each.address for each in keep_local(view_of("west"), dns, ENDPOINTS)] == [
        "10.0.0.2",
        "10.0.0.3",
    ]
    assert [each.address for each in keep_local(view_of(""), dns, ENDPOINTS)] == ["10.0.0.3"]


def test_for_other_hosts_the_cluster_is_not_asked_for() -> None:
    """Proxies of all clusters share their assignments."""
    view = view_of()

    assert keep_local(view, service(), ENDPOINTS) == ENDPOINTS
    assert ("attribute", "cluster_id") not in view.reads
