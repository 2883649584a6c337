"""What of a request is hashed, for clusters whose DestinationRule asks for consistent hashing."""

from envoy.config.route.v3 import route_components_pb2 as route_pb2

from aggregator.generators.duration import build_duration
from config.traffic_policy import ConsistentHashLB, HTTPCookie, TrafficPolicy

HashPolicy = route_pb2.RouteAction.HashPolicy


def build_hash_policy(policy: TrafficPolicy | None) -> route_pb2.RouteAction.HashPolicy | None:
    """None where nothing is hashed."""
    balancer = policy.load_balancer if policy else None
    hashing = balancer.consistent_hash if balancer else None
    return _build(hashing) if hashing else None


def _build(hashing: ConsistentHashLB) -> route_pb2.RouteAction.HashPolicy | None:
    if hashing.http_header_name:
        return HashPolicy(header=HashPolicy.Header(header_name=hashing.http_header_name))
    if hashing.http_cookie is not None:
        return HashPolicy(cookie=_build_cookie(hashing.http_cookie))
    if hashing.use_source_ip:
        return HashPolicy(connection_properties=HashPolicy.ConnectionProperties(source_ip=True))
    if hashing.http_query_parameter_name:
        return HashPolicy(
            query_parameter=HashPolicy.QueryParameter(name=hashing.http_query_parameter_name)
        )
    return None


def _build_cookie(cookie: HTTPCookie) -> route_pb2.RouteAction.HashPolicy.Cookie:
    built = HashPolicy.Cookie(
        name=cookie.name,
        path=cookie.path,
        attributes=[
            HashPolicy.CookieAttribute(name=each.name, value=each.value)
            for each in cookie.attributes
        ],
    )
    if cookie.ttl is not None:
        built.ttl.CopyFrom(build_duration(cookie.ttl))
    return built
