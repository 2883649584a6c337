"""Services as ServiceEntries, WorkloadEntries and Kubernetes objects in files describe them."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.e2e.conftest import BOTH_VARIANTS, Backends
from tests.support.poll import eventually
from tests.support.servers.backend import HttpBackend, TcpBackend, ask_tcp
from tests.support.town import Case, Town

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]


async def answered(case: Case, count: int = 12) -> set[str]:
    """Which backends answer."""
    return {(await case.send()).backend for _ in range(count)}


@BOTH_VARIANTS
async def test_static(town: Town, backends: Backends) -> None:
    """Endpoints by address, with ports of their own or the service's target port."""
    case = town.case("entry-static")
    case.put(
        "ServiceEntry",
        """
        hosts: [<host>]
        ports: [{number: <port>, name: http, protocol: HTTP, targetPort: <second>}]
        resolution: STATIC
        endpoints:
        - {address: 127.0.0.1, ports: {http: <first>}}
        - {address: 127.0.0.1}
        """,
        first=backends.v1.port,
        second=backends.v2.port,
    )
    await case.apply()

    assert await answered(case) == {"v1", "v2"}


async def test_endpoint_is_taken_away(town: Town, backends: Backends) -> None:
    """An endpoint that is gone from the file gets no request any more."""
    entry = """
        hosts: [<host>]
        ports: [{number: <port>, name: http, protocol: HTTP}]
        resolution: STATIC
        endpoints: [<endpoints>]
        """
    first, second = (
        f"{{address: 127.0.0.1, ports: {{http: {each.port}}}}}"
        for each in (backends.v1, backends.v2)
    )
    case = town.case("entry-less")
    case.put("ServiceEntry", entry, endpoints=f"{first}, {second}")
    await case.apply()
    assert await answered(case) == {"v1", "v2"}

    case.put("ServiceEntry", entry, endpoints=second)
    await case.apply()
    assert await answered(case) == {"v2"}


async def test_several_hosts(town: Town, backends: Backends) -> None:
    """Each host of an entry is a service of its own."""
    case = town.case("entry-hosts")
    case.put(
        "ServiceEntry",
        """
        hosts: [<host>, other.<host>]
        ports: [{number: <port>, name: http, protocol: HTTP}]
        resolution: STATIC
        endpoints: [{address: 127.0.0.1, ports: {http: <first>}}]
        """,
        first=backends.v1.port,
    )
    await case.apply()

    assert (await case.send()).backend == "v1"
    assert (await case.send(host=f"other.{case.host}")).backend == "v1"


@BOTH_VARIANTS
@pytest.mark.parametrize("resolution", ["DNS", "DNS_ROUND_ROBIN"])
async def test_names(town: Town, backends: Backends, resolution: str) -> None:
    """Endpoints by name are resolved by Envoy."""
    case = town.case(f"entry-{resolution.lower().replace('_', '-')}")
    case.put(
        "ServiceEntry",
        """
        hosts: [<host>]
        ports: [{number: <port>, name: http, protocol: HTTP}]
        resolution: <resolution>
        endpoints: [{address: localhost, ports: {http: <first>}}]
        """,
        first=backends.v1.port,
        resolution=resolution,
    )
    await case.apply()

    await eventually(lambda: answered(case), lambda found: found == {"v1"})


async def test_host_is_the_name(town: Town, backends: Backends) -> None:
    """Without endpoints the host itself is resolved."""
    case = town.case("entry-own-name")
    case.put(
        "ServiceEntry",
        """
        hosts: [localhost]
        ports: [{number: <port>, name: http, protocol: HTTP, targetPort: <first>}]
        resolution: DNS
        """,
        first=backends.v1.port,
    )
    await case.apply()

    await eventually(lambda: case.send(host="localhost"), lambda answer: answer.backend == "v1")


async def test_no_resolution(town: Town, backends: Backends) -> None:
    """Resolution NONE goes where the connection was to go, which nobody knows without
    redirection: refused at once, and never passed on to Envoy itself.
    """
    case = town.case("entry-none")
    case.put(
        "ServiceEntry",
        """
        hosts: [<host>]
        ports: [{number: <port>, name: http, protocol: HTTP}]
        resolution: NONE
        """,
    )
    await case.apply()
    answer = await case.send()

    assert answer.status == 503
    assert answer.seconds < 2


