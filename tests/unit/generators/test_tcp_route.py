"""VirtualServices' TCP and TLS rules as filter chains."""

from collections.abc import Sequence
from typing import Any

import msgspec
from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from aggregator.generators.filter_chain import Chain
from aggregator.generators.listener import GENERATOR
from aggregator.generators.sidecar_scope import outbound_scope
from aggregator.generators.spec import Root
from aggregator.generators.tcp_route import Offer, build_chains
from aggregator.model.config import Config
from aggregator.model.proxy import Proxy
from aggregator.model.service import Service, labels_of
from config.duration import Duration, parse_duration
from config.kinds.destination_rule import DestinationRule
from config.kinds.sidecar import Sidecar
from config.kinds.virtual_service import VirtualService
from tests.support.builders import config, port, service
from tests.support.view import FakeView, generate

DB = service("db.shop.svc.cluster.local", port(5432, "TCP"), origin="db.yaml")
SECURE = service("secure.example.org", port(443, "TLS"))
V1 = "outbound|5432|v1|db.shop.svc.cluster.local"
V2 = "outbound|5432|v2|db.shop.svc.cluster.local"
DEFAULT = "outbound|5432||db.shop.svc.cluster.local"


def virtual_service(spec: dict[str, Any], **about: Any) -> Config:
    return config("VirtualService", msgspec.convert(spec, VirtualService), **about)


def tcp_rule(*rules: dict[str, Any], host: str = "db", **about: Any) -> Config:
    return virtual_service({"hosts": [host], "tcp": list(rules)}, **about)


def to(subset: str, weight: int = 0, **destination: Any) -> dict[str, Any]:
    return {"destination": {"host": "db", "subset": subset, **destination}, "weight": weight}


def view_of(
    *configs: Config,
    services: Sequence[Service] = (DB, SECURE),
    labels: dict[str, str] | None = None,
    namespace: str = "shop",
    sidecar: dict[str, Any] | None = None,
) -> FakeView:
    return FakeView(
        services,
        configs=configs,
        proxy=Proxy(id="test", namespace=namespace, labels=labels_of(labels or {})),
        sidecar=config("Sidecar", msgspec.convert(sidecar, Sidecar)) if sidecar else None,
    )


def chains_of(view: FakeView, offer: Offer | None = None) -> list[Chain]:
    listener = outbound_scope(view).default
    assert listener is not None
    return build_chains(view, listener, offer or Offer(DB, 5432, 5432, tls=False))


def tls_chains_of(view: FakeView, *, by_name: bool = True) -> list[Chain]:
    return chains_of(view, Offer(SECURE, 443, 443, tls=True, by_name=by_name))


def proxy_of(chain: Chain) -> tcp_proxy_pb2.TcpProxy:
    (network_filter,) = chain.filters
    assert isinstance(network_filter, listener_components_pb2.Filter)
    proxy = tcp_proxy_pb2.TcpProxy()
    assert network_filter.typed_config.Unpack(proxy)
    return proxy


def clusters(found: Sequence[Chain]) -> list[str]:
    return [proxy_of(chain).cluster for chain in found]


