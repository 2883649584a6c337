"""What a client rejects harms only itself: found whether it is named or not, and told."""

import math
from typing import Final

import pytest
import structlog
from msgspec import Struct

from aggregator.generators.spec import (
    CLUSTER,
    LISTENER,
    ROUTE,
    VIRTUAL_HOST,
    ResourceType,
)
from aggregator.model.change import Change
from aggregator.model.config import Config
from config.kinds.destination_rule import DestinationRule
from config.kinds.virtual_service import VirtualService
from tests.support.builders import endpoint, port, rule, service
from tests.support.mesh import MemorySource, Mesh, running_mesh
from tests.support.poll import eventually
from tests.support.xds_client import Response, XdsClient, connected, node

COUNT: Final = 9
CULPRITS: Final = (2, 6)
HOSTS: Final = tuple(f"s{number}.shop.svc.cluster.local" for number in range(COUNT))


class Case(Struct, frozen=True):
    """A type in one form: how it is got, and how resource *n* of it is changed."""

    kind: ResourceType
    delta: bool
    user_agent: str = "envoy"

    def name(self, number: int) -> str:
        """The resource, or the part of one, that belongs to a service."""
        host = HOSTS[number]
        return {
            CLUSTER: f"outbound|80||{host}",
            LISTENER: f"127.0.0.1_{9000 + number}",
            ROUTE: f"80/{host}:80",
            VIRTUAL_HOST: f"80/{host}:80",
        }[self.kind]

    def change(self, number: int, word: str) -> Config:
        """A rule that puts a word into it."""
        host = HOSTS[number]
        label = f"{word}{number}"
        match self.kind.short:
            case "CDS":
                tls = {"mode": "SIMPLE", "sni": f"{label}.example.com"}
                of_port = {"port": {"number": 80}, "tls": tls}
                return rule(
                    DestinationRule,
                    {"host": host, "trafficPolicy": {"portLevelSettings": [of_port]}},
                    name=f"d{number}",
                    source=f"{label}.yaml",
                )
            case "LDS":
                to = {"host": f"{label}.example.com", "port": {"number": 80}}
                spec = {
                    "hosts": [host],
                    "tcp": [{"match": [{"port": 9000 + number}], "route": [{"destination": to}]}],
                }
            case _:
                headers = {"request": {"set": {"x-word": label}}}
                route = {"route": [{"destination": {"host": host}}], "headers": headers}
                spec = {"hosts": [host], "http": [route]}
        return rule(VirtualService, spec, name=f"v{number}", source=f"{label}.yaml")


CASES: Final = (
    Case(CLUSTER, delta=True),
    Case(CLUSTER, delta=False),
    Case(LISTENER, delta=True),
    Case(LISTENER, delta=False),
    Case(ROUTE, delta=True, user_agent="other"),
    Case(ROUTE, delta=False),
    Case(VIRTUAL_HOST, delta=True),
)
EVERY: Final = pytest.mark.parametrize(
    "case", CASES, ids=lambda each: f"{each.kind.short}-{'delta' if each.delta else 'sotw'}"
)


def source() -> MemorySource:
    """Services with an HTTP port in common and a TCP port of their own."""
    made = MemorySource()
    for number, host in enumerate(HOSTS):
        made.put_service(
            service(host, port(80), port(9000 + number, "TCP")), endpoint(f"10.0.0.{number}")
        )
    return made


class Critic:
    """A client that refuses whatever has the word ``bad`` in it."""

    def __init__(self, client: XdsClient, case: Case, *, named: bool) -> None:
        self.client: Final = client
        self.case: Final = case
        self.refused = 0
        self._named: Final = named

    async def settle(self, mesh: Mesh) -> None:
        """Answer until nothing comes any more, and the server has nothing more to say."""
        while True:
            if await self.client.is_quiet(0.2):
                if _is_at_rest(mesh):
                    return
                continue
            response = await self.client.receive()
            bad = [name for name, body in response.resources.items() if b"bad" in body]
            if response.type_url == self.case.kind.type_url and bad:
                self.refused += 1
                await self.client.nack(response, self._text(bad))
            else:
                await self.client.ack(response)

    def _text(self, bad: list[str]) -> str:
        if not self._named:
            return "some of it cannot be used"
        return "Error adding/updating resource(s) " + ", ".join(f"{name}: is bad" for name in bad)

    def words(self) -> dict[int, str]:
        """What the client has of each service's resource: ``good``, ``bad`` or neither."""
        has = self.client.has[self.case.kind.type_url]
        found: dict[int, str] = {}
        for number in range(COUNT):
            name = "80" if self.case.kind is ROUTE else self.case.name(number)
            body = has.get(name, b"")
            words = (
                word for word in ("good", "bad", "first") if f"{word}{number}".encode() in body
            )
            found[number] = next(words, "")
        return found


