"""TCP and TLS rules: where connections end that Envoy passes on as they are."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec import Struct

from tests.e2e.conftest import BOTH_VARIANTS
from tests.support.certificate import Authority
from tests.support.poll import eventually
from tests.support.servers.backend import HttpBackend, TcpBackend, ask_tcp
from tests.support.town import Case, Town

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]


class Databases(Struct, frozen=True):
    """Two versions of a TCP service."""

    v1: TcpBackend
    v2: TcpBackend


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def databases() -> AsyncIterator[Databases]:
    """TCP backends that say their names."""
    async with TcpBackend("v1") as v1, TcpBackend("v2") as v2:
        yield Databases(v1, v2)


class TcpCase(Struct, frozen=True):
    """A case with a port of its own."""

    case: Case
    port: int

    async def ask(self) -> str:
        """Who is at the other end of a connection to the port."""
        return await ask_tcp("127.0.0.1", self.port)


def made(town: Town, databases: Databases, name: str) -> TcpCase:
    """A TCP service with a subset for each of its two endpoints; not yet applied."""
    case = town.case(name)
    port = town.ports.reserve()
    case.service(databases.v1, databases.v2, port=port, protocol="TCP")
    case.subsets(databases.v1, databases.v2)
    return TcpCase(case, port)


@BOTH_VARIANTS
async def test_service_without_rules(town: Town, databases: Databases) -> None:
    """Connections to the port are shared by the endpoints."""
    tcp = made(town, databases, "tcp")
    await tcp.case.apply()
    await eventually(tcp.ask)

    assert {await tcp.ask() for _ in range(20)} == {"v1", "v2"}


@BOTH_VARIANTS
async def test_weights(town: Town, databases: Databases) -> None:
    """Destinations share connections by weight."""
    tcp = made(town, databases, "tcp-weights")
    tcp.case.rule(
        """
        tcp:
        - route:
          - {destination: {host: <host>, subset: v1}, weight: 80}
          - {destination: {host: <host>, subset: v2}, weight: 20}
        """
    )
    await tcp.case.apply()
    await eventually(tcp.ask)
    found = Counter([await tcp.ask() for _ in range(300)])

    assert found["v1"] / 300 == pytest.approx(0.8, abs=0.12)
    assert found["v2"]


async def test_conditions(town: Town, databases: Databases) -> None:
    """Rules for other ports, callers and namespaces are passed over."""
    tcp = made(town, databases, "tcp-match")
    tcp.case.rule(
        """
        tcp:
        - match: [{port: 1}, {sourceLabels: {app: other}}, {sourceNamespace: other}]
          route: [{destination: {host: <host>, subset: v1}}]
        - match: [{port: <number>, sourceLabels: {app: caller}, sourceNamespace: <namespace>}]
          route: [{destination: {host: <host>, subset: v2}}]
        """,
        number=tcp.port,
    )
    await tcp.case.apply()
    await eventually(tcp.ask)

    assert {await tcp.ask() for _ in range(10)} == {"v2"}


async def test_rule_can_change(town: Town, databases: Databases) -> None:
    """An edited rule holds for new connections."""
    rule = "tcp: [{route: [{destination: {host: <host>, subset: <subset>}}]}]"
    tcp = made(town, databases, "tcp-edit")
    tcp.case.rule(rule, subset="v1")
    await tcp.case.apply()
    await eventually(tcp.ask, lambda found: found == "v1")
    tcp.case.rule(rule, subset="v2")
    await tcp.case.apply()

    await eventually(tcp.ask, lambda found: found == "v2")
    assert {await tcp.ask() for _ in range(10)} == {"v2"}


async def test_limit_of_connections(town: Town, databases: Databases) -> None:
    """`maxConnections` bounds connections to an endpoint; one more is closed without a word."""
    case = town.case("tcp-limit")
    port = town.ports.reserve()
    case.service(databases.v1, port=port, protocol="TCP")
    case.policy("trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}")
    await case.apply()

    async with AsyncExitStack() as stack:

        async def hold() -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            line = await reader.readline()
            stack.callback(writer.close)
            return line

        await eventually(hold)
        with pytest.raises(ConnectionError):
            await ask_tcp("127.0.0.1", port)
    await eventually(lambda: ask_tcp("127.0.0.1", port))


async def https(case: Case, authority: Authority, port: int, name: str) -> tuple[str, str]:
    """Which backend serves that name, and which name it saw; ends of the tunnel that Envoy is."""
    answer = await case.town.client.send(
        f"https://127.0.0.1:{port}/", tls=authority.client_context(), server_name=name
    )
    return answer.backend, str(answer.data["server_name"])


@BOTH_VARIANTS
async def test_server_names(town: Town, tmp_path: Path) -> None:
    """TLS goes by the name that the client asks for, exact ones and wildcards, undisturbed."""
    authority = Authority(tmp_path)
    names = ["a.tls.test", "b.tls.test", "*.c.tls.test"]
    context = authority.server_context(authority.issue("tls.test", names))
    other = authority.server_context(authority.issue("other.test", names))
    async with HttpBackend("v1", tls=context) as v1, HttpBackend("v2", tls=other) as v2:
        case = town.case("tls")
        port = town.ports.reserve()
        case.service(v1, v2, port=port, protocol="TLS")
        case.subsets(v1, v2)
        case.rule(
            """
            tls:
            - match: [{sniHosts: [a.tls.test]}]
              route: [{destination: {host: <host>, subset: v1}}]
            - match: [{port: 1, sniHosts: [b.tls.test]}]
              route: [{destination: {host: <host>, subset: v1}}]
            - match: [{sniHosts: [b.tls.test, "*.c.tls.test"]}]
              route: [{destination: {host: <host>, subset: v2}}]
            """,
            hosts=[case.host, "a.tls.test", "b.tls.test", "*.c.tls.test"],
        )
        await case.apply()
        await eventually(lambda: https(case, authority, port, "a.tls.test"))

        assert await https(case, authority, port, "a.tls.test") == ("v1", "a.tls.test")
        assert await https(case, authority, port, "b.tls.test") == ("v2", "b.tls.test")
        assert await https(case, authority, port, "x.c.tls.test") == ("v2", "x.c.tls.test")
        with pytest.raises(OSError, match=str(port)):
            await https(case, authority, port, "d.tls.test")


async def test_oldest_service_has_the_port(town: Town, databases: Databases) -> None:
    """Of TCP services on one port one is served, and the other is reported at its source."""
    port = town.ports.reserve()
    first, second = town.case("tcp-a"), town.case("tcp-b")
    first.service(databases.v1, port=port, protocol="TCP")
    second.service(databases.v2, port=port, protocol="TCP")
    await second.apply()
    await eventually(lambda: ask_tcp("127.0.0.1", port), lambda found: found == "v2")
    # Files tell no age: then it goes by names.
    await first.apply()
    await eventually(lambda: ask_tcp("127.0.0.1", port), lambda found: found == "v1")
    told = [each for each in town.mesh.engine.problems() if second.host in each.subject]

    assert str(port) in told[0].message
    assert "tcp-b.yaml" in told[0].origin.source


@BOTH_VARIANTS
async def test_port_that_is_taken(town: Town, databases: Databases) -> None:
    """A port that the proxy cannot bind harms no other service, and is told with its source."""
    async with TcpBackend("owner") as owner:
        taken, good = town.case("tcp-taken"), made(town, databases, "tcp-good")
        taken.service(databases.v1, port=owner.port, protocol="TCP")
        taken.save()
        await good.case.apply()
        await eventually(good.ask)

        assert await ask_tcp("127.0.0.1", owner.port) == "owner"
        assert await good.ask() in ("v1", "v2")
        rejected = town.mesh.rejections(town.envoy.node.id)
        assert [each.name for each in rejected] == [f"127.0.0.1_{owner.port}"]
        assert "bind" in rejected[0].error
        assert "tcp-taken.yaml" in rejected[0].origins[0]

    taken.delete()
    await town.settle()
    assert not town.mesh.rejections(town.envoy.node.id)
