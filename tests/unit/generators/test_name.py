"""Names of clusters."""

import pytest

from aggregator.generators.name import (
    OutboundName,
    inbound_cluster,
    outbound_cluster,
    parse_outbound,
    stat_name,
)


def test_names_are_those_that_istio_gives() -> None:
    """Dashboards and tools find clusters by these very names."""
    assert outbound_cluster("reviews.shop.mesh", 80) == "outbound|80||reviews.shop.mesh"
    assert outbound_cluster("reviews.shop.mesh", 80, "v1") == "outbound|80|v1|reviews.shop.mesh"
    assert inbound_cluster(8080) == "inbound|8080||"
    assert stat_name("outbound|80||a.b") == "outbound|80||a.b;"


def test_a_name_is_read_back_into_its_parts() -> None:
    """What Envoy asks for by name must be found again."""
    name = parse_outbound("outbound|80|v1|reviews.shop.mesh")

    assert name == OutboundName(80, "v1", "reviews.shop.mesh")
    assert str(name) == "outbound|80|v1|reviews.shop.mesh"


@pytest.mark.parametrize(
    "name", ["BlackHoleCluster", "inbound|80||", "outbound|x||h", "outbound|80|h"]
)
def test_other_names_are_no_outbound_names(name: str) -> None:
    """A cluster of another kind is never taken for a service's."""
    assert parse_outbound(name) is None
