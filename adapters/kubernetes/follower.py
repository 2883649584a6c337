"""Follows everything of one cluster that concerns the mesh, for one run of the adapter.

Decides what is listed and watched, and when all of it is in. Knows no object's fields.
"""

import asyncio
from typing import Any, Final

import structlog
from msgspec import Struct

from adapters.kubernetes.catalog import Catalog
from adapters.kubernetes.client import ApiError, KubernetesClient
from adapters.kubernetes.decode import (
    Decode,
    decode_namespaces,
    decode_node_places,
    decode_nodes,
    decode_pods,
    decode_rules,
    decode_secrets,
    decode_services,
    decode_slices,
)
from adapters.kubernetes.discovery import find_versions, probe
from adapters.kubernetes.feed import BellFeed, ItemTaker, ObjectFeed, OneNamespace
from adapters.kubernetes.problem import ProblemBook
from adapters.kubernetes.publisher import Publisher
from adapters.kubernetes.reflector import Feed, Pace, Reflector
from adapters.kubernetes.resource import APIEXTENSIONS, CORE, DISCOVERY, Resource
from adapters.kubernetes.settings import KubernetesSettings
from adapters.kubernetes.table import Taker
from aggregator.model.errors import (
    AdapterRejectedError,
    AdapterUnavailableError,
    Origin,
    Problem,
)
from aggregator.model.registry import Content, RegistryContext, RegistrySink
from config.kind_table import kinds

_OFTEN_SECONDS: Final = 0.25
_OFTEN_FOR: Final = 5.0
"""After a definition changed the server is asked often for a while, until it serves it."""

_GONE_SECONDS: Final = 2.0
"""A kind that is missing for so long is gone; a server that starts does not have all at once."""

REMOTE_SECRETS: Final = "istio/multiCluster=true"

logger = structlog.get_logger(__name__)


class _Watched(Struct):
    """A reflector at work."""

    resource: Resource
    reflector: Reflector
    task: asyncio.Task[None]


