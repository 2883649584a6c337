"""The chain of HTTP filters, made from what the package's modules declare."""

from aggregator.generators.filters.spec import (
    Stage,
    build_http_filters,
    filter_attributes,
    filter_kinds,
    filter_specs,
)
from tests.support.view import FakeView


def test_filters_stand_in_the_order_of_their_stages() -> None:
    """Preflights are answered before faults are injected, and nothing comes behind the router."""
    names = [each.name for each in build_http_filters(FakeView())]

    assert names == [
        "envoy.filters.http.cors",
        "envoy.filters.http.fault",
        "envoy.filters.http.router",
    ]


def test_grpc_clients_get_only_what_they_know() -> None:
    """They refuse a listener with a filter that is unknown to them."""
    names = [each.name for each in build_http_filters(FakeView(), "grpc")]

    assert names == ["envoy.filters.http.fault", "envoy.filters.http.router"]


def test_every_client_has_exactly_one_router_and_unique_names() -> None:
    """The name is the key of a route's settings; without a router Envoy refuses the chain."""
    for client in ("envoy", "grpc"):
        specs = filter_specs(client)
        assert [each.stage for each in specs].count(Stage.ROUTER) == 1
        assert len({each.name for each in specs}) == len(specs)


def test_what_filters_read_is_what_they_declare() -> None:
    """The generator that holds them declares it in their stead."""
    view = FakeView()

    build_http_filters(view)

    asked = {about for question, about in view.reads if question == "attribute"}
    assert asked <= filter_attributes()
    assert not filter_kinds()
