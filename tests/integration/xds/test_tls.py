"""The TLS listener follows its files, keeps what works, and asks clients for a certificate only
where it must.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import grpc
import grpc.aio
import pytest
import structlog
from cryptography import x509

from aggregator.generators.spec import CLUSTER
from aggregator.model.errors import ConfigError
from aggregator.xds.server import TlsFiles
from tests.support.builders import endpoint, service
from tests.support.certificate import Authority, Pair
from tests.support.mesh import MemorySource, Mesh, running_mesh
from tests.support.xds_client import connected

HOST: Final = "reviews.shop.svc.cluster.local"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Whom server and clients trust."""
    return Authority(tmp_path / "ca")


@pytest.fixture
def pair(authority: Authority) -> Pair:
    """The server's files."""
    return authority.issue("localhost", ["127.0.0.1"])


@asynccontextmanager
async def secured(files: TlsFiles) -> AsyncIterator[tuple[Mesh, str]]:
    """A mesh with a TLS listener beside the plain one."""
    source = MemorySource()
    source.put_service(service(HOST), endpoint())
    async with running_mesh(source) as mesh:
        port = await mesh.server.listen("127.0.0.1:0", files)
        yield mesh, f"localhost:{port}"


async def serial(address: str, authority: Authority) -> int:
    """The serial number of the certificate that a new connection is shown."""
    context = authority.client_context()
    context.set_alpn_protocols(["h2"])
    host, _, port = address.partition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    try:
        shown: ssl.SSLObject = writer.get_extra_info("ssl_object")
        der = shown.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der).serial_number
    finally:
        writer.close()


def serial_of(pair: Pair) -> int:
    """The serial number in a file."""
    return x509.load_pem_x509_certificate(pair.cert.read_bytes()).serial_number


def trusting(authority: Authority, own: Pair | None = None) -> grpc.ChannelCredentials:
    """A client's credentials, with a certificate of its own or without."""
    return grpc.ssl_channel_credentials(
        authority.ca.read_bytes(),
        own.key.read_bytes() if own else None,
        own.cert.read_bytes() if own else None,
    )


@pytest.mark.parametrize("delta", [True, False])
async def test_client_without_a_certificate_is_served(
    authority: Authority, pair: Pair, delta: bool
) -> None:
    """Who a client is comes from its node for now; the listener only keeps others from reading."""
    files = TlsFiles(pair.cert, pair.key, client_ca=authority.ca)
    credentials = trusting(authority)
    async with (
        secured(files) as (_, address),
        connected(address, delta=delta, credentials=credentials) as client,
    ):
        assert f"outbound|80||{HOST}" in (await client.get(CLUSTER)).names


async def test_client_that_trusts_others_is_not_talked_to(
    authority: Authority, pair: Pair, tmp_path: Path
) -> None:
    """TLS without verification would be no better than none."""
    stranger = trusting(Authority(tmp_path / "other", "other"))
    async with (
        secured(TlsFiles(pair.cert, pair.key)) as (_, address),
        connected(address, credentials=stranger) as client,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.get(CLUSTER)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_required_certificate_is_asked_for_and_verified(
    authority: Authority, pair: Pair, tmp_path: Path
) -> None:
    """Where it is required, only clients of that authority are served."""
    files = TlsFiles(pair.cert, pair.key, authority.ca, require_client_certificate=True)
    own = trusting(authority, authority.issue("proxy"))
    foreign = trusting(authority, Authority(tmp_path / "other", "other").issue("proxy"))
    async with secured(files) as (_, address):
        async with connected(address, credentials=own) as client:
            assert (await client.get(CLUSTER)).names
        for credentials in (foreign, trusting(authority)):
            async with connected(address, credentials=credentials) as client:
                with pytest.raises(grpc.aio.AioRpcError):
                    await client.get(CLUSTER)


async def test_rotated_files_are_used_from_the_next_connection_on(
    authority: Authority, pair: Pair
) -> None:
    """Short-lived certificates must not need restarts, nor end the streams that are open."""
    credentials = trusting(authority)
    async with (
        secured(TlsFiles(pair.cert, pair.key)) as (mesh, address),
        connected(address, credentials=credentials) as client,
    ):
        await client.get(CLUSTER)
        old = serial_of(pair)
        assert await serial(address, authority) == old
        authority.issue("localhost", ["127.0.0.1"])
        assert serial_of(pair) != old
        assert await serial(address, authority) == serial_of(pair)
        await mesh.apply(mesh.source.put_service(service("new.example.com"), endpoint()))
        assert "outbound|80||new.example.com" in (await client.take(CLUSTER)).names


async def test_half_a_rotation_keeps_what_works(authority: Authority, pair: Pair) -> None:
    """A certificate that does not fit the key yet must not end the service, nor fill the log."""
    async with secured(TlsFiles(pair.cert, pair.key)) as (_, address):
        old = serial_of(pair)
        old_cert, old_key = pair.cert.read_bytes(), pair.key.read_bytes()
        authority.issue("localhost", ["127.0.0.1"])
        new_key = pair.key.read_bytes()
        pair.key.write_bytes(old_key)
        with structlog.testing.capture_logs() as logs:
            for _ in range(3):
                assert await serial(address, authority) == old
        assert [each["event"] for each in logs].count("certificate_rejected") == 1
        pair.key.write_bytes(new_key)
        assert await serial(address, authority) == serial_of(pair) != old
        pair.cert.unlink()
        assert await serial(address, authority) != old
        pair.cert.write_bytes(b"no certificate")
        assert await serial(address, authority) != old
        pair.cert.write_bytes(old_cert)
        pair.key.write_bytes(old_key)
        assert await serial(address, authority) == old


@pytest.mark.parametrize("missing", ["cert", "key", "ca"])
async def test_files_that_cannot_be_used_are_told_at_the_start(
    authority: Authority, pair: Pair, missing: str
) -> None:
    """A listener that could serve nobody must not seem to be there."""
    file = {"cert": pair.cert, "key": pair.key, "ca": authority.ca}[missing]
    file.write_text("-----BEGIN NONSENSE-----")
    files = TlsFiles(pair.cert, pair.key, authority.ca)
    with pytest.raises(ConfigError, match=str(pair.cert)):
        async with secured(files):
            pass
