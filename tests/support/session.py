"""A client of one xDS session without any transport: says requests, reads responses as an Envoy
would see them.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from envoy.service.discovery.v3 import discovery_pb2

from aggregator.generators.spec import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    VIRTUAL_HOST,
    GeneratorSpec,
    Resource,
    ResourceType,
    Root,
    Unit,
    resource_of_bytes,
)
from aggregator.model.service import Locality
from aggregator.push.known import Response
from aggregator.push.state import Cause, ViewState
from aggregator.push.unit import Built
from aggregator.push.view import RecordingView, ViewKey
from aggregator.push.world import World
from aggregator.xds.cache import PlanCache
from aggregator.xds.isolation import Rejection
from aggregator.xds.message import Request
from aggregator.xds.session import Session, Waits
from config.mesh import MeshConfig

TYPES: Final = {each.type_url: each for each in (CLUSTER, ENDPOINT, LISTENER, ROUTE, VIRTUAL_HOST)}
SPECS: Final = {
    type_url: GeneratorSpec(kind, (Root.HOST,), lambda _view, _unit: (), frozenset())
    for type_url, kind in TYPES.items()
}
KEY: Final = ViewKey(
    client="envoy",
    kind="sidecar",
    namespace="shop",
    domain="shop.svc.cluster.local",
    cluster_id="",
    network="",
    locality=Locality(),
    interception_mode="",
    ipv4=True,
    ipv6=False,
    vhds=True,
    sidecar=None,
    selectors=frozenset(),
    labels=(),
    extensions=frozenset(),
)


def resource(
    kind: ResourceType, name: str, body: str = "", clusters: Iterable[str] = ()
) -> Resource:
    """A resource whose content is *body*."""
    return resource_of_bytes(
        kind, name, body.encode(), clusters=clusters, origins=(f"rule of {name}",)
    )


class Content:
    """A view whose resources are set by hand."""

    def __init__(self) -> None:
        self.view: Final = ViewState(KEY, tuple(SPECS.values()))
        self._world: Final = World(MeshConfig(), "cluster.local", {})

    def put(
        self, kind: ResourceType, name: str, body: str = "", clusters: Iterable[str] = ()
    ) -> None:
        """Add or change a resource."""
        self._install(kind, name, {name: resource(kind, name, body, clusters)})

    def remove(self, kind: ResourceType, name: str) -> None:
        """Take a resource away."""
        self._install(kind, name, {})

    def _install(self, kind: ResourceType, name: str, resources: dict[str, Resource]) -> None:
        spec = SPECS[kind.type_url]
        unit = Unit(Root.HOST, name)
        self.view.install(
            spec, unit, Built(spec, unit, resources, RecordingView(self._world, KEY, spec))
        )


class Client:
    """One stream's other end. Time stands still unless told."""

    def __init__(
        self,
        content: Content,
        *,
        delta: bool = True,
        aggregated: bool = True,
        drain: float = 3.0,
        chunk: int = 256 * 1024,
        cache: PlanCache | None = None,
    ) -> None:
        self.content: Final = content
        self.now = 100.0
        self.session: Final = Session(
            TYPES,
            delta=delta,
            aggregated=aggregated,
            waits=Waits(),
            cache=cache or PlanCache(),
            chunk=chunk,
        )
        self.session.begin(drain=drain)
        self.session.view = content.view
        self._names: Final[dict[str, frozenset[str]]] = {}

    # What the client says

    def subscribe(
        self,
        kind: ResourceType,
        *names: str,
        versions: Mapping[str, str] | None = None,
        version: str = "",
    ) -> None:
        """Subscribe to names; none on the first time is the wildcard."""
        self._names[kind.type_url] = self._names.get(kind.type_url, frozenset()) | set(names)
        said = frozenset(names) if self.session.delta else self._names[kind.type_url]
        nonce = ""
        subscription = self.session.subscriptions.get(kind.type_url)
        if subscription is not None and not self.session.delta:
            nonce = subscription.nonce_sent
        self.session.receive(
            Request(kind.type_url, said, nonce, versions=versions or {}, version=version), self.now
        )

    def unsubscribe(self, kind: ResourceType, *names: str) -> None:
        """Give names up."""
        self._names[kind.type_url] -= set(names)
        if self.session.delta:
            request = Request(kind.type_url, frozenset(), unsubscribed=frozenset(names))
        else:
            nonce = self.session.subscriptions[kind.type_url].nonce_sent
            request = Request(kind.type_url, self._names[kind.type_url], nonce)
        self.session.receive(request, self.now)

    def ack(self, response: Response) -> None:
        """Accept a response."""
        self._answer(response, None)

    def nack(self, response: Response, error: str) -> tuple[Rejection, ...]:
        """Reject a response with a text."""
        return self._answer(response, error)

    def _answer(self, response: Response, error: str | None) -> tuple[Rejection, ...]:
        names = frozenset() if self.session.delta else self._names[response.type_url]
        return self.session.receive(
            Request(response.type_url, names, response.nonce, error, response.version), self.now
        )

    # What it gets

    def change(self, *registries: str) -> None:
        """Tell the session what changed in the content, by whose word."""
        self.session.view_changed(
            self.content.view.finish(), Cause(self.now, frozenset(registries))
        )

    def next(self) -> Response | None:
        """The next response, unacknowledged."""
        return self.session.next_response(self.now)

    def drain(self) -> list[Response]:
        """All responses that come, each acknowledged at once."""
        responses: list[Response] = []
        while (response := self.next()) is not None:
            responses.append(response)
            self.ack(response)
        return responses

    def later(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def has(self, kind: ResourceType) -> dict[str, str]:
        """What the session believes that the client has of a type: bodies by name."""
        known = self.session.subscriptions[kind.type_url].known
        return {name: each.body.decode() for name, each in known.resources.items()}


def sent(response: Response | None) -> dict[str, str | None]:
    """What a response says on the wire: bodies by name, None for removals (delta only)."""
    assert response is not None
    delta = discovery_pb2.DeltaDiscoveryResponse.FromString(response.payload)
    found: dict[str, str | None] = {
        each.name: each.resource.value.decode() for each in delta.resources
    }
    found.update(dict.fromkeys(delta.removed_resources))
    return found


def sent_bodies(response: Response | None) -> list[str]:
    """What a state-of-the-world response says on the wire: bodies in order."""
    assert response is not None
    message = discovery_pb2.DiscoveryResponse.FromString(response.payload)
    assert message.type_url == response.type_url
    assert message.nonce == response.nonce
    assert message.version_info == response.version
    return [each.value.decode() for each in message.resources]
