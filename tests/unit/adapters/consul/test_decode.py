"""Consul's words for one service to the model."""

from typing import Any

import msgspec
import pytest

from adapters.consul.answer import Faulty, Instance, read_instances
from adapters.consul.decode import Decoded, Decoder, Scope
from adapters.consul.settings import ConsulSettings, Status
from aggregator.model.registry import RegistryContext
from aggregator.model.service import Endpoint, Health, Locality, Port, Protocol, Resolution, Service


def instance(number: int = 1, **fields: Any) -> dict[str, Any]:
    """An entry of Consul's answer. Fields of the node begin with ``node_``; the rest are the
    service's, but for `checks`, which are states.
    """
    node = {"Node": f"n{number}", "Address": f"10.1.0.{number}", "Datacenter": "dc1"}
    service: dict[str, Any] = {
        "ID": f"web-{number}",
        "Service": "web",
        "Address": f"10.0.0.{number}",
        "Port": 80,
        "CreateIndex": number,
    }
    checks = [{"CheckID": f"c{place}", "Status": each} if isinstance(each, str) else each
              for place, each in enumerate(fields.pop("checks", ()))]  # fmt: skip
    for name, value in fields.items():
        target = node if name.startswith("node_") else service
        target["".join(part.title() for part in name.removeprefix("node_").split("_"))] = value
    return {"Node": node, "Service": service, "Checks": checks}


def decode(
    *instances: dict[str, Any],
    name: str = "web",
    context: dict[str, Any] | None = None,
    scope: Scope | None = None,
    own: str = "dc1",
    before: Service | None = None,
    faulty: tuple[Faulty, ...] = (),
    **settings: Any,
) -> Decoded:
    """Decode a service as the adapter does."""
    made = RegistryContext(**{"name": "consul", "cluster_id": "", **(context or {})})
    decoder = Decoder(made, ConsulSettings(**settings), scope or Scope("dc1"), own)
    return decoder.decode(name, msgspec.convert(list(instances), list[Instance]), faulty, before)


def service_of(decoded: Decoded) -> Service:
    """The definition."""
    assert decoded.item is not None
    assert decoded.item.service is not None
    return decoded.item.service


def endpoints_of(decoded: Decoded) -> tuple[Endpoint, ...]:
    """The endpoints."""
    assert decoded.item is not None
    return decoded.item.endpoints


def messages(decoded: Decoded) -> str:
    """What is wrong."""
    return "\n".join(str(each) for each in decoded.problems)


# Hosts


def test_the_host_is_the_name_that_consul_s_dns_has() -> None:
    """Clients that ask Consul's DNS today ask for the same name."""
    assert service_of(decode(instance())).host == "web.service.dc1.consul"
    assert service_of(decode(instance(), name="My_Web")).host == "my-web.service.dc1.consul"


def test_namespace_and_partition_are_in_the_host_unless_they_are_the_default() -> None:
    """Or two services would be one."""
    assert (
        service_of(decode(instance(), scope=Scope("dc1", "shop", "default"))).host
        == "web.shop.service.dc1.consul"
    )


def test_the_template_of_the_registry_makes_the_host() -> None:
    """So that several datacenters can share one."""
    context = {"host_template": "{service}.{datacenter}.mesh"}

    assert service_of(decode(instance(), context=context)).host == "web.dc1.mesh"


@pytest.mark.parametrize("name", ["", "a b", "wéb", "..", "x" * 64, "a/b", "-"], ids=repr)
def test_a_name_that_is_no_dns_name_is_told_of(name: str) -> None:
    """Left out with the reason, whatever was registered."""
    decoded = decode(instance(), name=name)

    assert decoded.item is None
    assert len(decoded.problems) == 1


# Ports


def test_instances_on_several_ports_make_a_service_with_several() -> None:
    """Each serves its own only."""
    decoded = decode(instance(1, port=8080), instance(2, port=9090))

    ports = service_of(decoded).ports
    assert ports == (Port(8080, "tcp-8080"), Port(9090, "tcp-9090"))
    one, two = endpoints_of(decoded)
    assert [one.port_number(port) for port in ports] == [8080, 0]
    assert [two.port_number(port) for port in ports] == [0, 9090]


