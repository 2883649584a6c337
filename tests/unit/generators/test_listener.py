"""Listeners of sidecars: where they stand, what stands together, what conflicts are told."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from envoy.config.listener.v3 import listener_pb2

from aggregator.generators.listener import GENERATOR
from aggregator.generators.spec import Resource, Root
from aggregator.model.config import Config
from aggregator.model.proxy import Proxy
from aggregator.model.service import Service
from config.kinds.sidecar import Sidecar
from config.mesh import MeshConfig, MeshOutboundTrafficMode, MeshOutboundTrafficPolicy
from tests.support.builders import config, port, service
from tests.support.listener import cluster_by_sni, read_listener, read_manager, read_tcp_proxy
from tests.support.view import FakeView, generate

REVIEWS = service("reviews.shop.svc.cluster.local", port(80))
DB = service("db.shop.svc.cluster.local", port(5432, "TCP"), created=2.0)
OLD_DB = service("old.shop.svc.cluster.local", port(5432, "TCP"), created=1.0, origin="db.yaml")


def view_of(
    *services: Service,
    mode: str = "NONE",
    kind: str = "sidecar",
    mesh: MeshConfig | None = None,
    sidecar: dict[str, Any] | None = None,
    configs: Sequence[Config] = (),
    ipv4: bool = True,
) -> FakeView:
    return FakeView(
        services,
        configs=configs,
        proxy=Proxy(id="test", kind=kind, namespace="shop", interception_mode=mode),
        mesh=mesh,
        sidecar=config("Sidecar", msgspec.convert(sidecar, Sidecar)) if sidecar else None,
        ipv4=ipv4,
        ipv6=not ipv4,
    )


def on_port(view: FakeView, number: int) -> dict[str, Resource]:
    return generate(GENERATOR, view, Root.PORT, str(number))


def at(view: FakeView, *addresses: str) -> dict[str, Resource]:
    """The listeners of virtual IPs."""
    found: dict[str, Resource] = {}
    for address in addresses:
        found |= generate(GENERATOR, view, Root.ADDRESS, address)
    return found


def once(view: FakeView) -> dict[str, Resource]:
    return generate(GENERATOR, view, Root.VIEW)


def listener(found: dict[str, Resource], name: str) -> listener_pb2.Listener:
    return read_listener(found[name])


def default_cluster(built: listener_pb2.Listener) -> str:
    return read_tcp_proxy(built.default_filter_chain).cluster


class TestWithoutRedirection:
    """INTERCEPTION_MODE NONE: applications dial ports on the loopback address."""

    def test_http_port_is_bound_and_takes_its_routes_by_name(self) -> None:
        """All HTTP services of a port share the listener; the routes tell them apart."""
        found = on_port(view_of(REVIEWS), 80)

        built = listener(found, "127.0.0.1_80")
        assert built.address.socket_address.address == "127.0.0.1"
        assert built.address.socket_address.port_value == 80
        assert not built.HasField("bind_to_port")
        manager = read_manager(built.filter_chains[0])
        assert manager.rds.route_config_name == "80"
        assert manager.rds.config_source.HasField("ads")
        assert manager.stat_prefix == "outbound_127.0.0.1_80"
        assert found["127.0.0.1_80"].clusters == frozenset()

    def test_http_requests_are_handled_as_istio_does(self) -> None:
        """Upgrades pass, paths are normalised, streams live as long as they like."""
        manager = read_manager(
            listener(on_port(view_of(REVIEWS), 80), "127.0.0.1_80").filter_chains[0]
        )

        assert [each.upgrade_type for each in manager.upgrade_configs] == ["websocket"]
        assert manager.normalize_path.value
        assert not manager.use_remote_address.value
        assert manager.HasField("stream_idle_timeout")
        assert manager.stream_idle_timeout.ToNanoseconds() == 0
        assert manager.http_filters[-1].name == "envoy.filters.http.router"

    def test_oldest_tcp_service_has_the_port_and_the_other_is_reported(self) -> None:
        """Nothing in a plain connection says whom it is for."""
        view = view_of(DB, OLD_DB)

        found = on_port(view, 5432)

        built = listener(found, "127.0.0.1_5432")
        proxy = read_tcp_proxy(built.filter_chains[0])
        assert proxy.cluster == "outbound|5432||old.shop.svc.cluster.local"
        assert proxy.stat_prefix == proxy.cluster
        assert found["127.0.0.1_5432"].clusters == {proxy.cluster}
        assert found["127.0.0.1_5432"].origins == ("db.yaml",)
        (problem,) = view.problems
        assert problem.subject == f"Service {DB.key}"
        assert str(OLD_DB.key) in problem.message

    def test_http_has_a_port_before_tcp(self) -> None:
        """Which wins must not depend on who asks; the loser is told."""
        older = service("raw.shop.svc.cluster.local", port(80, "TCP"), created=1.0)
        view = view_of(REVIEWS, older)

        built = listener(on_port(view, 80), "127.0.0.1_80")

        assert len(built.filter_chains) == 1
        assert read_manager(built.filter_chains[0]).rds.route_config_name == "80"
        assert [each.subject for each in view.problems] == [f"Service {older.key}"]

    def test_tls_services_share_a_port_by_server_name(self) -> None:
        """Each one's name is in the client's first message."""
        view = view_of(
            service("a.example.org", port(443, "TLS")),
            service("*.b.example.org", port(443, "HTTPS")),
        )

        built = listener(on_port(view, 443), "127.0.0.1_443")

        assert cluster_by_sni(built) == {
            "a.example.org": "outbound|443||a.example.org",
            "*.b.example.org": "outbound|443||*.b.example.org",
        }
        assert [each.name for each in built.listener_filters] == [
            "envoy.filters.listener.tls_inspector"
        ]
        assert not view.problems

    def test_tls_shares_a_port_with_http(self) -> None:
        """A connection that does not begin with TLS is HTTP."""
        view = view_of(REVIEWS, service("a.example.org", port(80, "TLS")))

        built = listener(on_port(view, 80), "127.0.0.1_80")

        assert list(built.filter_chains[0].filter_chain_match.server_names) == ["a.example.org"]
        assert read_manager(built.default_filter_chain).rds.route_config_name == "80"
        assert not view.problems

    def test_tls_shares_a_port_with_one_tcp_service(self) -> None:
        """Where the server begins, the inspection must end by itself."""
        view = view_of(DB, service("a.example.org", port(5432, "TLS")))

        built = listener(on_port(view, 5432), "127.0.0.1_5432")

        assert default_cluster(built) == "outbound|5432||db.shop.svc.cluster.local"
        assert built.continue_on_listener_filters_timeout
        assert built.listener_filters_timeout.ToSeconds() > 0

    def test_unknown_tls_connections_are_closed(self) -> None:
        """They know no other address than this listener's, so nowhere is safe to send them."""
        built = listener(
            on_port(view_of(service("a.example.org", port(443, "TLS"))), 443), "127.0.0.1_443"
        )

        assert not built.HasField("default_filter_chain")

    @pytest.mark.parametrize("protocol", ["TCP", "TLS"])
    def test_service_reached_by_its_own_address_only_is_reported(self, protocol: str) -> None:
        """With resolution NONE the address that was dialled is the destination: here, ourselves."""
        passing = service("legacy.example.org", port(9000, protocol), resolution="NONE")
        view = view_of(passing)

        assert not on_port(view, 9000)
        assert [each.subject for each in view.problems] == [f"Service {passing.key}"]

    def test_udp_has_no_listener(self) -> None:
        """A datagram port would be taken for a TCP one."""
        assert not on_port(view_of(service("dns.example.org", port(53, "UDP"))), 53)

    def test_udp_beside_tcp_on_one_number_leaves_tcp(self) -> None:
        """DNS has both on port 53."""
        dns = service("dns.example.org", port(53, "UDP"), port(53, "TCP"))

        assert set(on_port(view_of(dns), 53)) == {"127.0.0.1_53"}

    def test_nothing_stands_for_redirected_connections(self) -> None:
        """A plain Envoy beside the application has no use for port 15001."""
        assert not once(view_of(REVIEWS))

    def test_proxy_without_ipv4_binds_the_other_loopback(self) -> None:
        """127.0.0.1 cannot be bound there."""
        assert set(on_port(view_of(REVIEWS, ipv4=False), 80)) == {"::1_80"}

    def test_same_host_of_two_namespaces_is_one_service(self) -> None:
        """A cluster's name has no namespace: the proxies' own service is the one meant."""
        mine = service("db.example.org", port(5432, "TCP"), namespace="shop", created=2.0)
        other = service("db.example.org", port(5432, "TCP"), namespace="bank", created=1.0)
        view = view_of(other, mine)

        assert set(on_port(view, 5432)) == {"127.0.0.1_5432"}
        assert not view.problems


