"""Fixtures of real registries: shared ones for tests that write, own ones for those that break.

Whoever uses a shared server writes below a prefix or in namespaces of its own.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from tests.support.servers.consul import ConsulServer
from tests.support.servers.etcd import EtcdServer
from tests.support.servers.kube_apiserver import KubeApiserver
from tests.support.servers.process import Server

S_co = TypeVar("S_co", bound=Server, covariant=True)
S = TypeVar("S", bound=Server)


class Make(Protocol[S_co]):
    """Makes a server that was not started yet; it ends with the test."""

    def __call__(self, **options: Any) -> S_co:
        """*options* are those of the server's class."""


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    """The etcd that all tests share."""
    yield from _shared(EtcdServer(tmp_path_factory.mktemp("etcd")))


@pytest.fixture
def make_etcd(tmp_path: Path) -> Iterator[Make[EtcdServer]]:
    """Makes etcds for one test."""
    yield from _made(tmp_path / "etcd", EtcdServer)


@pytest.fixture(scope="session")
def kube_cluster(
    tmp_path_factory: pytest.TempPathFactory, etcd: EtcdServer
) -> Iterator[Callable[[str], KubeApiserver]]:
    """Gives the shared API server of a name, which is started when it is first asked for. Each
    takes some 300 MB until the end of all tests.
    """
    running: dict[str, KubeApiserver] = {}

    def find(name: str) -> KubeApiserver:
        if name not in running:
            server = KubeApiserver(tmp_path_factory.mktemp(name), etcd, name=name)
            server.start_now()
            stack.callback(server.kill)
            running[name] = server
        return running[name]

    with ExitStack() as stack:
        yield find


@pytest.fixture(scope="session")
def kube(kube_cluster: Callable[[str], KubeApiserver]) -> KubeApiserver:
    """The API server that all tests share."""
    return kube_cluster("kube")


@pytest.fixture
def make_kube(tmp_path: Path, etcd: EtcdServer) -> Iterator[Make[KubeApiserver]]:
    """Makes API servers for one test, on the shared etcd unless it names another."""

    def create(folder: Path, **options: Any) -> KubeApiserver:
        return KubeApiserver(folder, options.pop("etcd", etcd), **options)

    yield from _made(tmp_path / "kube", create)


@pytest.fixture(scope="session")
def consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulServer]:
    """The Consul that all tests share: one datacenter, no ACL."""
    yield from _shared(ConsulServer(tmp_path_factory.mktemp("consul")))


@pytest.fixture
def make_consul(tmp_path: Path) -> Iterator[Make[ConsulServer]]:
    """Makes Consuls for one test."""
    yield from _made(tmp_path / "consul", ConsulServer)


def _shared(server: S) -> Iterator[S]:
    server.start_now()
    yield server
    server.kill()


def _made(folder: Path, create: Callable[..., S]) -> Iterator[Make[S]]:
    servers: list[S] = []

    def make(**options: Any) -> S:
        servers.append(create(folder / str(len(servers)), **options))
        return servers[-1]

    yield make
    for server in servers:
        server.kill()
