"""What a Sidecar lets its proxies reach, and the routes that follow from it."""

import pytest

from aggregator.generators.sidecar_scope import (
    EgressListener,
    imported,
    imported_service,
    imports_host,
    imports_rule,
    is_captured,
    outbound_policy,
    outbound_scope,
)
from aggregator.model.proxy import Proxy
from config.kinds.sidecar import CaptureMode
from config.mesh import (
    MeshConfig,
    MeshOutboundTrafficMode,
    MeshOutboundTrafficPolicy,
)
from tests.support.builders import service
from tests.support.rules import sidecar
from tests.support.view import FakeView

REVIEWS = "reviews.shop.svc.cluster.local"
PLAIN = Proxy(id="vm", namespace="shop", interception_mode="NONE")


def catch_all(view: FakeView) -> EgressListener:
    """The scope's default listener, which these tests expect to be there."""
    default = outbound_scope(view).default
    assert default is not None
    return default


def test_without_sidecar_everything_is_imported() -> None:
    """A mesh without Sidecars works as one network."""
    view = FakeView()

    scope = outbound_scope(view)

    assert scope.explicit == ()
    assert scope.http_proxy is None
    assert imports_host(view, catch_all(view), "anywhere", "any.host")


def test_sidecar_without_egress_imports_everything() -> None:
    """A Sidecar that is only about ingress leaves the outbound side as it was."""
    view = FakeView(sidecar=sidecar("ingress: [{port: {number: 80, protocol: HTTP, name: h}}]"))

    assert imports_host(view, catch_all(view), "anywhere", "any.host")


@pytest.mark.parametrize(
    ("pattern", "namespace", "host", "expected"),
    [
        ("*/*", "bank", "a.bank", True),
        ("shop/*", "shop", REVIEWS, True),
        ("shop/*", "bank", REVIEWS, False),
        ("./*", "shop", REVIEWS, True),
        ("./*", "bank", "ledger.bank", False),
        (f"*/{REVIEWS}", "bank", REVIEWS, True),
        (f"shop/{REVIEWS}", "shop", REVIEWS, True),
        (f"shop/{REVIEWS}", "shop", "ratings.shop.svc.cluster.local", False),
        ("shop/*.cluster.local", "shop", REVIEWS, True),
        ("shop/*.example", "shop", REVIEWS, False),
        ("~/*", "shop", REVIEWS, False),
    ],
)
def test_egress_hosts_select_by_namespace_and_host(
    pattern: str, namespace: str, host: str, *, expected: bool
) -> None:
    """Each form of ``namespace/host`` means what Istio's documentation says."""
    rule = sidecar(f"egress: [{{hosts: ['{pattern}']}}]")
    view = FakeView(sidecar=rule)

    assert imports_host(view, catch_all(view), namespace, host) is expected
    assert imported(rule, namespace, host) is expected


def test_tilde_takes_hosts_out_of_a_wider_import() -> None:
    """An excluded host is not reachable however it would be imported."""
    view = FakeView(sidecar=sidecar(f"egress: [{{hosts: ['*/*', '~shop/{REVIEWS}']}}]"))

    assert not imports_host(view, catch_all(view), "shop", REVIEWS)
    assert imports_host(view, catch_all(view), "bank", REVIEWS)


def test_dot_in_the_root_namespace_means_the_proxys_own() -> None:
    """The mesh's default Sidecar stands for each namespace's own."""
    rule = sidecar("egress: [{hosts: ['./*']}]", namespace="istio-system")
    view = FakeView(sidecar=rule)

    assert imports_host(view, catch_all(view), "shop", REVIEWS)
    assert imported(rule, "shop", REVIEWS, view.in_namespace)
    assert not imported(rule, "shop", REVIEWS)


def test_namespace_is_not_asked_for_unless_a_dot_needs_it() -> None:
    """Views of all namespaces share units that do not depend on theirs."""
    view = FakeView(sidecar=sidecar("egress: [{hosts: ['shop/*']}]"))

    imports_host(view, catch_all(view), "shop", REVIEWS)

    assert not {what for what, _ in view.reads} & {"in_namespace", "attribute"}


def test_rule_for_a_wider_wildcard_is_imported() -> None:
    """A rule for ``*.shop...`` also shapes the one host of it that is imported."""
    view = FakeView(sidecar=sidecar(f"egress: [{{hosts: ['shop/{REVIEWS}']}}]"))

    assert imports_rule(view, catch_all(view), "shop", "*.shop.svc.cluster.local")
    assert not imports_rule(view, catch_all(view), "shop", "*.bank.svc.cluster.local")
    assert not imports_rule(view, catch_all(view), "bank", "*.shop.svc.cluster.local")


