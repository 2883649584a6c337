"""The HTTP server as probes, scrapers and people use it."""

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import pytest
from envoy.admin.v3 import config_dump_pb2, config_dump_shared_pb2
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from google.protobuf import json_format
from msgspec import structs

from aggregator.debug.http import PUBLIC
from aggregator.debug.spec import views
from aggregator.generators.spec import CLUSTER, ENDPOINT, ROUTE, VIRTUAL_HOST
from aggregator.model.errors import Origin, Problem
from aggregator.model.registry import Content, NetworkGateway, ServiceItem, ShardKey
from aggregator.model.service import Locality
from aggregator.quantity import Address
from config.kinds.destination_rule import DestinationRule
from config.kinds.virtual_service import VirtualService
from tests.support.builders import endpoint, rule, service
from tests.support.daemon import Running, running_parts
from tests.support.poll import eventually

HOST = "reviews.shop.svc.cluster.local"
NODE = "sidecar~10.1.1.1~web-1.shop~shop.svc.cluster.local"


def feed(running: Running) -> None:
    """A service with an endpoint, a rule, a problem; then in sync."""
    item = ServiceItem("shop", HOST, service(HOST, origin="a.yaml"), (endpoint("10.0.0.1"),))
    running.sink.replace(ShardKey(running.name, "a.yaml", Content.SERVICES), {"reviews": item})
    virtual = rule(
        VirtualService,
        {"hosts": [HOST], "http": [{"timeout": "5s", "route": [{"destination": {"host": HOST}}]}]},
        source="a.yaml",
        line=7,
    )
    running.sink.replace(ShardKey(running.name, "a.yaml", Content.RULES), {"rule": virtual})
    running.sink.report("b.yaml", [Problem(Origin("b.yaml", 3), "spec.hosts", "required")])
    running.sink.synced()


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    """A daemon's parts with a little of everything."""
    async with running_parts() as parts:
        feed(parts)
        yield parts


