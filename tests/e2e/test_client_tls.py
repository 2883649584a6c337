"""TLS that a DestinationRule asks for towards real servers; what cannot be had is refused."""

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from tests.e2e.conftest import BOTH_VARIANTS
from tests.support.certificate import Authority, Pair
from tests.support.servers.backend import HttpBackend
from tests.support.town import Case, Town

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

SERVER: Final = "server.test"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whom the servers' certificates are from."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server_pair(authority: Authority) -> Pair:
    """A certificate that holds for the hosts of this module's cases too."""
    return authority.issue(SERVER, ["*.delta.test", "*.sotw.test"])


@pytest_asyncio.fixture(loop_scope="session")
async def secure(authority: Authority, server_pair: Pair) -> AsyncIterator[HttpBackend]:
    """A server that wants TLS."""
    context = authority.server_context(server_pair)
    async with HttpBackend("secure", tls=context) as backend:
        yield backend


@pytest_asyncio.fixture(loop_scope="session")
async def mutual(authority: Authority, server_pair: Pair) -> AsyncIterator[HttpBackend]:
    """A server that wants a certificate of its clients."""
    context = authority.server_context(server_pair, mutual=True)
    async with HttpBackend("mutual", tls=context) as backend:
        yield backend


def policy(tls: Mapping[str, object]) -> str:
    """The spec of a DestinationRule, but for its host."""
    return json.dumps({"trafficPolicy": {"tls": tls}})


async def made(town: Town, backend: HttpBackend, name: str, **tls: object) -> Case:
    """A case with that backend, and TLS settings, in force."""
    case = town.case(name)
    case.service(backend)
    case.policy(policy(tls))
    return await case.apply()


@BOTH_VARIANTS
async def test_simple(town: Town, secure: HttpBackend, authority: Authority) -> None:
    """The server is spoken to by the name that the rule gives, and its certificate is checked."""
    ca = str(authority.ca)
    case = await made(town, secure, "simple", mode="SIMPLE", caCertificates=ca, sni=SERVER)
    answer = await case.send()

    assert answer.backend == "secure"
    assert answer.data["server_name"] == SERVER
    assert answer.data["client"] == ""


async def test_name_from_the_request(town: Town, secure: HttpBackend, authority: Authority) -> None:
    """Without `sni` the request's host is asked for, and the certificate has to be for it."""
    tls = {"mode": "SIMPLE", "caCertificates": str(authority.ca)}
    foreign = "foreign.elsewhere.test"
    case = town.case("auto-name")
    case.service(secure)
    case.service(secure, host=foreign)
    case.policy(policy(tls))
    case.policy(policy(tls), host=foreign)
    await case.apply()

    assert (await case.send()).data["server_name"] == case.host
    assert (await case.send(host=foreign)).status == 503


async def test_names_of_the_certificate(
    town: Town, secure: HttpBackend, authority: Authority
) -> None:
    """`subjectAltNames` lists whom the certificate may be for, whatever name was asked for."""
    case = town.case("names")
    case.service(secure)
    tls = {"mode": "SIMPLE", "caCertificates": str(authority.ca), "sni": "any.test"}
    case.policy(policy({**tls, "subjectAltNames": ["other.test", SERVER]}))
    await case.apply()
    assert (await case.send()).backend == "secure"

    case.policy(policy({**tls, "subjectAltNames": ["other.test"]}))
    await case.apply()
    assert (await case.send()).status == 503


async def test_foreign_authority(town: Town, secure: HttpBackend, tmp_path: Path) -> None:
    """A certificate of an authority that is not trusted is refused, and nothing is sent."""
    ca = str(Authority(tmp_path, "other").ca)
    case = await made(town, secure, "foreign", mode="SIMPLE", caCertificates=ca, sni=SERVER)

    assert (await case.send()).status == 503
    assert not case.received(secure)


async def test_unverified(town: Town, secure: HttpBackend) -> None:
    """`insecureSkipVerify` takes any certificate."""
    case = await made(
        town, secure, "unverified", mode="SIMPLE", insecureSkipVerify=True, sni="other.test"
    )

    assert (await case.send()).data["server_name"] == "other.test"


@BOTH_VARIANTS
async def test_mutual(town: Town, mutual: HttpBackend, authority: Authority) -> None:
    """The server sees the client's certificate."""
    pair = authority.issue("client.test")
    case = await made(
        town,
        mutual,
        "mutual",
        mode="MUTUAL",
        caCertificates=str(authority.ca),
        clientCertificate=str(pair.cert),
        privateKey=str(pair.key),
        sni=SERVER,
    )
    answer = await case.send()

    assert answer.backend == "mutual"
    assert answer.data["client"] == "client.test"


async def test_server_misses_a_certificate(
    town: Town, mutual: HttpBackend, authority: Authority
) -> None:
    """A server that wants a certificate refuses who has none."""
    ca = str(authority.ca)
    case = await made(town, mutual, "missing", mode="SIMPLE", caCertificates=ca, sni=SERVER)

    assert (await case.send()).status == 503
    assert not case.received(mutual)


CLOSED: Final = {
    "istio-mutual": {"mode": "ISTIO_MUTUAL"},
    "credential": {"mode": "SIMPLE", "credentialName": "somewhere"},
}


@BOTH_VARIANTS
@pytest.mark.parametrize("mode", CLOSED)
async def test_what_nobody_can_secure_is_refused(town: Town, mode: str) -> None:
    """Settings that need certificates from us fail closed: never in plaintext, and at once."""
    async with HttpBackend("plain") as plain:
        case = await made(town, plain, f"closed-{mode}", **CLOSED[mode])
        answer = await case.send()

        assert answer.status == 503
        assert answer.seconds < 2
        assert not plain.received
        problems = town.mesh.engine.problems()
        told = [each.message for each in problems if f"{town.name}/{case.name}" in each.subject]
        assert len(told) == 1
        assert case.host in told[0]

        case.policy(policy({"mode": "DISABLE"}))
        await case.apply()
        assert (await case.send()).backend == "plain"


async def test_tls_of_one_subset(town: Town, secure: HttpBackend, authority: Authority) -> None:
    """A subset's settings take the place of the host's; its other endpoints stay in plaintext."""
    async with HttpBackend("plain") as plain:
        case = town.case("subset-tls")
        case.service(plain, secure)
        tls = {"mode": "SIMPLE", "caCertificates": str(authority.ca), "sni": SERVER}
        subsets = [
            {"name": "plain", "labels": {"version": "plain"}},
            {
                "name": "secure",
                "labels": {"version": "secure"},
                "trafficPolicy": {"tls": tls},
            },
        ]
        case.policy(json.dumps({"subsets": subsets}))
        case.rule(
            """
            http:
            - match: [{uri: {prefix: /secure}}]
              route: [{destination: {host: <host>, subset: secure}}]
            - route: [{destination: {host: <host>, subset: plain}}]
            """
        )
        await case.apply()

        assert (await case.send("/secure")).data["server_name"] == SERVER
        assert (await case.send("/")).backend == "plain"