class TestCapture:
    """Sidecars with redirection: the address that was dialled chooses the listener."""

    def test_virtual_outbound_takes_what_is_redirected(self) -> None:
        """Its original destination is looked up; what nobody claims is passed on."""
        found = once(view_of(mode=""))

        built = listener(found, "virtualOutbound")
        assert built.use_original_dst.value
        assert built.address.socket_address.address == "0.0.0.0"
        assert built.address.socket_address.port_value == 15001
        assert [each.name for each in built.filter_chains] == [
            "virtualOutbound-blackhole",
            "virtualOutbound-catchall-tcp",
        ]
        assert built.filter_chains[0].filter_chain_match.destination_port.value == 15001
        assert read_tcp_proxy(built.filter_chains[0]).cluster == "BlackHoleCluster"
        assert read_tcp_proxy(built.filter_chains[1]).cluster == "PassthroughCluster"
        assert found["virtualOutbound"].clusters == {"BlackHoleCluster", "PassthroughCluster"}
        assert not built.HasField("transparent")

    def test_transparent_redirection_is_told_to_envoy(self) -> None:
        """With TPROXY the socket itself is bound to foreign addresses."""
        built = listener(once(view_of(mode="TPROXY")), "virtualOutbound")

        assert built.transparent.value

    def test_registry_only_drops_unknown_connections(self) -> None:
        """outboundTrafficPolicy REGISTRY_ONLY is about TCP too."""
        mesh = MeshConfig(
            outbound_traffic_policy=MeshOutboundTrafficPolicy(
                mode=MeshOutboundTrafficMode.REGISTRY_ONLY
            )
        )

        built = listener(once(view_of(mode="", mesh=mesh)), "virtualOutbound")

        assert read_tcp_proxy(built.filter_chains[1]).cluster == "BlackHoleCluster"

    def test_sidecar_sends_unknown_connections_through_its_egress_proxy(self) -> None:
        """Short names are of the Sidecar's namespace."""
        built = once(
            view_of(
                mode="",
                sidecar={
                    "outboundTrafficPolicy": {
                        "mode": "ALLOW_ANY",
                        "egressProxy": {"host": "egress", "port": {"number": 3128}},
                    }
                },
            )
        )["virtualOutbound"]

        assert "outbound|3128||egress.shop.svc.cluster.local" in built.clusters

    def test_http_port_is_one_unbound_listener_for_any_address(self) -> None:
        """Only redirected connections get there; the routes tell the services apart."""
        built = listener(on_port(view_of(REVIEWS, mode=""), 80), "0.0.0.0_80")

        assert built.HasField("bind_to_port")
        assert not built.bind_to_port.value
        assert read_manager(built.filter_chains[0]).rds.route_config_name == "80"
        assert read_manager(built.filter_chains[0]).stat_prefix == "outbound_0.0.0.0_80"

    def test_tcp_services_stand_at_their_virtual_addresses(self) -> None:
        """So many of them can have the same port."""
        one = service("one.example.org", port(5432, "TCP"), addresses=["10.0.0.1", "fd00::1"])
        two = service("two.example.org", port(5432, "TCP"), addresses=["10.0.0.2"])
        view = view_of(one, two, mode="")

        found = at(view, "10.0.0.1", "10.0.0.2", "fd00::1")

        assert set(found) == {"10.0.0.1_5432", "fd00::1_5432", "10.0.0.2_5432"}
        assert not on_port(view, 5432)
        built = listener(found, "10.0.0.2_5432")
        assert not built.bind_to_port.value
        assert read_tcp_proxy(built.filter_chains[0]).cluster == "outbound|5432||two.example.org"
        assert not view.problems

    def test_oldest_service_has_an_address_that_two_claim(self) -> None:
        """A duplicate address would be refused by Envoy."""
        young = service("young.example.org", port(5432, "TCP"), addresses=["10.0.0.1"], created=2.0)
        old = service("old.example.org", port(5432, "TCP"), addresses=["10.0.0.1"], created=1.0)
        view = view_of(young, old, mode="")

        found = at(view, "10.0.0.1")

        assert found["10.0.0.1_5432"].clusters == {"outbound|5432||old.example.org"}
        assert [each.subject for each in view.problems] == [f"Service {young.key}"]

    def test_tcp_without_an_address_takes_what_is_left_of_the_port(self) -> None:
        """Headless services have no address of their own."""
        view = view_of(DB, OLD_DB, mode="")

        built = listener(on_port(view, 5432), "0.0.0.0_5432")

        proxy = read_tcp_proxy(built.filter_chains[0])
        assert proxy.cluster == "outbound|5432||old.shop.svc.cluster.local"
        assert [each.subject for each in view.problems] == [f"Service {DB.key}"]

    def test_services_with_ranges_share_a_listener(self) -> None:
        """The range decides, and what is in none of them stays unknown traffic."""
        view = view_of(
            service("a.example.org", port(9000, "TCP"), addresses=["172.16.0.0/12"]),
            service("b.example.org", port(9000, "TCP"), addresses=["192.168.0.0/16"]),
            mode="",
        )

        built = listener(on_port(view, 9000), "0.0.0.0_9000")

        assert {
            chain.filter_chain_match.prefix_ranges[0].address_prefix: read_tcp_proxy(chain).cluster
            for chain in built.filter_chains
        } == {
            "172.16.0.0": "outbound|9000||a.example.org",
            "192.168.0.0": "outbound|9000||b.example.org",
        }
        assert default_cluster(built) == "PassthroughCluster"
        assert built.default_filter_chain.name == "PassthroughFilterChain"
        assert not view.problems

    def test_tls_without_an_address_is_told_by_name(self) -> None:
        """Other TLS connections on that port are unknown traffic, not an error."""
        view = view_of(service("a.example.org", port(443, "TLS")), mode="")

        found = on_port(view, 443)

        assert cluster_by_sni(listener(found, "0.0.0.0_443")) == {
            "a.example.org": "outbound|443||a.example.org",
            "": "PassthroughCluster",
        }
        assert "PassthroughCluster" in found["0.0.0.0_443"].clusters

    def test_tls_at_its_own_address_needs_no_name(self) -> None:
        """Clients that send none are served, as in Istio."""
        only = service("a.example.org", port(443, "TLS"), addresses=["10.0.0.1"])

        built = listener(at(view_of(only, mode=""), "10.0.0.1"), "10.0.0.1_443")

        assert not built.listener_filters
        assert not built.filter_chains[0].HasField("filter_chain_match")

    def test_ports_of_the_redirection_itself_are_left_alone(self) -> None:
        """A second listener on 0.0.0.0:15001 would be refused."""
        taken = service("odd.example.org", port(15001, "TCP"))
        view = view_of(taken, mode="")

        assert not on_port(view, 15001)
        assert [each.subject for each in view.problems] == [f"Service {taken.key}"]

    def test_passing_services_are_reached_under_redirection(self) -> None:
        """There the address that was dialled is known."""
        passing = service("legacy.example.org", port(9000, "TCP"), resolution="NONE")

        assert set(on_port(view_of(passing, mode=""), 9000)) == {"0.0.0.0_9000"}


