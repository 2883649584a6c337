"""The CORS filter; routes with a corsPolicy carry its settings."""

from envoy.extensions.filters.http.cors.v3 import cors_pb2

from aggregator.generators.filters.spec import FilterSpec, Stage
from aggregator.generators.spec import View


def build_cors(_view: View) -> cors_pb2.Cors:
    """Idle on routes without settings."""
    return cors_pb2.Cors()


FILTER = FilterSpec(name="envoy.filters.http.cors", stage=Stage.CORS, build=build_cors)