def _is_at_rest(mesh: Mesh) -> bool:
    """Silence alone may be that of a busy machine."""
    return not any(
        each.has_work or each.unacknowledged or each.isolation.trial_until < math.inf
        for stream in mesh.server.streams
        for each in stream.session.subscriptions.values()
    )


async def connect(client: XdsClient, case: Case) -> None:
    """Subscribe to the type, and to the clusters that come first."""
    if case.kind is not CLUSTER:
        await client.get(CLUSTER)
    if case.kind is VIRTUAL_HOST:
        await client.get(ROUTE, "80")
    await client.get(case.kind, *(["80"] if case.kind is ROUTE else []))


def all_changed(case: Case, made: MemorySource, word: str) -> list[Change]:
    """Put the word into every resource, but a bad one into the culprits."""
    return [
        made.put_config(case.change(number, "bad" if number in CULPRITS else word))
        for number in range(COUNT)
    ]


@EVERY
@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
async def test_two_culprits_keep_what_was_accepted_and_hold_back_nobody(
    case: Case, named: bool
) -> None:
    """A rule that a proxy refuses, put among good changes, harms none of them."""
    made = source()
    for number in range(COUNT):
        made.put_config(case.change(number, "first"))
    async with (
        running_mesh(made) as mesh,
        connected(mesh.address, delta=case.delta, who=node(user_agent=case.user_agent)) as client,
    ):
        await connect(client, case)
        critic = Critic(client, case, named=named)
        with structlog.testing.capture_logs() as logs:
            await mesh.apply(*all_changed(case, made, "good"))
            await critic.settle(mesh)
        expected = {n: "first" if n in CULPRITS else "good" for n in range(COUNT)}
        assert critic.words() == expected
        assert critic.refused >= 1
        if named and case.kind in (CLUSTER, LISTENER):
            assert critic.refused == 1, "what is named need not be searched"
        subscription = next(iter(mesh.server.streams)).session.subscriptions[case.kind.type_url]
        culprits = {case.name(number) for number in CULPRITS}
        assert subscription.isolation.rejected.keys() == culprits
        assert subscription.nacks == critic.refused
        logged = [each for each in logs if each["event"] == "resource_rejected"]
        assert {each["resource"] for each in logged} == culprits
        assert len(logged) == len(culprits), "once each"
        for number in CULPRITS:
            assert any(f"bad{number}.yaml" in str(each["origins"]) for each in logged)


@EVERY
async def test_new_version_of_a_culprit_is_tried_again(case: Case) -> None:
    """Whoever mends a rule sees it work, without a restart of anything."""
    made = source()
    for number in range(COUNT):
        made.put_config(case.change(number, "first"))
    async with (
        running_mesh(made) as mesh,
        connected(mesh.address, delta=case.delta, who=node(user_agent=case.user_agent)) as client,
    ):
        await connect(client, case)
        critic = Critic(client, case, named=False)
        await mesh.apply(*all_changed(case, made, "good"))
        await critic.settle(mesh)
        await mesh.apply(*(made.put_config(case.change(number, "good")) for number in CULPRITS))
        await critic.settle(mesh)
        assert set(critic.words().values()) == {"good"}
        subscription = next(iter(mesh.server.streams)).session.subscriptions[case.kind.type_url]
        assert not subscription.isolation.active
        assert subscription.last_error == ""


