"""The fault filter; routes with delays or aborts carry its settings."""

from envoy.extensions.filters.http.fault.v3 import fault_pb2

from aggregator.generators.filters.spec import FilterSpec, Stage
from aggregator.generators.spec import View


def build_fault(_view: View) -> fault_pb2.HTTPFault:
    """Idle on routes without settings."""
    return fault_pb2.HTTPFault()


FILTER = FilterSpec(
    name="envoy.filters.http.fault",
    stage=Stage.FAULT,
    build=build_fault,
    clients=frozenset({"envoy", "grpc"}),
)