class TestTcp:
    """Rules for plain connections."""

    def test_without_a_rule_all_goes_to_the_service(self) -> None:
        """Most services have no rule."""
        (chain,) = chains_of(view_of())

        assert proxy_of(chain).cluster == DEFAULT
        assert proxy_of(chain).stat_prefix == DEFAULT
        assert chain.matches_all
        assert chain.origins == ("db.yaml",)

    def test_rule_without_conditions_replaces_the_default(self) -> None:
        """Two chains for everything would be refused by Envoy."""
        (chain,) = chains_of(view_of(tcp_rule({"route": [to("v1")]}, source="vs.yaml", line=3)))

        assert proxy_of(chain).cluster == V1
        assert chain.clusters == {V1}
        assert chain.origins == ("VirtualService shop/rule (vs.yaml:3)",)

    def test_weights_share_out_connections(self) -> None:
        """A canary of TCP services; a destination without weight gets none."""
        rule = tcp_rule({"route": [to("v1", 90), to("v2", 10), to("v3", 0)]}, name="canary")

        (chain,) = chains_of(view_of(rule))

        proxy = proxy_of(chain)
        shares = [(each.name, each.weight) for each in proxy.weighted_clusters.clusters]
        assert shares == [(V1, 90), (V2, 10)]
        assert proxy.stat_prefix == "canary.shop"
        assert chain.clusters == {V1, V2}

    def test_the_one_destination_with_weight_takes_all(self) -> None:
        """Envoy need not draw lots for one."""
        (chain,) = chains_of(view_of(tcp_rule({"route": [to("v1", 100), to("v2", 0)]})))

        assert proxy_of(chain).cluster == V1

    def test_rule_in_which_nobody_has_weight_is_reported_and_left_out(self) -> None:
        """Envoy refuses an empty list of weights."""
        view = view_of(tcp_rule({"route": [to("v1", 0), to("v2", 0)]}))

        assert clusters(chains_of(view)) == [DEFAULT]
        assert [each.path for each in view.problems] == ["spec.tcp[0].route"]

    def test_port_of_the_match_is_the_listeners(self) -> None:
        """One VirtualService may have rules for several ports."""
        rule = tcp_rule(
            {"match": [{"port": 3306}], "route": [to("v1")]},
            {"match": [{"port": 5432}], "route": [to("v2")]},
        )

        assert clusters(chains_of(view_of(rule))) == [V2]

    def test_source_labels_are_the_proxys(self) -> None:
        """Conditions on the caller are decided when the listener is built."""
        rule = tcp_rule({"match": [{"sourceLabels": {"app": "web"}}], "route": [to("v1")]})

        assert clusters(chains_of(view_of(rule, labels={"app": "web"}))) == [V1]
        assert clusters(chains_of(view_of(rule, labels={"app": "batch"}))) == [DEFAULT]

    def test_source_namespace_is_the_proxys(self) -> None:
        """The same for namespaces."""
        rule = tcp_rule({"match": [{"sourceNamespace": "web"}], "route": [to("v1")]})

        assert clusters(chains_of(view_of(rule, namespace="web"))) == [V1]
        assert clusters(chains_of(view_of(rule, namespace="shop"))) == [DEFAULT]

    def test_subnets_are_tried_before_the_default(self) -> None:
        """Connections to other addresses of the same port stay with the service."""
        rule = tcp_rule(
            {"match": [{"destinationSubnets": ["10.1.0.0/16"]}], "route": [to("v1")]},
            {"match": [{"destinationSubnets": ["10.2.0.0/16", "10.3.0.1"]}], "route": [to("v2")]},
        )

        found = chains_of(view_of(rule))

        assert [(proxy_of(each).cluster, each.subnets) for each in found] == [
            (V1, ("10.1.0.0/16",)),
            (V2, ("10.2.0.0/16", "10.3.0.1")),
            (DEFAULT, ()),
        ]

    def test_one_alternative_without_subnets_takes_every_address(self) -> None:
        """Alternatives are joined by "or"."""
        rule = tcp_rule(
            {
                "match": [{"destinationSubnets": ["10.1.0.0/16"]}, {"port": 5432}],
                "route": [to("v1")],
            },
            {"route": [to("v2")]},
        )

        assert clusters(chains_of(view_of(rule))) == [V1]

    def test_services_own_range_stands_where_the_rule_has_none(self) -> None:
        """Else a rule for one service would take its neighbours' connections."""
        offer = Offer(DB, 5432, 5432, tls=False, subnets=("172.16.0.0/12",))

        (chain,) = chains_of(view_of(tcp_rule({"route": [to("v1")]})), offer)

        assert chain.subnets == ("172.16.0.0/12",)

    def test_rules_for_gateways_do_not_concern_sidecars(self) -> None:
        """Neither as a whole nor a single condition."""
        whole = virtual_service(
            {"hosts": ["db"], "gateways": ["edge"], "tcp": [{"route": [to("v1")]}]}, name="a"
        )
        part = tcp_rule({"match": [{"gateways": ["edge"]}], "route": [to("v1")]}, name="b")

        assert clusters(chains_of(view_of(whole, part))) == [DEFAULT]

    def test_exact_host_comes_before_a_wildcard(self) -> None:
        """The more specific rule is meant, whichever is older."""
        wide = virtual_service(
            {
                "hosts": ["*.shop.svc.cluster.local"],
                "tcp": [{"route": [{"destination": {"host": "db", "subset": "v2"}}]}],
            },
            name="wide",
            created=1.0,
        )
        exact = tcp_rule({"route": [to("v1")]}, name="exact", created=2.0)

        assert clusters(chains_of(view_of(wide, exact))) == [V1]

    def test_rule_that_the_sidecar_does_not_import_is_not_used(self) -> None:
        """Egress hosts limit rules as they limit services."""
        rule = virtual_service(
            {"hosts": [DB.host], "tcp": [{"route": [{"destination": {"host": "x"}}]}]},
            namespace="bank",
        )

        found = chains_of(view_of(rule, sidecar={"egress": [{"hosts": ["shop/*"]}]}))

        assert clusters(found) == [DEFAULT]

    def test_subset_and_port_that_are_nowhere_are_reported(self) -> None:
        """Connections are closed until they exist; somebody should know why."""
        view = view_of(tcp_rule({"route": [to("nope", 50), to("", 50, port={"number": 99})]}))

        chains_of(view)

        assert [(each.path, each.message) for each in view.problems] == [
            (
                "spec.tcp[0].route[0].destination",
                "no DestinationRule of db.shop.svc.cluster.local has subset 'nope'",
            ),
            (
                "spec.tcp[0].route[1].destination",
                "service db.shop.svc.cluster.local has no port 99",
            ),
        ]

    def test_unknown_destination_is_reported_and_its_cluster_named(self) -> None:
        """It may come; until then connections fail and say why."""
        view = view_of(tcp_rule({"route": [{"destination": {"host": "gone"}}]}))

        assert clusters(chains_of(view)) == ["outbound|5432||gone.shop.svc.cluster.local"]
        assert "gone.shop.svc.cluster.local" in view.problems[0].message

    def test_destination_port_is_its_own_or_the_only_one(self) -> None:
        """A rule may lead to a service on another port."""
        other = service("other.shop.svc.cluster.local", port(7000, "TCP"))
        rule = tcp_rule(
            {
                "match": [{"destinationSubnets": ["10.0.0.1"]}],
                "route": [{"destination": {"host": "other"}}],
            },
            {"route": [{"destination": {"host": "db", "port": {"number": 9}}}]},
        )

        assert clusters(chains_of(view_of(rule, services=(DB, other)))) == [
            "outbound|7000||other.shop.svc.cluster.local",
            "outbound|9||db.shop.svc.cluster.local",
        ]

    def test_connection_pool_of_the_destination_shapes_the_connection(self) -> None:
        """Idle and total time are the listener's to keep, not the cluster's."""
        policy = {
            "connectionPool": {"tcp": {"idleTimeout": "90s", "maxConnectionDuration": "1h"}},
            "loadBalancer": {"consistentHash": {"useSourceIp": True}},
        }
        rule = config(
            "DestinationRule",
            _convert({"host": "db", "trafficPolicy": policy}),
            name="pool",
        )

        (chain,) = chains_of(view_of(rule))

        proxy = proxy_of(chain)
        assert proxy.idle_timeout.ToSeconds() == 90
        assert proxy.max_downstream_connection_duration.ToSeconds() == 3600
        assert proxy.hash_policy[0].HasField("source_ip")
        assert "DestinationRule shop/pool" in chain.origins