class TestSidecarEgress:
    """Listeners that the user describes in a Sidecar."""

    def test_http_listener_is_bound_where_the_user_says(self) -> None:
        """captureMode NONE works on any proxy, redirection or not."""
        sidecar = {
            "egress": [
                {
                    "port": {"number": 9080, "protocol": "HTTP"},
                    "bind": "127.0.0.5",
                    "captureMode": "NONE",
                    "hosts": ["shop/*"],
                }
            ]
        }
        for mode in ("NONE", ""):
            found = once(view_of(REVIEWS, mode=mode, sidecar=sidecar))
            built = listener(found, "127.0.0.5_9080")
            assert not built.HasField("bind_to_port")
            assert read_manager(built.filter_chains[0]).rds.route_config_name == "9080"

    def test_without_a_bind_it_is_on_the_loopback_address(self) -> None:
        """Nobody but the application should get in."""
        sidecar = {
            "egress": [
                {
                    "port": {"number": 9080, "protocol": "HTTP"},
                    "captureMode": "NONE",
                    "hosts": ["shop/*"],
                }
            ]
        }

        assert set(once(view_of(REVIEWS, sidecar=sidecar))) == {"127.0.0.1_9080"}

    def test_socket_is_bound_and_its_route_has_its_name(self) -> None:
        """A socket has no port that a route could be named by."""
        sidecar = {
            "egress": [
                {
                    "port": {"number": 0, "protocol": "HTTP"},
                    "bind": "unix:///run/mesh.sock",
                    "hosts": ["shop/*"],
                }
            ]
        }

        built = listener(once(view_of(REVIEWS, sidecar=sidecar)), "unix:///run/mesh.sock_0")

        assert built.address.pipe.path == "/run/mesh.sock"
        manager = read_manager(built.filter_chains[0])
        assert manager.rds.route_config_name == "unix:///run/mesh.sock"

    @pytest.mark.parametrize("namespace", ["shop", ".", "*"])
    def test_tcp_listener_leads_to_the_named_service_on_its_only_port(self, namespace: str) -> None:
        """The listener's port may be another than the service's."""
        sidecar = {
            "egress": [
                {
                    "port": {"number": 27018, "protocol": "MONGO"},
                    "bind": "127.0.0.1",
                    "captureMode": "NONE",
                    "hosts": [f"{namespace}/db.shop.svc.cluster.local"],
                }
            ]
        }

        found = once(view_of(DB, OLD_DB, sidecar=sidecar))

        assert found["127.0.0.1_27018"].clusters == {"outbound|5432||db.shop.svc.cluster.local"}

    def test_pattern_takes_in_services_with_the_same_port(self) -> None:
        """Which of a namespace's services a port is for, the port itself must say."""
        sidecar = {
            "egress": [
                {
                    "port": {"number": 5432, "protocol": "TCP"},
                    "captureMode": "NONE",
                    "hosts": ["shop/*"],
                }
            ]
        }
        other = service("cache.shop.svc.cluster.local", port(6379, "TCP"), created=0.5)

        found = once(view_of(DB, other, sidecar=sidecar))

        assert found["127.0.0.1_5432"].clusters == {"outbound|5432||db.shop.svc.cluster.local"}

    def test_service_without_the_port_is_reported(self) -> None:
        """A cluster that does not exist resets every connection without a word."""
        many = service("many.example.org", port(1, "TCP"), port(2, "TCP"))
        sidecar = {
            "egress": [
                {
                    "port": {"number": 3, "protocol": "TCP"},
                    "captureMode": "NONE",
                    "hosts": ["*/many.example.org", "default/many.example.org"],
                }
            ]
        }
        view = view_of(many, sidecar=sidecar)

        once(view)

        assert "no such port" in view.problems[0].message

    def test_tls_listener_for_one_service_takes_any_server_name(self) -> None:
        """The user has said whom the port is for."""
        secure = service("a.example.org", port(443, "TLS"))
        sidecar = {
            "egress": [
                {
                    "port": {"number": 8443, "protocol": "TLS"},
                    "captureMode": "NONE",
                    "hosts": ["default/a.example.org"],
                }
            ]
        }

        built = listener(once(view_of(secure, sidecar=sidecar)), "127.0.0.1_8443")

        assert cluster_by_sni(built) == {"": "outbound|443||a.example.org"}

    def test_captured_listener_is_not_bound(self) -> None:
        """By default a Sidecar's listener takes redirected connections."""
        sidecar = {"egress": [{"port": {"number": 9080, "protocol": "HTTP"}, "hosts": ["shop/*"]}]}

        built = listener(once(view_of(REVIEWS, mode="", sidecar=sidecar)), "0.0.0.0_9080")

        assert not built.bind_to_port.value

    def test_http_proxy_listener_takes_absolute_urls(self) -> None:
        """Clients of an HTTP proxy send the whole URL."""
        sidecar = {
            "egress": [
                {
                    "port": {"number": 3128, "protocol": "HTTP_PROXY"},
                    "captureMode": "NONE",
                    "hosts": ["*/*"],
                }
            ]
        }

        built = listener(once(view_of(REVIEWS, sidecar=sidecar)), "127.0.0.1_3128")

        manager = read_manager(built.filter_chains[0])
        assert manager.http_protocol_options.allow_absolute_url.value

    def test_described_port_is_not_made_again_for_the_services(self) -> None:
        """The user restricted what is reached there."""
        sidecar = {
            "egress": [
                {
                    "port": {"number": 5432, "protocol": "TCP"},
                    "captureMode": "NONE",
                    "hosts": ["shop/db.shop.svc.cluster.local"],
                },
                {"hosts": ["*/*"]},
            ]
        }
        view = view_of(DB, OLD_DB, REVIEWS, sidecar=sidecar)

        assert not on_port(view, 5432)
        assert set(on_port(view, 80)) == {"127.0.0.1_80"}

    def test_without_a_catch_all_no_other_port_is_opened(self) -> None:
        """A Sidecar that lists ports means these."""
        sidecar = {
            "egress": [
                {
                    "port": {"number": 9080, "protocol": "HTTP"},
                    "captureMode": "NONE",
                    "hosts": ["shop/*"],
                }
            ]
        }

        assert not on_port(view_of(REVIEWS, sidecar=sidecar), 80)

    def test_services_that_are_not_imported_get_no_listener(self) -> None:
        """Another listener may import them; the catch-all does not."""
        sidecar = {
            "egress": [
                {
                    "port": {"number": 9999, "protocol": "TCP"},
                    "captureMode": "NONE",
                    "hosts": ["shop/db.shop.svc.cluster.local"],
                },
                {"hosts": ["bank/*"]},
            ]
        }

        assert not on_port(view_of(DB, sidecar=sidecar), 5432)


