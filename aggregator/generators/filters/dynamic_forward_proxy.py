"""Resolves the hosts of requests to services with resolution DYNAMIC_DNS; absent where there are
none.
"""

from google.protobuf.message import Message

from aggregator.generators.dynamic_dns import ATTRIBUTES, build_http_filter
from aggregator.generators.filters.spec import FilterSpec, Stage
from aggregator.generators.spec import View


def build_dynamic_forward_proxy(view: View) -> Message | None:
    """None unless some service needs it: every listener carries it."""
    return build_http_filter(view) if view.resolves_dynamically() else None


FILTER = FilterSpec(
    name="envoy.filters.http.dynamic_forward_proxy",
    stage=Stage.LAST,
    build=build_dynamic_forward_proxy,
    attributes=ATTRIBUTES,
)