def test_explicit_ports_name_their_routes_and_leave_the_rest_to_the_catch_all() -> None:
    """Listeners find their routes by these names."""
    view = FakeView(
        sidecar=sidecar(
            """
            egress:
            - {port: {number: 9080, protocol: HTTP, name: a}, bind: 127.0.0.1, hosts: ['*/*']}
            - {port: {number: 3306, protocol: MYSQL, name: b}, hosts: ['*/*']}
            - {port: {number: 0, protocol: HTTP, name: c}, bind: 'unix:///run/a', hosts: ['*/*']}
            - {port: {number: 3128, protocol: HTTP_PROXY, name: d}, hosts: ['*/*']}
            - {hosts: ['shop/*']}
            """
        )
    )

    scope = outbound_scope(view)

    assert [each.route for each in scope.explicit] == ["9080", "", "unix:///run/a", "3128"]
    assert [each.every_port for each in scope.explicit] == [False, False, True, True]
    assert scope.owner("9080") is scope.explicit[0]
    assert scope.owner("80") is None
    assert catch_all(view).route == ""


def test_sidecar_with_ports_only_has_no_catch_all() -> None:
    """What no listener names is not reachable."""
    rule = sidecar("egress: [{port: {number: 80, protocol: HTTP, name: a}, hosts: ['*/*']}]")

    assert outbound_scope(FakeView(sidecar=rule)).default is None


def test_mesh_proxy_port_adds_the_http_proxy() -> None:
    """One listener takes requests for every host and port, and imports what the catch-all does."""
    rule = sidecar("egress: [{hosts: ['shop/*']}]")
    view = FakeView(mesh=MeshConfig(proxy_http_port=15080), sidecar=rule)

    proxy = outbound_scope(view).http_proxy

    assert proxy is not None
    assert (proxy.route, proxy.port, proxy.every_port) == ("http_proxy", 15080, True)
    assert proxy.imports == catch_all(view).imports


@pytest.mark.parametrize(
    ("capture", "proxy", "expected"),
    [
        ("DEFAULT", Proxy(id="pod"), True),
        ("DEFAULT", PLAIN, False),
        ("IPTABLES", PLAIN, False),
        ("IPTABLES", Proxy(id="pod"), True),
        ("NONE", Proxy(id="pod"), False),
    ],
)
def test_capture_needs_both_the_listener_and_the_proxy(
    capture: str, proxy: Proxy, *, expected: bool
) -> None:
    """Only redirected connections know where they wanted to go."""
    view = FakeView(
        sidecar=sidecar(f"egress: [{{hosts: ['*/*'], captureMode: {capture}}}]"), proxy=proxy
    )

    assert catch_all(view).capture_mode == CaptureMode(capture)
    assert is_captured(view, catch_all(view)) is expected


def test_listener_takes_the_namespace_that_it_imports_a_host_from() -> None:
    """Two listeners may know one host name as two services."""
    ours, theirs = (
        service("api.example", namespace="shop"),
        service("api.example", namespace="bank"),
    )
    rule = sidecar(
        """
        egress:
        - {port: {number: 80, protocol: HTTP, name: a}, hosts: ['bank/api.example']}
        - {hosts: ['shop/*']}
        """
    )
    view = FakeView([ours, theirs], sidecar=rule)
    scope = outbound_scope(view)

    assert imported_service(view, scope.explicit[0], "api.example") == theirs
    assert imported_service(view, catch_all(view), "api.example") == ours


@pytest.mark.parametrize("mode", MeshOutboundTrafficMode)
def test_policy_is_the_meshs_unless_the_sidecar_has_one(mode: MeshOutboundTrafficMode) -> None:
    """The nearer setting wins."""
    mesh = MeshConfig(outbound_traffic_policy=MeshOutboundTrafficPolicy(mode))
    rule = sidecar("outboundTrafficPolicy: {mode: REGISTRY_ONLY}")

    assert outbound_policy(FakeView(mesh=mesh)).allow_any is (mode == "ALLOW_ANY")
    assert not outbound_policy(FakeView(mesh=mesh, sidecar=rule)).allow_any


def test_short_egress_proxy_is_completed_in_the_sidecars_namespace() -> None:
    """A name means the same wherever it is written in a rule."""
    rule = sidecar("outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: gate}}")

    proxy = outbound_policy(FakeView(sidecar=rule)).egress_proxy

    assert proxy is not None
    assert proxy.host == "gate.shop.svc.cluster.local"
