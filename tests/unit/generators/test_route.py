"""Heads of route tables: their names, and what becomes of requests for unknown hosts."""

import pytest
from envoy.config.route.v3 import route_pb2

from aggregator.generators import route
from aggregator.generators.spec import Root
from aggregator.model.proxy import Proxy
from config.mesh import MeshConfig, MeshOutboundTrafficMode, MeshOutboundTrafficPolicy
from tests.support.builders import port, service
from tests.support.rules import sidecar
from tests.support.view import FakeView, generate

REVIEWS = service("reviews.shop.svc.cluster.local", port(80), port(9080), port(3306, "TCP"))
PLAIN = Proxy(id="vm", namespace="shop", interception_mode="NONE")
CLOSED = MeshConfig(
    outbound_traffic_policy=MeshOutboundTrafficPolicy(MeshOutboundTrafficMode.REGISTRY_ONLY)
)


def heads(view: FakeView, root: Root, key: str = "") -> dict[str, route_pb2.RouteConfiguration]:
    """The heads that a unit gives."""
    return {
        name: route_pb2.RouteConfiguration.FromString(resource.body)
        for name, resource in generate(route.GENERATOR, view, root, key).items()
    }


def unknown(view: FakeView, name: str = "80") -> str:
    """What the head does with requests for unknown hosts: a cluster, or a status."""
    root = Root.PORT if name.isdecimal() else Root.VIEW
    (host,) = heads(view, root, name if name.isdecimal() else "")[name].virtual_hosts
    assert list(host.domains) == ["*"]
    (found,) = host.routes
    assert found.match.prefix == "/"
    assert host.name == found.name
    return found.route.cluster or f"{found.name} {found.direct_response.status}"


def test_each_port_with_http_has_a_head_of_its_name() -> None:
    """A listener that waits for a route that is not made would answer 404 for ever."""
    view = FakeView([REVIEWS])

    head = heads(view, Root.PORT, "9080")["9080"]

    assert head.ignore_port_in_host_matching
    assert not head.validate_clusters.value
    assert head.max_direct_response_body_size_bytes.value == 1024 * 1024
    assert heads(view, Root.PORT, "3306") == {}
    assert heads(view, Root.VIEW) == {}


def test_explicit_listeners_have_heads_whatever_the_services() -> None:
    """The catch-all leaves a port to the listener that names it; TCP has no routes."""
    rule = sidecar(
        """
        egress:
        - {port: {number: 80, protocol: HTTP, name: a}, bind: 127.0.0.1, hosts: ['*/*']}
        - {port: {number: 3306, protocol: MYSQL, name: b}, hosts: ['*/*']}
        - {port: {number: 0, protocol: HTTP, name: c}, bind: 'unix:///run/a', hosts: ['*/*']}
        - {hosts: ['shop/*']}
        """
    )
    view = FakeView([REVIEWS], sidecar=rule)

    found = heads(view, Root.VIEW)

    assert list(found) == ["80", "unix:///run/a"]
    assert not found["unix:///run/a"].ignore_port_in_host_matching
    assert heads(view, Root.PORT, "80") == {}
    assert list(heads(view, Root.PORT, "9080")) == ["9080"]


def test_sidecar_without_catch_all_has_no_heads_for_other_ports() -> None:
    """What no listener names is not reachable."""
    rule = sidecar("egress: [{port: {number: 80, protocol: HTTP, name: a}, hosts: ['*/*']}]")

    assert heads(FakeView([REVIEWS], sidecar=rule), Root.PORT, "9080") == {}


def test_proxy_port_has_a_head_that_heeds_the_authoritys_port() -> None:
    """One table for all hosts and ports."""
    (head,) = heads(FakeView(mesh=MeshConfig(proxy_http_port=15080)), Root.VIEW).values()

    assert head.name == "http_proxy"
    assert not head.ignore_port_in_host_matching


def test_unknown_hosts_go_where_they_wanted_to_unless_closed() -> None:
    """Istio's two modes."""
    assert unknown(FakeView([REVIEWS])) == "PassthroughCluster"
    assert unknown(FakeView([REVIEWS], mesh=CLOSED)) == "block_all 502"


def test_sidecars_policy_goes_before_the_meshs() -> None:
    """The nearer setting wins, both ways."""
    closed = sidecar("outboundTrafficPolicy: {mode: REGISTRY_ONLY}")
    open_ = sidecar("outboundTrafficPolicy: {mode: ALLOW_ANY}")

    assert unknown(FakeView([REVIEWS], sidecar=closed)) == "block_all 502"
    assert unknown(FakeView([REVIEWS], mesh=CLOSED, sidecar=open_)) == "PassthroughCluster"


def test_requests_that_were_not_redirected_are_not_passed_through() -> None:
    """Where they wanted to go is this very listener: it would loop or hang."""
    mesh = MeshConfig(proxy_http_port=15080)

    assert unknown(FakeView([REVIEWS], proxy=PLAIN)) == "block_all 502"
    assert unknown(FakeView([REVIEWS], mesh=mesh), "http_proxy") == "block_all 502"


def test_egress_proxy_takes_unknown_hosts_even_without_redirection() -> None:
    """It is a destination of its own, and counts as a cluster that is sent to."""
    rule = sidecar("outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: gate}}")
    gate = service("gate.shop.svc.cluster.local", port(3128))
    view = FakeView([REVIEWS, gate], sidecar=rule, proxy=PLAIN)

    assert unknown(view) == "outbound|3128||gate.shop.svc.cluster.local"
    (head,) = generate(route.GENERATOR, view, Root.PORT, "80").values()
    assert head.clusters == {"outbound|3128||gate.shop.svc.cluster.local"}
    assert head.origins == ("Sidecar shop/scope",)


@pytest.mark.parametrize("vhds", [True, False])
def test_only_clients_that_take_virtual_hosts_apart_are_told_to(*, vhds: bool) -> None:
    """Others get them inline; one that waits for a subscription it lacks would never start."""
    (head,) = heads(FakeView([REVIEWS], vhds=vhds), Root.PORT, "80").values()

    assert head.HasField("vhds") is vhds
    if vhds:
        source = head.vhds.config_source
        assert source.HasField("ads")
        assert 0 < source.initial_fetch_timeout.seconds < 15


def test_no_head_for_services_that_only_rules_lead_to() -> None:
    """No listener asks for it: requests to them come in by another service's port."""
    other = service("ratings.other.svc.cluster.local", port(8080), namespace="other")
    view = FakeView([REVIEWS, other], sidecar=sidecar("egress: [{hosts: [./*]}]"), proxy=PLAIN)

    assert heads(view, Root.PORT, "80")
    assert not heads(view, Root.PORT, "8080")


def test_head_asks_for_no_host() -> None:
    """A service that comes or goes on a port leaves the head as it is."""
    view = FakeView([REVIEWS])

    heads(view, Root.PORT, "80")

    asked = {what for what, _ in view.reads}
    assert asked <= {"sidecar", "mesh", "http_on_port", "attribute"}
