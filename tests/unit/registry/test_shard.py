"""What a shard's items count for."""

from aggregator.model.registry import ServiceItem
from aggregator.model.service import Endpoint, Health
from aggregator.registry.shard import weight_of


def test_only_endpoints_that_get_traffic_count() -> None:
    """Checks that fail everywhere at once take as much away as a listing that lacks everything."""
    endpoints = [
        Endpoint("10.0.0.1"),
        Endpoint("10.0.0.2", health=Health.NOT_READY),
        Endpoint("10.0.0.3", health=Health.TERMINATING),
    ]

    assert weight_of(ServiceItem("shop", "a.mesh", None, tuple(endpoints))) == 1