async def test_unix_socket(town: Town) -> None:
    """An endpoint may be a socket in the file system, and move from there to a port."""
    with TemporaryDirectory(prefix="mesh") as folder:
        path = Path(folder) / "backend.sock"
        async with HttpBackend("socket", path=path) as backend, HttpBackend("port") as other:
            entry = """
                hosts: [<host>]
                ports: [{number: <port>, name: http, protocol: HTTP}]
                resolution: STATIC
                endpoints: [<endpoint>]
                """
            case = town.case("entry-unix")
            case.put("ServiceEntry", entry, endpoint=f"{{address: 'unix://{path}'}}")
            await case.apply()
            assert await answered(case) == {"socket"}
            assert len(backend.received) == 12

            case.put(
                "ServiceEntry",
                entry,
                endpoint=f"{{address: 127.0.0.1, ports: {{http: {other.port}}}}}",
            )
            await case.apply()
            assert await answered(case) == {"port"}


@BOTH_VARIANTS
async def test_workloads_that_a_selector_picks(town: Town, backends: Backends) -> None:
    """A ServiceEntry has the WorkloadEntries of its namespace with its labels, in any file."""
    case = town.case("selected")
    case.put(
        "ServiceEntry",
        """
        hosts: [<host>]
        ports: [{number: <port>, name: http, protocol: HTTP}]
        resolution: STATIC
        workloadSelector: {labels: {app: selected}}
        """,
    )
    await case.apply()
    assert (await case.send()).status == 503

    for backend, app in ((backends.v1, "selected"), (backends.v2, "other")):
        workloads = town.case(f"workload-{backend.name}")
        workloads.put(
            "WorkloadEntry",
            "{address: 127.0.0.1, ports: {http: <at>}, labels: {app: <app>, version: one}}",
            at=backend.port,
            app=app,
        )
        await workloads.apply()
    assert await answered(case) == {"v1"}

    # A subset selects by the workload's labels.
    case.policy("subsets: [{name: one, labels: {version: one}}]")
    case.rule("http: [{route: [{destination: {host: <host>, subset: one}}]}]")
    await case.apply()
    assert await answered(case) == {"v1"}


async def test_tcp_service_entry(town: Town) -> None:
    """TCP services have a port of their own on the loopback address."""
    async with TcpBackend("database") as database:
        case = town.case("entry-tcp")
        number = town.ports.reserve()
        case.put(
            "ServiceEntry",
            """
            hosts: [<host>]
            ports: [{number: <number>, name: tcp, protocol: TCP}]
            resolution: STATIC
            endpoints: [{address: 127.0.0.1, ports: {tcp: <database>}}]
            """,
            number=number,
            database=database.port,
        )
        await case.apply()

        assert await eventually(lambda: ask_tcp("127.0.0.1", number)) == "database"


@BOTH_VARIANTS
async def test_kubernetes_service(town: Town, backends: Backends) -> None:
    """Kubernetes' own objects work from files: Service and EndpointSlice, with its short names."""
    case = town.case("kubernetes")
    case.document(
        """
        apiVersion: v1
        kind: Service
        metadata: {name: reviews, namespace: <namespace>}
        spec:
          clusterIP: 10.0.0.10
          ports: [{name: http-web, port: <port>, targetPort: web}]
        """
    )
    case.document(
        """
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata:
          name: reviews-abcde
          namespace: <namespace>
          labels: {kubernetes.io/service-name: reviews}
        addressType: IPv4
        endpoints:
        - {addresses: [127.0.0.1], conditions: {ready: true}}
        ports: [{name: http-web, port: <first>}]
        """,
        first=backends.v1.port,
    )
    await case.apply()
    whole = f"reviews.{town.name}.svc.cluster.local"
    hosts = ("reviews", f"reviews.{town.name}", f"reviews.{town.name}.svc", whole, "10.0.0.10")
    answers = [await case.send(host=host) for host in hosts]

    assert [each.backend for each in answers] == ["v1"] * len(hosts)
    assert (await case.send(host=f"{whole}:{town.port}")).backend == "v1"