def test_a_named_port_is_one_port_wherever_its_instances_listen() -> None:
    """Consul's services with several ports name them."""
    ports = [{"Name": "http", "Port": 8080, "Default": True}, {"Name": "admin", "Port": 9000}]
    others = [{"Name": "http", "Port": 8081, "Default": True}, {"Name": "admin", "Port": 9000}]

    decoded = decode(instance(1, ports=ports), instance(2, ports=others))

    assert service_of(decoded).ports == (
        Port(8080, "http", Protocol.HTTP),
        Port(9000, "admin", Protocol.TCP),
    )
    one, two = endpoints_of(decoded)
    assert one.ports == ()
    assert two.ports == (("admin", 9000), ("http", 8081))


def test_two_names_for_one_number_are_not_two_ports() -> None:
    """A number is served by one listener; the other name is told of."""
    decoded = decode(
        instance(1, ports=[{"Name": "a", "Port": 80}]),
        instance(2, ports=[{"Name": "b", "Port": 80}]),
    )

    assert [port.name for port in service_of(decoded).ports] == ["a"]
    assert "port 'b' left out: 80 is the number of 'a'" in messages(decoded)


@pytest.mark.parametrize("port", [0, -1, 65536, 99999999], ids=repr)
def test_a_nonsense_port_costs_only_its_instance(port: int) -> None:
    """The others of the service are served."""
    decoded = decode(instance(1, port=port), instance(2))

    assert [each.address for each in endpoints_of(decoded)] == ["10.0.0.2"]
    assert "n1/web-1" in messages(decoded)


def test_a_service_without_any_usable_port_is_told_of() -> None:
    """It cannot be reached by anybody."""
    decoded = decode(instance(1, port=0), instance(2, socket_path="/run/web.sock"))

    assert decoded.item is None
    assert "it has no port" in messages(decoded)
    assert "Unix socket" in messages(decoded)


@pytest.mark.parametrize(
    ("fields", "context", "protocol"),
    [
        ({"meta": {"protocol": "http"}}, {}, Protocol.HTTP),
        ({"tags": ["protocol=grpc"]}, {}, Protocol.GRPC),
        ({"tags": ["protocol|grpc"]}, {}, Protocol.GRPC),
        ({}, {"protocol": "HTTP"}, Protocol.HTTP),
        ({"meta": {"protocol": "nonsense"}}, {}, Protocol.TCP),
    ],
    ids=str,
)
def test_the_protocol_is_told_by_metadata_then_by_the_registry(
    fields: dict[str, Any], context: dict[str, Any], protocol: Protocol
) -> None:
    """TCP, which every client can use, where nobody tells."""
    (port,) = service_of(decode(instance(**fields), context=context)).ports

    assert port.protocol is protocol


# Addresses


def test_the_node_s_address_stands_in_for_a_missing_one() -> None:
    """As in Consul's own DNS."""
    assert endpoints_of(decode(instance(address="")))[0].address == "10.1.0.1"


def test_a_tagged_address_is_taken_with_its_port() -> None:
    """An instance may be reachable elsewhere under another port."""
    tagged = {"lan_ipv6": {"Address": "fd00::1", "Port": 8080}}

    decoded = decode(instance(tagged_addresses=tagged), tagged_address="lan_ipv6")

    (port,) = service_of(decoded).ports
    (endpoint,) = endpoints_of(decoded)
    assert (port.number, endpoint.address, endpoint.port_number(port)) == (80, "fd00::1", 8080)


def test_instances_elsewhere_are_reached_by_their_wan_address() -> None:
    """Only from other datacenters, the service's before the node's."""
    tagged = {"wan": {"Address": "192.0.2.1", "Port": 80}}
    far = Scope("dc2")

    assert endpoints_of(decode(instance(tagged_addresses=tagged)))[0].address == "10.0.0.1"
    assert (
        endpoints_of(decode(instance(tagged_addresses=tagged), scope=far))[0].address == "192.0.2.1"
    )
    bare = instance(address="", node_tagged_addresses={"wan": "192.0.2.9"})
    assert endpoints_of(decode(bare, scope=far))[0].address == "192.0.2.9"


