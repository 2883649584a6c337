"""What an HTTP filter declares, and how the chain of all filters is made from what is found.

Knows no single filter: their order follows from stage and name.
"""

from collections.abc import Callable
from enum import IntEnum
from functools import cache

from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from google.protobuf.message import Message
from msgspec import Struct

from aggregator.generators.spec import View
from aggregator.model.discovery import find


class Stage(IntEnum):
    """Where in the chain a filter stands; a request passes the lower ones first."""

    AUTHENTICATION = 10
    CORS = 20
    AUTHORIZATION = 30
    STATS = 40
    FAULT = 50
    LAST = 60
    ROUTER = 100


class FilterSpec(Struct, frozen=True):
    """Declares an HTTP filter. `name` is also the key of its settings on routes and virtual hosts.

    `build` gives the filter's own message, or None where the view has no use for it.
    `attributes` and `kinds` are what it may read, as in `GeneratorSpec`. `clients` are ``envoy``
    and ``grpc``.
    """

    name: str
    stage: Stage
    build: Callable[[View], Message | None]
    attributes: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    clients: frozenset[str] = frozenset({"envoy"})


@cache
def filter_specs(client: str) -> tuple[FilterSpec, ...]:
    """Every filter of a client, in the order of the chain."""
    found = find("aggregator.generators.filters", "FILTER", FilterSpec).values()
    return tuple(
        sorted(
            (spec for spec in found if client in spec.clients),
            key=lambda spec: (spec.stage, spec.name),
        )
    )


def build_http_filters(view: View, client: str = "envoy") -> list[hcm_pb2.HttpFilter]:
    """The chain as *view* gets it; the router is its end."""
    filters = []
    for spec in filter_specs(client):
        message = spec.build(view)
        if message is None:
            continue
        http_filter = hcm_pb2.HttpFilter(name=spec.name)
        http_filter.typed_config.Pack(message, deterministic=True)
        filters.append(http_filter)
    return filters


def filter_attributes(client: str = "envoy") -> frozenset[str]:
    """What the filters of a client read of the view, for the generators that hold them."""
    return frozenset().union(*(spec.attributes for spec in filter_specs(client)))


def filter_kinds(client: str = "envoy") -> frozenset[str]:
    """The config kinds that the filters of a client ask for."""
    return frozenset().union(*(spec.kinds for spec in filter_specs(client)))
