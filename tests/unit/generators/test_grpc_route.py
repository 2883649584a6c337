"""Route tables for gRPC's own xDS clients."""

from envoy.config.route.v3 import route_components_pb2, route_pb2

from aggregator.generators.grpc_route import GENERATOR, restrict_routes
from aggregator.generators.spec import Root
from aggregator.model.config import Config
from tests.support.builders import port, service
from tests.support.rules import virtual_service
from tests.support.view import FakeView, generate

ECHO = service("echo.shop.svc.cluster.local", port(7070, "GRPC"), origin="echo.yaml")
NAME = "outbound|7070||echo.shop.svc.cluster.local"


def table(*configs: Config) -> route_pb2.RouteConfiguration:
    found = generate(GENERATOR, FakeView([ECHO], configs=configs), Root.HOST, ECHO.host)
    return route_pb2.RouteConfiguration.FromString(found[NAME].body)


def routes(rule: str) -> list[route_components_pb2.Route]:
    (host,) = table(virtual_service(rule)).virtual_hosts
    return list(host.routes)


def test_service_without_a_rule_leads_to_its_cluster() -> None:
    """The table has the name that the listener asks for, and takes any name that was dialled."""
    built = table()

    (host,) = built.virtual_hosts
    assert built.name == NAME
    assert list(host.domains) == [
        "echo.shop.svc.cluster.local:7070",
        "echo.shop.svc.cluster.local",
        "*",
    ]
    assert host.routes[0].route.cluster == NAME


def test_weights_and_what_shaped_them_are_told() -> None:
    """The push engine keeps these clusters while the table is in use."""
    rule = virtual_service(
        """
        hosts: [echo]
        http:
        - route:
          - {destination: {host: echo, subset: v1}, weight: 90}
          - {destination: {host: echo, subset: v2}, weight: 10}
        """
    )
    found = generate(GENERATOR, FakeView([ECHO], configs=[rule]), Root.HOST, ECHO.host)

    assert found[NAME].clusters == {
        "outbound|7070|v1|echo.shop.svc.cluster.local",
        "outbound|7070|v2|echo.shop.svc.cluster.local",
    }
    assert "VirtualService shop/rule" in found[NAME].origins


def test_filters_that_grpc_lacks_get_no_settings() -> None:
    """Its clients refuse the table for settings of a filter that they do not know."""
    (route,) = routes(
        """
        hosts: [echo]
        http:
        - corsPolicy: {allowOrigins: [{exact: "https://example.org"}]}
          fault: {abort: {httpStatus: 503, percentage: {value: 1}}}
          route: [{destination: {host: echo}}]
        """
    )

    assert list(route.typed_per_filter_config) == ["envoy.filters.http.fault"]


def test_only_conditions_that_grpc_retries_on_are_left() -> None:
    """It ignores the rest; without any there is no policy."""
    (some,) = routes(
        """
        hosts: [echo]
        http:
        - retries: {attempts: 3, retryOn: "5xx,unavailable, cancelled"}
          route: [{destination: {host: echo}}]
        """
    )
    (none,) = routes(
        """
        hosts: [echo]
        http:
        - retries: {attempts: 3, retryOn: "5xx,reset"}
          route: [{destination: {host: echo}}]
        """
    )

    assert some.route.retry_policy.retry_on == "unavailable,cancelled"
    assert some.route.retry_policy.num_retries.value == 3
    assert not none.route.HasField("retry_policy")


def test_timeout_is_written_where_grpc_reads_it() -> None:
    """It knows Envoy's `max_stream_duration`, and not its `timeout`."""
    (limited,) = routes(
        """
        hosts: [echo]
        http:
        - timeout: 5s
          route: [{destination: {host: echo}}]
        """
    )

    duration = limited.route.max_stream_duration
    assert duration.max_stream_duration.ToSeconds() == 5
    # To gRPC that limit of Envoy's on what callers ask for comes first, and zero is for ever.
    assert not duration.HasField("grpc_timeout_header_max")


def test_shared_routes_are_not_changed() -> None:
    """Sidecars' virtual hosts are made of the same functions, perhaps one day of one object."""
    route = route_components_pb2.Route()
    route.route.retry_policy.retry_on = "5xx"
    route.route.timeout.FromSeconds(1)
    before = route.SerializeToString(deterministic=True)

    restrict_routes([route])

    assert route.SerializeToString(deterministic=True) == before