def test_a_host_name_as_address_is_left_to_the_proxy_to_resolve() -> None:
    """The service is not dropped for it."""
    decoded = decode(instance(1, address="web.example.com"), instance(2))

    assert service_of(decoded).resolution is Resolution.DNS
    assert len(endpoints_of(decoded)) == 2


@pytest.mark.parametrize("address", ["0.0.0.0", "not an address", "a" * 300, "http://x"], ids=repr)
def test_a_useless_address_costs_only_its_instance(address: str) -> None:
    """And is told of."""
    decoded = decode(instance(1, address=address), instance(2))

    assert [each.address for each in endpoints_of(decoded)] == ["10.0.0.2"]
    assert "n1/web-1" in messages(decoded)


# Health and weight


@pytest.mark.parametrize(
    ("checks", "health", "expected"),
    [
        ((), None, Health.READY),
        (("passing", "warning"), None, Health.READY),
        (("passing", "warning"), (Status.PASSING,), Health.NOT_READY),
        (("passing", "critical"), None, Health.NOT_READY),
        (("critical",), (Status.CRITICAL,), Health.READY),
        (("new word",), None, Health.NOT_READY),
        (({"CheckID": "_node_maintenance", "Status": "critical"},), None, Health.TERMINATING),
        (
            ({"CheckID": "_service_maintenance:web-1", "Status": "critical"},),
            (Status.CRITICAL,),
            Health.TERMINATING,
        ),
    ],
    ids=str,
)
def test_the_worst_check_decides_and_maintenance_always_counts(
    checks: tuple[Any, ...], health: tuple[Status, ...] | None, expected: Health
) -> None:
    """Instances without traffic stay in the model, so that their state can be looked at."""
    settings: dict[str, Any] = {"health": health} if health else {}

    assert endpoints_of(decode(instance(checks=checks), **settings))[0].health is expected


@pytest.mark.parametrize(
    ("fields", "weight"),
    [
        ({}, 1),
        ({"weights": {"Passing": 7, "Warning": 2}}, 7),
        ({"weights": {"Passing": 7, "Warning": 2}, "checks": ("warning",)}, 2),
        ({"weights": {"Passing": 7, "Warning": 0}, "checks": ("warning",)}, 0),
        ({"weights": {"Passing": 7, "Warning": 2}, "tags": ["weight=9"]}, 9),
        ({"meta": {"weight": "0"}}, 0),
        ({"meta": {"weight": "many"}, "weights": {"Passing": 7, "Warning": 2}}, 7),
    ],
    ids=str,
)
def test_weights_are_consul_s_own_unless_the_instance_says_otherwise(
    fields: dict[str, Any], weight: int
) -> None:
    """By state, as Consul's DNS does it."""
    assert endpoints_of(decode(instance(**fields)))[0].weight == weight


# Labels and places


def test_meta_and_tags_become_labels() -> None:
    """Meta count before tags of the same name, and the datacenter is always told."""
    decoded = decode(
        instance(tags=["version=v1", "team|shop", "prod"], meta={"version": "v2", "rack": "r1"})
    )

    assert dict(endpoints_of(decoded)[0].labels) == {
        "version": "v2",
        "team": "shop",
        "consul-tag/prod": "true",
        "rack": "r1",
        "consul-datacenter": "dc1",
    }


def test_what_can_be_no_label_is_left_out_and_told_once() -> None:
    """Routers' tags and addresses are often among the metadata."""
    decoded = decode(
        instance(tags=["traefik.rule=Host(`a`)", "urlprefix-/x"], meta={"url": "http://x"})
    )

    assert [key for key, _ in endpoints_of(decoded)[0].labels] == ["consul-datacenter"]
    assert decoded.problems == ()
    assert decoded.dropped == "consul-tag/urlprefix-/x"