def other_address() -> str:
    """An address of this machine that is not loopback; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(probe.getsockname()[0])


async def get(running: Running, path: str, **headers: str) -> tuple[int, str]:
    """Status and body."""
    async with (
        aiohttp.ClientSession() as client,
        client.get(running.http + path, headers=headers) as response,
    ):
        return response.status, await response.text()


async def look(running: Running, path: str) -> Any:
    """The JSON of a debug view."""
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"{running.http}/debug/{path}") as response,
    ):
        assert response.status == 200, await response.text()
        assert response.content_type == "application/json"
        return await response.json()


def names_in(value: Any, inside: str = "") -> Iterator[str]:
    """The names of all fields; those in what users wrote are theirs."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from [] if inside in {"labels", "metadata", "spec", "parameters"} else [name]
            yield from names_in(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from names_in(each, inside)


async def clusters_of(running: Running) -> dict[str, Any]:
    """What syncz says of clusters on the one proxy."""
    (proxy,) = await look(running, "syncz?proxyID=web-1.shop")
    cds: dict[str, Any] = proxy["types"]["CDS"]
    return cds


@asynccontextmanager
async def connected(running: Running) -> AsyncIterator[Any]:
    """A client that has subscribed to clusters and not answered yet."""
    async with grpc.aio.insecure_channel(running.grpc) as channel:
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
        call = stub.StreamAggregatedResources()
        node = base_pb2.Node(id=NODE)
        node.metadata.update({"LABELS": {"app": "web"}, "NAMESPACE": "shop"})
        node.locality.region = "eu"
        await call.write(discovery_pb2.DiscoveryRequest(type_url=CLUSTER.type_url, node=node))
        yield call
        call.cancel()


async def test_it_is_ready_once_the_required_registry_is_in_sync() -> None:
    """Nobody is sent here before there is anything to serve; the answer says what is awaited."""
    async with running_parts(name="vms") as running:
        before = await get(running, "/ready")
        feed(running)
        after = await get(running, "/ready")

    assert before == (503, "not ready: registry vms is starting\n")
    assert after == (200, "ready\n")


async def test_it_is_alive_before_it_is_ready() -> None:
    """A slow registry is no reason to restart the process."""
    async with running_parts() as running:
        assert await get(running, "/healthz") == (200, "ok\n")


async def test_version_names_the_release(running: Running) -> None:
    """One can ask a fleet which release runs where."""
    status, body = await get(running, "/version")

    assert status == 200
    assert '"mesh-aggregator"' in body


async def test_metrics_tell_of_registries_and_the_model(running: Running) -> None:
    """Alerts are made of these names."""
    _, body = await get(running, "/metrics")

    assert 'mesh_registry_state{registry="fed",state="synced"} 1.0' in body
    assert 'mesh_registry_state{registry="fed",state="failed"} 0.0' in body
    assert 'mesh_registry_problems{registry="fed"} 1.0' in body
    labels = 'announced_by="",cluster_id="fed",registry="fed",type="fed"'
    assert f"mesh_registry_info{{{labels}}} 1.0" in body
    success = re.search(r'mesh_registry_last_success_timestamp_seconds{registry="fed"} (.*)', body)
    assert success is not None
    assert abs(float(success[1]) - time.time()) < 60
    assert "\npilot_services 1.0" in body
    assert 'mesh_configs{kind="VirtualService"} 1.0' in body
    assert "\npilot_xds 0.0" in body
    assert 'pilot_info{version="' in body


async def test_every_metric_is_documented(running: Running) -> None:
    """What an alert may be made of can be looked up, and nothing is promised that is not there."""
    _, body = await get(running, "/metrics")
    exposed = {
        line.split()[2]
        for line in body.splitlines()
        if line.startswith("# TYPE ") and not line.split()[2].endswith("_created")
    }
    text = (Path(__file__).parents[3] / "docs" / "operation.md").read_text()
    documented = set(re.findall(r"`((?:pilot|mesh)_\w+)[`{]", text.partition("## Metrics")[2]))

    assert exposed == documented


async def test_configz_shows_rules_as_kubernetes_would_and_what_is_wrong(running: Running) -> None:
    """What is in force, with its origin, stands beside what was refused."""
    seen = await look(running, "configz")

    (config,) = seen["configs"]
    assert config["apiVersion"] == "networking.istio.io/v1"
    assert config["kind"] == "VirtualService"
    assert config["metadata"]["annotations"] == {"mesh-aggregator/origin": "a.yaml:7"}
    assert config["spec"]["http"][0]["timeout"] == "5s"
    assert seen["problems"] == [
        {
            "registry": "fed",
            "scope": "b.yaml",
            "problems": [
                {
                    "source": "b.yaml:3",
                    "subject": "",
                    "path": "spec.hosts",
                    "message": "required",
                    "severity": "error",
                }
            ],
        }
    ]


async def test_registryz_tells_who_gives_what(running: Running) -> None:
    """For any service one sees which registry defines it, and how that registry fares."""
    seen = await look(running, f"registryz?host={HOST}")

    (registry,) = seen["registries"]
    assert (registry["name"], registry["state"], registry["endpoints"]) == ("fed", "synced", 1)
    assert registry["lastSuccessSecondsAgo"] >= 0
    (row,) = seen["services"]
    assert row["service"]["host"] == HOST
    assert row["contributions"][0]["registry"] == "fed"
    assert (await look(running, "registryz?host=other"))["services"] == []


async def test_registryz_can_be_asked_for_the_registries_alone(running: Running) -> None:
    """A table of registries does not cost a listing of the whole mesh."""
    seen = await look(running, "registryz?services=false")

    assert [each["name"] for each in seen["registries"]] == ["fed"]
    assert seen["services"] == []
    ((problem,),) = (scope["problems"] for scope in seen["problems"])
    assert problem["source"] == "b.yaml:3"


async def test_clusterz_has_a_row_for_each_cluster(running: Running) -> None:
    """Whoever knows Istio's view finds the id and the state by the same names."""
    (row,) = await look(running, "clusterz")

    assert (row["id"], row["registry"], row["syncStatus"]) == ("fed", "fed", "synced")
    assert (row["services"], row["endpoints"], row["reconnects"]) == (1, 1, 0)
    assert row["lastSuccessSecondsAgo"] >= 0
    assert row["lastError"] == row["announcedBy"] == ""


@pytest.mark.parametrize(
    "path", ["adsz", "syncz", "registryz", "clusterz", "endpointz", "networkz", "configz", "list"]
)
async def test_names_in_views_are_in_camel_case(running: Running, path: str) -> None:
    """Scripts need not know which view was written when."""
    async with connected(running) as call:
        await call.read()
        seen = await look(running, path)

    assert [name for name in names_in(seen) if "_" in name] == []


async def test_endpointz_groups_endpoints_by_registry(running: Running) -> None:
    """The provenance of every address is visible."""
    (row,) = await look(running, "endpointz")

    assert (row["host"], row["namespace"], row["policy"]) == (HOST, "shop", "union")
    ((_, endpoints),) = row["shards"].items()
    assert [each["address"] for each in endpoints] == ["10.0.0.1"]


async def test_networkz_lists_the_ways_into_networks(running: Running) -> None:
    """Why an address is not the endpoint's own can be looked up."""
    where = Locality("eu", "eu-1")
    way = NetworkGateway("net2", "192.0.2.1", 15443, "west", where)
    running.sink.replace(ShardKey(running.name, "all", Content.PLACES), {"a": way})

    gateway = {"address": "192.0.2.1", "port": 15443, "clusterId": "west", "locality": "eu/eu-1"}
    assert await look(running, "networkz") == [{"network": "net2", "gateways": [gateway]}]


async def test_adsz_and_syncz_follow_a_client(running: Running) -> None:
    """One sees what a proxy said of itself, was sent, and acknowledged or refused."""
    async with connected(running) as call:
        response = await call.read()
        sent = await look(running, "syncz")
        clients = await look(running, "adsz")
        await call.write(
            discovery_pb2.DiscoveryRequest(
                type_url=CLUSTER.type_url,
                version_info=response.version_info,
                response_nonce=response.nonce,
            )
        )
        acked: dict[str, Any] = await eventually(
            lambda: clusters_of(running), lambda seen: seen["nonceAcked"] == response.nonce
        )

    assert sent[0]["proxy"] == NODE
    assert sent[0]["types"]["CDS"]["nonceSent"] == response.nonce
    assert sent[0]["types"]["CDS"]["status"] == "STALE"
    assert acked["status"] == "SYNCED"
    (client,) = clients["clients"]
    assert client["proxy"]["labels"] == {"app": "web"}
    assert client["proxy"]["locality"] == "eu"
    assert client["proxy"]["metadata"]["NAMESPACE"] == "shop"
    assert client["watches"]["CDS"]["wildcard"] is True


async def test_syncz_names_what_a_client_refused(running: Running) -> None:
    """The user's object behind a rejected resource is found without reading the proxy's log."""
    async with connected(running) as call:
        response = await call.read()
        refusal = discovery_pb2.DiscoveryRequest(
            type_url=CLUSTER.type_url, response_nonce=response.nonce
        )
        refusal.error_detail.message = f"Error adding/updating cluster(s) outbound|80||{HOST}: no"
        await call.write(refusal)
        cds: dict[str, Any] = await eventually(
            lambda: clusters_of(running), lambda seen: seen["rejected"]
        )

    assert cds["status"] == "ERROR"
    assert cds["nacks"] == 1
    assert [each["name"] for each in cds["rejected"]] == [f"outbound|80||{HOST}"]


async def test_config_dump_shows_what_was_sent(running: Running) -> None:
    """The dump has Envoy's form, so tools for Envoy's dumps read it."""
    async with connected(running) as call:
        await call.read()
        await call.write(
            discovery_pb2.DiscoveryRequest(
                type_url=ENDPOINT.type_url, resource_names=[f"outbound|80||{HOST}"]
            )
        )
        await call.read()
        dump = await look(running, f"config_dump?proxyID={NODE}")
        only = await look(running, "config_dump?proxyID=web-1.shop&types=eds")

    by_type = {each["@type"].rpartition(".")[2]: each for each in dump["configs"]}
    clusters = by_type["ClustersConfigDump"]["dynamic_active_clusters"]
    assert f"outbound|80||{HOST}" in [each["cluster"]["name"] for each in clusters]
    assert all(each["version_info"] for each in clusters)
    (assignment,) = by_type["EndpointsConfigDump"]["dynamic_endpoint_configs"]
    assert "10.0.0.1" in str(assignment)
    assert [each["@type"].rpartition(".")[2] for each in only["configs"]] == ["EndpointsConfigDump"]


async def test_config_dump_keeps_its_form_where_it_hides_keys(running: Running) -> None:
    """Tools read the dump into Envoy's messages, in which a key is a message of its own."""
    files = {"clientCertificate": "/c.pem", "privateKey": "/k.pem", "caCertificates": "/ca.pem"}
    policy = {"host": HOST, "trafficPolicy": {"tls": {"mode": "MUTUAL", **files}}}
    running.sink.replace(
        ShardKey(running.name, "a.yaml", Content.RULES),
        {"rule": rule(DestinationRule, policy)},
    )

    async def dumped() -> dict[str, Any]:
        async with connected(running) as call:
            await call.read()
            found: dict[str, Any] = await look(running, f"config_dump?proxyID={NODE}&types=CDS")
            return found

    dump = await eventually(dumped, lambda found: "/c.pem" in str(found))

    assert "/k.pem" not in str(dump)
    parsed = json_format.ParseDict(dump, config_dump_pb2.ConfigDump())
    clusters = config_dump_shared_pb2.ClustersConfigDump()
    assert parsed.configs[0].Unpack(clusters)
    assert "[redacted]" in str(clusters)


async def test_config_dump_joins_virtual_hosts_and_hides_credentials(running: Running) -> None:
    """Routes show as Envoy's own dump has them; a token that a rule adds is not shown around."""
    headers = {"request": {"set": {"authorization": "Bearer sesame", "x-plain": "seen"}}}
    secret = rule(
        VirtualService,
        {
            "hosts": [HOST],
            "http": [{"headers": headers, "route": [{"destination": {"host": HOST}}]}],
        },
    )
    running.sink.replace(ShardKey(running.name, "a.yaml", Content.RULES), {"rule": secret})
    async with grpc.aio.insecure_channel(running.grpc) as channel:
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
        call = stub.DeltaAggregatedResources()
        node = base_pb2.Node(id=NODE, user_agent_name="envoy")
        node.metadata.update({"NAMESPACE": "shop", "INTERCEPTION_MODE": "NONE"})
        for kind, names in ((ROUTE, ["80"]), (VIRTUAL_HOST, [])):
            await call.write(
                discovery_pb2.DeltaDiscoveryRequest(
                    node=node, type_url=kind.type_url, resource_names_subscribe=names
                )
            )
            await call.read()
        dump = await look(running, "config_dump?proxyID=web-1.shop&types=RDS")
        call.cancel()

    (routes,) = dump["configs"]
    (route,) = routes["dynamic_route_configs"]
    assert any(HOST in host["domains"] for host in route["route_config"]["virtual_hosts"])
    assert "sesame" not in str(dump)
    assert "[redacted]" in str(dump)
    assert "seen" in str(dump)


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("config_dump", 400, "say which proxy"),
        ("config_dump?proxyID=nobody", 404, "no proxy 'nobody' is connected here"),
        ("endpointz?hots=x", 400, "unknown parameter 'hots'; known are host, namespace, pretty"),
        ("configz?kind=Nope", 400, "unknown kind 'Nope'; known are DestinationRule, "),
        ("config_dump?proxyID=a&types=cds,foo", 400, "unknown type 'FOO'; known are CDS, EDS, "),
        ("registryz?services=no", 400, "unknown value of services 'no'; known are false, true"),
        ("nothing", 404, "Not Found"),
    ],
)
async def test_a_wrong_question_is_answered_with_what_is_wrong(
    running: Running, path: str, status: int, message: str
) -> None:
    """A typing error does not look like an empty mesh."""
    answer = await get(running, f"/debug/{path}")

    assert answer[0] == status
    assert message in answer[1]