class Follower:
    """The reflectors of one run, and who takes what they read. Tasks belong to *group*."""

    def __init__(
        self,
        context: RegistryContext,
        settings: KubernetesSettings,
        client: KubernetesClient,
        group: asyncio.TaskGroup,
        sink: RegistrySink,
        pace: Pace,
    ) -> None:
        self._context: Final = context
        self._settings: Final = settings
        self._client: Final = client
        self._group: Final = group
        self._sink: Final = sink
        self._pace: Final = pace
        self._log: Final = logger.bind(adapter=context.name, cluster_id=context.cluster_id)
        self._problems: Final = ProblemBook(sink)
        self._publisher: Final = Publisher(sink, context.name)
        self._bell: Final = asyncio.Event()
        self._catalog: Final = Catalog(
            context,
            self._publisher,
            self._problems,
            system_namespace=settings.system_namespace,
            on_node_port=self._bell.set,
        )
        self._specs: Final = {spec.plural: spec for spec in kinds().values()}
        self._nodes: _Watched | None = None
        self._rules: Final[dict[str, list[_Watched]]] = {}
        self._missing_since: Final[dict[str, float]] = {}
        self._failing_since: float | None = None

    async def run(self) -> None:
        """List everything, tell it, and follow it for ever."""
        await self._discover_first()
        core = self._start_core()
        rules = (each for watched in list(self._rules.values()) for each in watched)
        for each in (*core, *self._start_secrets(), *rules):
            await each.reflector.settled.wait()
        if all(each.reflector.forbidden for each in core):
            message = f"{self._client.server} lets us read nothing: {core[-1].resource.permission}"
            raise AdapterRejectedError(message)
        await self._catalog.publish()
        self._problems.flush()
        self._sink.synced()
        self._group.create_task(self._problems.run(), name="problems")
        if self._context.rules:
            definitions = Resource(
                "CustomResourceDefinition",
                APIEXTENSIONS,
                "v1",
                "customresourcedefinitions",
                metadata_only=True,
                optional=True,
            )
            self._watch(definitions, BellFeed(self._bell.set))
        await self._keep_discovering()

    # What every cluster has

    def _start_core(self) -> list[_Watched]:
        name, catalog = self._context.name, self._catalog
        nodes = Resource("Node", CORE, "v1", "nodes", metadata_only=True)
        self._nodes = self._start(nodes, decode_nodes(name), catalog.nodes)
        started = [self._nodes]
        for namespace in self._settings.namespaces or ("",):
            started.append(self._start_namespaces(namespace))
            pods = Resource("Pod", CORE, "v1", "pods", namespace)
            started.append(self._start(pods, decode_pods(name), catalog.pods))
            slices = Resource("EndpointSlice", DISCOVERY, "v1", "endpointslices", namespace)
            started.append(self._start(slices, decode_slices(name), catalog.slices))
            services = Resource("Service", CORE, "v1", "services", namespace)
            started.append(self._start(services, decode_services(name), catalog.services))
        return started

    def _start_namespaces(self, namespace: str) -> _Watched:
        """All Namespaces, or the one that may be read."""
        taker = self._catalog.namespaces
        resource = Resource(
            "Namespace",
            CORE,
            "v1",
            "namespaces",
            metadata_only=True,
            field_selector=f"metadata.name={namespace}" if namespace else "",
        )
        decode = decode_namespaces(self._context.name)
        return self._start(resource, decode, OneNamespace(namespace, taker) if namespace else taker)

    def _start_secrets(self) -> list[_Watched]:
        namespace = self._settings.secrets_namespace
        if not namespace:
            return []
        resource = Resource(
            "Secret", CORE, "v1", "secrets", namespace, label_selector=REMOTE_SECRETS
        )
        taker = ItemTaker(self._publisher, resource.plural, Content.SECRETS)
        return [self._start(resource, decode_secrets(self._context.name), taker)]

    def _learn_node_addresses(self) -> None:
        """Read whole Nodes, once a Service is reached by their addresses."""
        if self._nodes is None or not self._nodes.resource.metadata_only:
            return
        self._nodes.task.cancel()
        nodes = Resource("Node", CORE, "v1", "nodes")
        self._nodes = self._start(
            nodes, decode_node_places(self._context.name), self._catalog.nodes
        )

    # Rules

    async def _discover_first(self) -> None:
        try:
            await self._discover()
        except ApiError as error:
            if not error.forbidden:
                message = f"{self._client.server} does not say what it has: {error}"
                raise AdapterUnavailableError(message) from error
            self._tell_undiscovered(error)

    async def _keep_discovering(self) -> None:
        often_until = 0.0
        while True:
            if self._catalog.needs_node_addresses:
                self._learn_node_addresses()
            hurried = self._pace.clock() < often_until or bool(self._missing_since)
            try:
                async with asyncio.timeout(_OFTEN_SECONDS if hurried else self._pace.poll):
                    await self._bell.wait()
                self._bell.clear()
                often_until = self._pace.clock() + _OFTEN_FOR
            except TimeoutError:
                pass
            await self._discover_patiently()

    async def _discover_patiently(self) -> None:
        """Ask again; raises AdapterUnavailableError only if that has failed for a while."""
        try:
            await self._discover()
        except (AdapterUnavailableError, ApiError) as error:
            now = self._pace.clock()
            if self._failing_since is None:
                self._failing_since = now
            elif now - self._failing_since >= self._pace.patience:
                if isinstance(error, AdapterUnavailableError):
                    raise
                self._tell_undiscovered(error)
                return
            self._bell.set()
            await self._pace.sleep(1.0)
        else:
            self._failing_since = None
            self._tell_undiscovered(None)
            self._sink.report("discovery", ())

    async def _discover(self) -> None:
        """Follow the kinds of rules that the server has. Raises as the client does."""
        if not self._context.rules:
            await probe(self._client, self._pace.probe)
            return
        found = await find_versions(self._client, self._specs.values(), self._pace.probe)
        for plural, version in found.items():
            self._missing_since.pop(plural, None)
            self._follow_rules(plural, version)
        for plural in self._rules.keys() - found.keys():
            self._miss(plural)

    def _tell_undiscovered(self, error: ApiError | None) -> None:
        """Kinds that the server does not tell of are unknown, which is not the same as gone."""
        for plural, spec in self._specs.items():
            problems = []
            if error is not None and plural not in self._rules:
                message = f"whether there are any cannot be read: {error}"
                problems.append(Problem(Origin(self._context.name), "", message, subject=spec.kind))
            self._problems.put(f"{plural}/", "discovery", problems)

    def _follow_rules(self, plural: str, version: str) -> None:
        known = self._rules.get(plural, [])
        if any(each.resource.version == version for each in known):
            return
        for each in known:
            each.task.cancel()
        spec = self._specs[plural]
        self._log.info("kind_found", kind=spec.kind, version=version)
        name = self._context.name
        taker = ItemTaker(self._publisher, plural, Content.RULES)
        self._rules[plural] = [
            self._start(
                Resource(spec.kind, spec.group, version, plural, namespace, optional=True),
                decode_rules(name, spec.kind),
                taker,
            )
            for namespace in self._settings.namespaces or ("",)
        ]

    def _miss(self, plural: str) -> None:
        """A kind is not there; once that is sure, neither are its rules."""
        since = self._missing_since.setdefault(plural, self._pace.clock())
        if self._pace.clock() - since < _GONE_SECONDS:
            return
        del self._missing_since[plural]
        for each in self._rules.pop(plural):
            each.task.cancel()
        self._log.info("kind_gone", kind=self._specs[plural].kind)
        self._problems.drop(plural)
        self._publisher.drop(plural)

    # Reflectors

    def _start(self, resource: Resource, decode: Decode[Any], taker: Taker[Any]) -> _Watched:
        name = self._context.name
        return self._watch(resource, ObjectFeed(name, resource, decode, taker, self._problems))

    def _watch(self, resource: Resource, feed: Feed) -> _Watched:
        reflector = Reflector(
            self._client,
            resource,
            feed,
            page_size=self._settings.page_size,
            pace=self._pace,
        )
        task = self._group.create_task(reflector.run(), name=f"watch {resource.path}")
        return _Watched(resource, reflector, task)