def test_a_megabyte_of_meta_costs_the_labels_of_its_instance() -> None:
    """It is served, and does not take up memory."""
    meta = {f"key{number}": "x" * 60 for number in range(20_000)}

    decoded = decode(instance(1, meta=meta), instance(2, meta={"version": "v1"}))

    one, two = endpoints_of(decoded)
    assert len(one.labels) == 1
    assert dict(two.labels)["version"] == "v1"
    assert "expected at most" in messages(decoded)
    assert len(messages(decoded)) < 500


@pytest.mark.parametrize(
    ("fields", "context", "settings", "expected"),
    [
        ({}, {}, {}, "dc1"),
        ({}, {}, {"regions": {"dc1": "eu-west"}}, "eu-west"),
        ({}, {"locality": "eu/eu-1"}, {}, "eu/eu-1"),
        ({"node_meta": {"zone": "b"}}, {}, {}, "dc1/b"),
        ({"node_meta": {"region": "us", "zone": "b"}}, {}, {}, "us/b"),
        ({"node_locality": {"Region": "us", "Zone": "c"}}, {}, {}, "us/c"),
        (
            {"locality": {"Region": "eu", "Zone": "a"}, "node_meta": {"region": "us"}},
            {},
            {},
            "eu/a",
        ),
        ({"meta": {"locality": "x/y/z"}, "locality": {"Region": "eu"}}, {}, {}, "x/y/z"),
        ({"tags": ["region=t"]}, {}, {}, "t"),
    ],
    ids=str,
)
def test_the_nearest_word_on_the_place_counts(
    fields: dict[str, Any], context: dict[str, Any], settings: dict[str, Any], expected: str
) -> None:
    """Instance, then node, then registry, then the datacenter."""
    (endpoint,) = endpoints_of(decode(instance(**fields), context=context, **settings))

    assert endpoint.locality == Locality.parse(expected)


def test_what_an_instance_tells_of_network_and_identity_is_taken() -> None:
    """And the registry's network otherwise."""
    told = instance(1, meta={"network": "net2", "service-account": "shop/web"})
    one, two = endpoints_of(decode(told, instance(2), context={"network": "net1"}))

    assert (one.network, one.service_account) == ("net2", "shop/web")
    assert (two.network, two.service_account) == ("net1", "")
    assert (one.node, one.registry) == ("n1", "consul")


# What is left out, and what stays


@pytest.mark.parametrize("kind", ["connect-proxy", "mesh-gateway", "api-gateway"])
def test_proxies_of_consul_s_own_mesh_are_no_services(kind: str) -> None:
    """They are not for our clients, and nothing is wrong with them."""
    assert decode(instance(kind=kind)) == Decoded()


def test_only_instances_with_the_wanted_tags_are_read() -> None:
    """All of them, and exactly so."""
    decoded = decode(
        instance(1, tags=["prod", "eu"]),
        instance(2, tags=["production", "eu"]),
        tags=("prod", "eu"),
    )

    assert [each.address for each in endpoints_of(decoded)] == ["10.0.0.1"]


def test_a_service_without_instances_keeps_its_definition() -> None:
    """Zero endpoints are not the same as no service."""
    before = service_of(decode(instance()))

    decoded = decode(before=before)

    assert service_of(decoded) == before
    assert endpoints_of(decoded) == ()


def test_order_and_checks_output_make_no_difference() -> None:
    """The same state is the same item."""
    assert decode(instance(1), instance(2)).item == decode(instance(2), instance(1)).item


def test_many_bad_instances_are_told_in_few_words() -> None:
    """A log is not a dump."""
    decoded = decode(*(instance(number, port=-1) for number in range(1, 100)))

    assert len(decoded.problems) < 8
    assert "94" in messages(decoded)


def test_an_entry_that_cannot_be_read_does_not_hide_the_others() -> None:
    """Whatever a server writes."""
    good, bad = instance(1), instance(2)
    bad["Service"]["Port"] = "eighty"

    found, faulty = read_instances(msgspec.json.encode([good, bad]))
    made = Decoder(
        RegistryContext(name="consul", cluster_id=""), ConsulSettings(), Scope("dc1"), ""
    )
    decoded = made.decode("web", found, faulty)

    assert [each.address for each in endpoints_of(decoded)] == ["10.0.0.1"]
    assert "number 1" in messages(decoded)