class TestTls:
    """Rules for TLS that passes through."""

    def test_without_a_rule_the_services_name_is_asked_for(self) -> None:
        """Where several services share the listener."""
        (shared,) = tls_chains_of(view_of())
        (alone,) = tls_chains_of(view_of(), by_name=False)

        assert shared.sni == ("secure.example.org",)
        assert alone.sni == ()

    def test_names_of_the_rule_lead_to_its_destinations(self) -> None:
        """A rule may split one host's names over services."""
        rule = virtual_service(
            {
                "hosts": ["secure.example.org"],
                "tls": [
                    {
                        "match": [{"sniHosts": ["a.example.org", "b.example.org"], "port": 443}],
                        "route": [to("v1", port={"number": 5432})],
                    },
                    {
                        "match": [{"sniHosts": ["*.example.org"]}],
                        "route": [{"destination": {"host": "secure.example.org"}}],
                    },
                ],
            }
        )

        found = tls_chains_of(view_of(rule))

        assert [(proxy_of(each).cluster, each.sni) for each in found] == [
            (V1, ("a.example.org", "b.example.org")),
            ("outbound|443||secure.example.org", ("*.example.org",)),
        ]

    def test_rule_for_another_port_leaves_the_default(self) -> None:
        """A service may be on several ports."""
        rule = virtual_service(
            {
                "hosts": ["secure.example.org"],
                "tls": [{"match": [{"sniHosts": ["a"], "port": 8443}], "route": [to("v1")]}],
            }
        )

        assert clusters(tls_chains_of(view_of(rule))) == ["outbound|443||secure.example.org"]

    def test_tcp_rules_do_not_touch_tls_ports(self) -> None:
        """Nor the other way round: each kind of rule is for its kind of port."""
        rule = virtual_service(
            {
                "hosts": ["secure.example.org", "db"],
                "tcp": [{"match": [{"port": 443}], "route": [to("v1")]}],
                "tls": [
                    {
                        "match": [{"sniHosts": ["db.shop.svc.cluster.local"], "port": 5432}],
                        "route": [to("v1")],
                    }
                ],
            }
        )

        assert clusters(tls_chains_of(view_of(rule))) == ["outbound|443||secure.example.org"]
        assert clusters(chains_of(view_of(rule))) == [DEFAULT]

    def test_subnets_of_the_match_come_before_the_services_own(self) -> None:
        """The rule's author knows better."""
        rule = virtual_service(
            {
                "hosts": ["secure.example.org"],
                "tls": [
                    {
                        "match": [{"sniHosts": ["a"], "destinationSubnets": ["10.0.0.0/8"]}],
                        "route": [to("v1")],
                    }
                ],
            }
        )

        (chain,) = chains_of(
            view_of(rule), Offer(SECURE, 443, 443, tls=True, subnets=("172.16.0.0/12",))
        )

        assert chain.subnets == ("10.0.0.0/8",)


def test_listener_shows_what_its_rules_use() -> None:
    """The push engine keeps these clusters, and a rejection names these objects."""
    rule = tcp_rule({"route": [to("v1", 1), to("v2", 1)]}, source="vs.yaml", line=1)
    view = FakeView(
        [DB], configs=[rule], proxy=Proxy(id="test", namespace="shop", interception_mode="NONE")
    )

    (resource,) = generate(GENERATOR, view, Root.PORT, "5432").values()

    assert resource.clusters == {V1, V2}
    assert resource.origins == ("VirtualService shop/rule (vs.yaml:1)",)


def _convert(spec: dict[str, Any]) -> DestinationRule:
    """Durations are decoded as the files are, not by msgspec alone."""
    return msgspec.convert(spec, DestinationRule, dec_hook=_decode)


def _decode(kind: type, value: object) -> object:
    assert kind is Duration
    return parse_duration(str(value))