class TestHttpProxyPort:
    """mesh.proxyHttpPort."""

    @pytest.mark.parametrize("mode", ["NONE", ""])
    def test_one_bound_port_serves_all_hosts(self, mode: str) -> None:
        """It needs no redirection, so it is there in every mode."""
        view = view_of(REVIEWS, mode=mode, mesh=MeshConfig(proxy_http_port=15002))

        built = listener(once(view), "127.0.0.1_15002")

        assert not built.HasField("bind_to_port")
        manager = read_manager(built.filter_chains[0])
        assert manager.rds.route_config_name == "http_proxy"
        assert manager.http_protocol_options.allow_absolute_url.value

    def test_service_on_the_same_port_does_not_stand_in_its_way(self) -> None:
        """Two listeners at one address would be refused."""
        view = view_of(
            service("odd.example.org", port(15002)), mesh=MeshConfig(proxy_http_port=15002)
        )

        assert not on_port(view, 15002)


@pytest.mark.parametrize("mode", ["NONE", "REDIRECT"])
def test_services_that_only_rules_lead_to_open_no_port(mode: str) -> None:
    """The port may be the application's own, or carry something else than HTTP for others."""
    other = service("ratings.other.svc.cluster.local", port(8080), namespace="other")
    view = view_of(REVIEWS, other, mode=mode, sidecar={"egress": [{"hosts": ["./*"]}]})

    assert on_port(view, 80)
    assert not on_port(view, 8080)


