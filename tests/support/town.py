"""A namespace with one Envoy in it, and hosts in it that each belong to one test.

Rules are written as files; they hold once `apply` returns, so that tests need no waiting of their
own.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml

from aggregator.model.errors import Severity
from tests.support.folder_mesh import FolderMesh
from tests.support.http_client import Answer, HttpClient
from tests.support.poll import eventually
from tests.support.port import Ports
from tests.support.servers.backend import HttpBackend, Received, TcpBackend
from tests.support.servers.envoy import Envoy
from tests.support.servers.grpc_backend import GrpcBackend

Backend = HttpBackend | TcpBackend | GrpcBackend
Document = dict[str, Any]
CASE_HEADER: Final = "x-case"
SETTLE_SECONDS: Final = 15.0


class Town:
    """Everything in *mesh* that one Envoy sees. Its HTTP services share `port`.

    Services on that port must not be exported to the namespaces of other Envoys: these would listen
    on it too.
    """

    def __init__(self, mesh: FolderMesh, envoy: Envoy, client: HttpClient, ports: Ports) -> None:
        self.mesh: Final = mesh
        self.envoy: Final = envoy
        self.client: Final = client
        self.ports: Final = ports
        self.name: Final = envoy.node.namespace
        self.port: Final = ports.reserve()
        self._sentinel: Final = f"sentinel.{self.name}.test"
        self._round = 0
        self._cases: Final[set[str]] = set()

    def case(self, name: str) -> "Case":
        """A host for one test; the name gets a number if it is taken."""
        unique, number = name, 1
        while unique in self._cases:
            number += 1
            unique = f"{name}-{number}"
        self._cases.add(unique)
        return Case(self, unique)

    async def open(self, endpoint: Backend) -> None:
        """Have the sentinel served, and with it the first listener."""
        self.mesh.write(
            f"{self.name}-sentinel.yaml",
            service_document(self._sentinel, self.name, self.port, [endpoint]),
        )
        await self.settle()

    async def settle(self) -> None:
        """Return once what was written is in force in Envoy.

        The one worker of Envoy gets changes in order. So a rule written later and seen to hold
        proves that those before it hold, once everything was acknowledged.
        """
        await self._pass_sentinel()
        await eventually(self._acknowledged, seconds=SETTLE_SECONDS, hint=self._faults())
        await self._pass_sentinel()

    def _acknowledged(self) -> bool:
        return self.mesh.settled(self.envoy.node.id)

    def _faults(self) -> str:
        rejected = self.mesh.rejections(self.envoy.node.id)
        return f"rejected: {rejected}; in files: {self.mesh.aggregate.problems()}"

    async def _pass_sentinel(self) -> None:
        self._round += 1
        mark = str(self._round)
        spec = {"http": [{"directResponse": {"status": 200, "body": {"string": mark}}}]}
        # The last file in the order of names: whoever reads many at once comes to it last.
        self.mesh.write(
            f"zz-{self.name}.yaml",
            rule_document("VirtualService", "sentinel", self.name, spec, [self._sentinel]),
        )
        await eventually(
            lambda: self.client.send(f"http://127.0.0.1:{self.port}/", host=self._sentinel),
            lambda answer: answer.body == mark,
            seconds=SETTLE_SECONDS,
            every=0.01,
            hint=f"round {mark} did not come; {self._faults()}",
        )


class Case:
    """One host, with its services and rules in one file.

    In texts of rules ``<host>``, ``<port>``, ``<namespace>`` and further names given as arguments
    are put in.
    """

    def __init__(self, town: Town, name: str) -> None:
        self.town: Final = town
        self.name: Final = name
        self.host: Final = f"{name}.{town.name}.test"
        self._documents: Final[dict[tuple[str, str], Document]] = {}

    # What is written

    def service(
        self,
        *backends: Backend,
        host: str = "",
        port: int = 0,
        protocol: str = "HTTP",
        more: Mapping[str, Any] | None = None,
        per_endpoint: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """A service whose endpoints are labelled ``version: <backend's name>``.

        *more* are further keys of the service, *per_endpoint* of each endpoint.
        """
        host = host or self.host
        document = service_document(
            host, self.town.name, port or self.town.port, backends, protocol, per_endpoint
        )
        document["services"][0].update(more or {})
        self._documents["service", host] = document

    def rule(
        self, text: str, *, name: str = "", hosts: Sequence[str] = (), **names: str | int
    ) -> None:
        """A VirtualService with the spec *text*, for this host unless *hosts* says otherwise.

        A delegate has none.
        """
        spec = self._parse(text, names)
        listed = list(hosts) or ([] if name else [self.host])
        self._put("VirtualService", name, spec, listed)

    def policy(self, text: str, *, host: str = "", name: str = "", **names: str | int) -> None:
        """A DestinationRule for *host*, with the spec *text*."""
        spec = {"host": host or self.host} | self._parse(text, names)
        self._put("DestinationRule", name or host, spec)

    def subsets(self, *backends: Backend) -> None:
        """A DestinationRule with a subset for each backend, of its name."""
        found = [{"name": each.name, "labels": {"version": each.name}} for each in backends]
        self._put("DestinationRule", "", {"host": self.host, "subsets": found})

    def put(self, kind: str, text: str, *, name: str = "", **names: str | int) -> None:
        """An object of any kind with the spec *text*."""
        self._put(kind, name, self._parse(text, names))

    def document(self, text: str, **names: str | int) -> None:
        """A whole document, of whatever kind."""
        document = self._parse(text, names)
        self._documents[document["kind"], document["metadata"]["name"]] = document

    def drop(self, kind: str, name: str = "") -> None:
        """Take back what `put`, `rule` or `policy` gave."""
        del self._documents[kind, name]

    async def apply(self) -> "Case":
        """Write all of it to the file, and return once it is in force."""
        self.save()
        await self.town.settle()
        told = self.town.mesh.aggregate.problems().get(("files", self._file), ())
        assert not [str(each) for each in told if each.severity is Severity.ERROR]
        return self

    def save(self) -> None:
        """Write all of it to the file."""
        self.town.mesh.write(self._file, *self._documents.values())

    def delete(self) -> None:
        """Delete the file."""
        self.town.mesh.remove(self._file)

    @property
    def _file(self) -> str:
        return f"{self.town.name}-{self.name}.yaml"

    def _put(self, kind: str, name: str, spec: Document, hosts: Sequence[str] = ()) -> None:
        whole = f"{self.name}-{re.sub('[^a-z0-9-]', '-', name)}".rstrip("-")
        self._documents[kind, name] = rule_document(kind, whole, self.town.name, spec, hosts)

    def _parse(self, text: str, names: Mapping[str, str | int]) -> Document:
        town = self.town
        own = {"host": self.host, "port": town.port, "namespace": town.name}
        for name, value in (*names.items(), *own.items()):
            text = text.replace(f"<{name}>", str(value))
        spec = yaml.safe_load(text)
        assert isinstance(spec, dict)
        return spec

    # What is asked

    async def send(
        self,
        path: str = "/",
        *,
        method: str = "GET",
        host: str = "",
        port: int = 0,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        client: HttpClient | None = None,
    ) -> Answer:
        """One request to this host through Envoy."""
        return await (client or self.town.client).send(
            f"http://127.0.0.1:{port or self.town.port}{path}",
            method=method,
            host=host or self.host,
            headers={CASE_HEADER: self.host, **(headers or {})},
            body=body,
        )

    def received(self, backend: HttpBackend) -> list[Received]:
        """What reached a backend of this case's requests."""
        return [each for each in backend.received if each.headers.get(CASE_HEADER) == self.host]


def service_document(
    host: str,
    namespace: str,
    port: int,
    backends: Sequence[Backend],
    protocol: str = "HTTP",
    per_endpoint: Sequence[Mapping[str, Any]] = (),
) -> Document:
    """The terse form of a service."""
    name = protocol.lower()
    endpoints: list[Document] = [
        {
            "address": backend.address,
            "labels": {"version": backend.name},
            "ports": {name: backend.port},
        }
        for backend in backends
    ]
    for endpoint, more in zip(endpoints, per_endpoint, strict=False):
        endpoint.update(more)
    service = {
        "host": host,
        "namespace": namespace,
        "ports": [{"name": name, "number": port, "protocol": protocol}],
        "endpoints": endpoints,
    }
    return {"services": [service]}


def rule_document(
    kind: str, name: str, namespace: str, spec: Mapping[str, Any], hosts: Sequence[str] = ()
) -> Document:
    """An Istio object as a user writes it."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"hosts": list(hosts), **spec} if hosts else dict(spec),
    }
