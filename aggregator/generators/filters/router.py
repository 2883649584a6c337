"""The router, which ends every chain."""

from envoy.extensions.filters.http.router.v3 import router_pb2

from aggregator.generators.filters.spec import FilterSpec, Stage
from aggregator.generators.spec import View


def build_router(_view: View) -> router_pb2.Router:
    """Plain: statistics and debug headers as Envoy has them."""
    return router_pb2.Router()


FILTER = FilterSpec(
    name="envoy.filters.http.router",
    stage=Stage.ROUTER,
    build=build_router,
    clients=frozenset({"envoy", "grpc"}),
)