def test_only_sidecars_get_these_listeners() -> None:
    """A router's listeners come from Gateways."""
    view = view_of(REVIEWS, mode="", kind="router")

    assert not once(view)
    assert not on_port(view, 80)


@pytest.mark.parametrize("mode", ["NONE", ""])
def test_no_listener_waits_for_certificates(mode: str) -> None:
    """A plain Envoy has nobody to serve them, and would never open its ports."""
    services = [
        REVIEWS,
        DB,
        service("a.example.org", port(443, "TLS")),
        service("b.example.org", port(443, "HTTPS"), addresses=["10.0.0.9"]),
    ]
    view = view_of(*services, mode=mode, mesh=MeshConfig(proxy_http_port=15002))
    found = once(view) | at(view, "10.0.0.9")
    for number in (80, 443, 5432):
        found |= on_port(view, number)

    for resource in found.values():
        built = read_listener(resource)
        assert not any(chain.HasField("transport_socket") for chain in built.filter_chains)
        assert b"sds" not in resource.body


@pytest.mark.parametrize("mode", ["NONE", "", "TPROXY"])
def test_order_of_arrival_does_not_change_the_bytes(mode: str) -> None:
    """Two replicas that list the services differently send the same."""
    services = [
        REVIEWS,
        DB,
        OLD_DB,
        service("a.example.org", port(5432, "TLS")),
        service("b.example.org", port(5432, "TLS")),
        service("c.example.org", port(5432, "TCP"), addresses=["10.0.0.0/8"]),
        service("d.example.org", port(5432, "TLS"), addresses=["10.0.0.1"]),
        service("e.example.org", port(5432, "TLS"), addresses=["10.0.0.1"]),
    ]

    def built(view: FakeView) -> dict[str, str]:
        found = on_port(view, 5432) | at(view, "10.0.0.1")
        return {name: each.version for name, each in found.items()}

    assert built(view_of(*services, mode=mode)) == built(view_of(*reversed(services), mode=mode))


def test_a_port_reads_nothing_of_services_with_addresses() -> None:
    """A thousand databases on one port must not be built anew because one of them changes."""
    view = view_of(service("a.example.org", port(5432, "TCP"), addresses=["10.0.0.1"]), mode="")

    on_port(view, 5432)

    assert "tcp_services_on_port" not in {question for question, _ in view.reads}
    assert not [about for question, about in view.reads if question == "service"]


def test_a_port_reads_nothing_of_other_ports() -> None:
    """A change on one port rebuilds no other port's listener."""
    view = view_of(REVIEWS, DB)

    on_port(view, 80)

    assert ("http_on_port", "80") in view.reads
    assert not {about for question, about in view.reads if question.endswith("_port")} - {"80"}
    assert not [about for question, about in view.reads if question == "service"]