async def test_the_index_leads_to_every_view(running: Running) -> None:
    """What there is can be found by a person with a browser, and by a script."""
    _, page = await get(running, "/debug")
    listed = await look(running, "list")

    assert len(views()) >= 7
    assert all(f'href="/debug/{name}?pretty"' in page for name in views())
    assert [each["path"] for each in listed] == [f"/debug/{name}" for name in views()]


async def test_pretty_is_for_people(running: Running) -> None:
    """The same content, indented."""
    assert "\n  " not in (await get(running, "/debug/endpointz"))[1]
    assert "\n  " in (await get(running, "/debug/endpointz?pretty"))[1]


@pytest.mark.parametrize("host", ["mesh.example.org", "mesh.example.org:15014", "127.0.0.1.nip.io"])
async def test_pages_of_other_sites_cannot_read_the_debug_views(
    running: Running, host: str
) -> None:
    """A site whose name resolves to this machine (DNS rebinding) gets nothing of the mesh."""
    status, body = await get(running, "/debug/endpointz", Host=host)

    assert status == 403
    assert "10.0.0.1" not in body
    assert (await get(running, "/ready", Host=host))[0] == 200


@pytest.mark.parametrize("host", ["localhost:15014", "127.0.0.1", "[::1]:15014"])
async def test_the_debug_views_answer_to_the_names_of_this_machine(
    running: Running, host: str
) -> None:
    """The guard does not stand in the way of its own users."""
    assert (await get(running, "/debug/endpointz", Host=host))[0] == 200