@EVERY
async def test_culprits_that_were_there_from_the_start_are_left_out(case: Case) -> None:
    """A client that connects to a mesh with bad rules gets all the others."""
    made = source()
    all_changed(case, made, "good")
    async with (
        running_mesh(made) as mesh,
        connected(mesh.address, delta=case.delta, who=node(user_agent=case.user_agent)) as client,
    ):
        critic = Critic(client, case, named=False)
        if case.kind is not CLUSTER:
            await client.get(CLUSTER)
        if case.kind is VIRTUAL_HOST:
            await client.get(ROUTE, "80")
        await client.subscribe(case.kind, *(["80"] if case.kind is ROUTE else []))
        await critic.settle(mesh)
        assert critic.words() == {n: "" if n in CULPRITS else "good" for n in range(COUNT)}


async def test_client_that_comes_back_keeps_what_it_had_of_a_culprit() -> None:
    """A restarted server does not know the last good version; on delta it need not."""
    case = Case(CLUSTER, delta=True)
    made = source()
    for number in range(COUNT):
        made.put_config(case.change(number, "first"))
    async with running_mesh(made) as mesh, connected(mesh.address) as before:
        await connect(before, case)
    all_changed(case, made, "good")
    async with running_mesh(made) as mesh, connected(mesh.address) as client:
        client.has[CLUSTER.type_url] = dict(before.has[CLUSTER.type_url])
        await client.subscribe(CLUSTER, versions=before.versions[CLUSTER.type_url])
        critic = Critic(client, case, named=False)
        await critic.settle(mesh)
        assert critic.words() == {n: "first" if n in CULPRITS else "good" for n in range(COUNT)}


async def test_what_was_rejected_is_not_believed_of_a_client_that_comes_back() -> None:
    """It applied a part of what it rejected, but announces the versions of before."""
    case = Case(CLUSTER, delta=True)
    made = source()
    for number in range(COUNT):
        made.put_config(case.change(number, "first"))
    async with running_mesh(made) as mesh:
        async with connected(mesh.address) as before:
            await connect(before, case)
            await mesh.apply(*all_changed(case, made, "good"))
            response = await before.receive()
            await before.nack(response, "no name")
            await before.receive()
        await eventually(lambda: not mesh.server.streams)
        await mesh.apply(*(made.put_config(case.change(n, "first")) for n in range(COUNT)))
        async with connected(mesh.address) as after:
            await after.subscribe(CLUSTER, versions=before.versions[CLUSTER.type_url])
            again = await after.take(CLUSTER)
            assert set(again.names) == {case.name(number) for number in range(COUNT)}


async def test_one_clients_rejection_is_nobody_elses() -> None:
    """Another version of Envoy may well take what this one refuses."""
    case = Case(CLUSTER, delta=True)
    made = source()
    for number in range(COUNT):
        made.put_config(case.change(number, "first"))
    async with (
        running_mesh(made) as mesh,
        connected(mesh.address) as strict,
        connected(mesh.address, who=node("vm-2")) as lenient,
    ):
        await connect(strict, case)
        await connect(lenient, case)
        await mesh.apply(*all_changed(case, made, "good"))
        taken: Response = await lenient.take(CLUSTER)
        await Critic(strict, case, named=True).settle(mesh)
        assert set(taken.names) == {case.name(number) for number in range(COUNT)}
        assert await lenient.is_quiet()


async def test_rejection_while_other_changes_are_under_way_blames_only_the_culprit() -> None:
    """On state of the world the next complete state still holds what was just refused."""
    case = Case(CLUSTER, delta=False)
    made = source()
    async with running_mesh(made) as mesh, connected(mesh.address, delta=False) as client:
        await connect(client, case)
        await mesh.apply(made.put_config(case.change(2, "bad")))
        first = await client.receive()
        await mesh.apply(made.put_config(case.change(4, "good")))
        second = await client.receive()
        await client.nack(first, "no name")
        await client.nack(second, "no name")
        critic = Critic(client, case, named=False)
        await critic.settle(mesh)
        assert critic.words()[4] == "good"
        subscription = next(iter(mesh.server.streams)).session.subscriptions[CLUSTER.type_url]
        assert subscription.isolation.rejected.keys() == {case.name(2)}
