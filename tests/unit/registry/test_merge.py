"""One service out of several registries' words."""

from itertools import permutations

from msgspec.structs import replace

from aggregator.model.registry import ServiceItem
from aggregator.model.service import Endpoint, Health, Port, Protocol, Service
from aggregator.registry.merge import Merged, Part, merge_parts
from tests.support.builders import endpoint, port, service


def part(
    registry: str, definition: Service | None, *endpoints: Endpoint, scope: str = "scope"
) -> Part:
    """What one registry says."""
    stamped = tuple(replace(each, registry=registry) for each in endpoints)
    item = ServiceItem("shop", "reviews.shop.svc.cluster.local", definition, stamped)
    return Part((registry, False, scope, "key"), item)


def merged_service(merged: Merged) -> Service:
    """The merged definition, which must be there."""
    assert merged.service is not None
    return merged.service


def test_the_definition_is_the_first_registrys() -> None:
    """Declared order decides; what a later registry says of the service does not flap into it."""
    merged = merge_parts(
        [
            part("east", service(labels={"from": "east"}, export_to=["."])),
            part("west", service(labels={"from": "west"})),
        ]
    )

    chosen = merged_service(merged)
    assert chosen.labels == (("from", "east"),)
    assert chosen.export_to == (".",)
    assert chosen.registries == ("east", "west")


def test_endpoints_are_united_with_their_provenance() -> None:
    """The point of the whole: one host served from several registries."""
    merged = merge_parts(
        [
            part("east", service(), endpoint("10.0.0.2"), endpoint("10.0.0.1")),
            part("west", service(), endpoint("10.0.0.3")),
        ]
    )

    assert [(each.address, each.registry) for each in merged.endpoints] == [
        ("10.0.0.1", "east"),
        ("10.0.0.2", "east"),
        ("10.0.0.3", "west"),
    ]


def test_the_same_place_counts_once_and_the_first_registry_tells_of_it() -> None:
    """Two registries that list one VM must not double its share of traffic."""
    merged = merge_parts(
        [
            part("east", service(), endpoint("10.0.0.1", labels={"from": "east"})),
            part("west", service(), endpoint("10.0.0.1", labels={"from": "west"})),
        ]
    )

    assert [each.labels for each in merged.endpoints] == [(("from", "east"),)]


def test_the_same_address_in_other_networks_is_another_place() -> None:
    """Private ranges overlap between networks and clusters."""
    merged = merge_parts(
        [
            part("east", service(), endpoint("10.0.0.1", network="n1", cluster_id="east")),
            part("west", service(), endpoint("10.0.0.1", network="n2", cluster_id="west")),
            part("south", service(), endpoint("10.0.0.1", network="n2", cluster_id="south")),
        ]
    )

    assert len(merged.endpoints) == 3


def test_of_one_registrys_words_on_one_place_the_healthiest_counts() -> None:
    """While an endpoint moves between slices it is in both for a moment."""
    for health in permutations([Health.READY, Health.NOT_READY]):
        slices = [
            part("east", None, endpoint("10.0.0.1", health=each), scope=str(index))
            for index, each in enumerate(health)
        ]
        merged = merge_parts([part("east", service()), *slices])

        assert [each.health for each in merged.endpoints] == [Health.READY]


def test_endpoints_wait_for_a_definition() -> None:
    """A slice alone tells neither protocol nor port numbers."""
    merged = merge_parts([part("east", None, endpoint())])

    assert merged.service is None
    assert merged.endpoints == ()


def test_ports_are_united_and_their_endpoints_serve_only_their_own() -> None:
    """Traffic for a port goes only to those who have it."""
    web, admin = port(80, "HTTP", "http"), port(9000, "TCP", "admin", target=9001)
    merged = merge_parts(
        [
            part("east", service("a.b", web), endpoint("10.0.0.1")),
            part("west", service("a.b", admin), endpoint("10.0.0.2")),
        ]
    )

    ports = merged_service(merged).ports
    assert [each.number for each in ports] == [80, 9000]
    served = {each.address: [each.port_number(port) for port in ports] for each in merged.endpoints}
    assert served == {"10.0.0.1": [80, 0], "10.0.0.2": [0, 9001]}


def test_a_port_is_found_under_its_own_registrys_name_and_target() -> None:
    """Two clusters may call port 80 differently and run different target ports."""
    merged = merge_parts(
        [
            part(
                "east", service("a.b", port(80, "HTTP", "http", target=8080)), endpoint("1.1.1.1")
            ),
            part("west", service("a.b", port(80, "HTTP", "web", target=9090)), endpoint("2.2.2.2")),
            part("west", None, endpoint("3.3.3.3", ports={"web": 7070})),
        ]
    )

    (only,) = merged_service(merged).ports
    assert only.name == "http"
    assert [each.port_number(only) for each in merged.endpoints] == [8080, 9090, 7070]


def test_a_slice_serves_only_the_ports_that_it_lists() -> None:
    """Pods whose named target port does not exist are in a slice without that port."""
    definition = service("a.b", port(80, "HTTP", "http"), port(90, "TCP", "admin"))
    merged = merge_parts(
        [part("east", definition), part("east", None, endpoint(ports={"http": 8080}))]
    )

    (only,) = merged.endpoints
    assert [only.port_number(each) for each in definition.ports] == [8080, 0]


def test_names_of_united_ports_stay_unique() -> None:
    """Endpoints name their ports; two of one name would be confused."""
    merged = merge_parts(
        [
            part("east", service("a.b", port(80, "HTTP", "http"))),
            part("west", service("a.b", port(8080, "HTTP", "http"))),
        ]
    )

    assert [each.name for each in merged_service(merged).ports] == ["http", "http-8080"]
    assert any("http-8080" in problem.message for problem in merged.problems)


def test_conflicts_name_the_loser_and_the_winner() -> None:
    """Whoever wrote the definition that does not count is told so, and which one does."""
    east = service("a.b", Port(80, "http", Protocol.HTTP), origin="east/a")
    west = service("a.b", Port(80, "http", Protocol.TCP), origin="west/a", mesh_external=True)
    merged = merge_parts([part("east", east), part("west", west)])

    texts = [str(problem) for problem in merged.problems]
    assert len(texts) == 2
    assert all(text.startswith("west/a") and "(east/a)" in text for text in texts)
    assert any("port 80 is TCP here, HTTP there" in text for text in texts)


def test_agreeing_registries_have_no_conflicts() -> None:
    """The usual multi-cluster service is quiet."""
    assert merge_parts([part("east", service()), part("west", service())]).problems == ()


def test_host_names_are_left_out_where_addresses_are_wanted() -> None:
    """Envoy refuses a whole assignment for one host name in it."""
    merged = merge_parts(
        [
            part("east", service("a.b"), endpoint("10.0.0.1")),
            part("west", service("a.b", resolution="DNS"), endpoint("db.example.com")),
        ]
    )

    assert [each.address for each in merged.endpoints] == ["10.0.0.1"]
    assert any("db.example.com" in problem.message for problem in merged.problems)


def test_virtual_addresses_are_united_in_order() -> None:
    """A proxy anywhere may be asked for the service's address in any cluster."""
    merged = merge_parts(
        [
            part("east", service("a.b", addresses=["10.1.0.1"])),
            part("west", service("a.b", addresses=["10.2.0.1", "10.1.0.1"])),
        ]
    )

    assert merged_service(merged).addresses == ("10.1.0.1", "10.2.0.1")