async def test_other_machines_get_what_does_not_show_the_mesh() -> None:
    """In a pod the address has to be reachable; whoever reaches it is not asked who he is."""
    async with running_parts(listen="0.0.0.0:0") as running:
        feed(running)
        shown = structs.replace(running, http=running.http.replace("127.0.0.1", other_address()))
        paths = ["/", "/debug", "/debug/list", "/debug/endpointz", "/DEBUG/endpointz", "/nothing"]
        refused = {path: (await get(shown, path))[0] for path in paths}
        spoofed = await get(shown, "/debug/endpointz", **{"X-Forwarded-For": "127.0.0.1"})
        named = await get(shown, "/debug/endpointz", Host="127.0.0.1")
        answered = {path: (await get(shown, path))[0] for path in PUBLIC}
        local, _ = await get(running, "/debug/endpointz")

    assert set(refused.values()) == {403}
    assert spoofed[0] == named[0] == 403
    assert len(answered) == 4
    assert set(answered.values()) == {200}
    assert local == 200


async def test_nothing_can_be_written(running: Running) -> None:
    """The server is read-only by method too."""
    async with (
        aiohttp.ClientSession() as client,
        client.post(f"{running.http}/debug/configz") as response,
    ):
        assert response.status == 405


@pytest.mark.parametrize(
    "request_line", [b"\x00\xff\xfe", b"GET /%s HTTP/1.1" % (b"x" * 70_000), b"GET / HTTP/1.1"]
)
async def test_a_request_that_is_none_is_refused_without_noise(
    running: Running, caplog: pytest.LogCaptureFixture, request_line: bytes
) -> None:
    """Whoever scans ports does not fill the log with tracebacks."""
    host, _, port = running.http.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request_line + b"\r\n\r\n")
    answer = await reader.read()
    writer.close()

    assert answer.startswith(b"HTTP/1.0 400 ")
    assert caplog.records == []


async def test_an_address_in_use_is_an_error() -> None:
    """Two daemons on one address are noticed at the start."""
    async with running_parts() as running:
        port = Address(running.http.removeprefix("http://")).port
        with pytest.raises(OSError, match="address already in use"):
            async with running_parts(listen=f"127.0.0.1:{port}"):
                pass
