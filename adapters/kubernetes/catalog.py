"""Joins what the API server tells of Services, EndpointSlices, Pods, Nodes and Namespaces.

A change costs what it concerns: a Pod touches the slices that name it, a Node those with endpoints
on it. Nothing is published before everything was listed, so that no endpoint appears half-known.
Does no I/O.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from msgspec import structs

from adapters.kubernetes.decode import origin_of, subject_of
from adapters.kubernetes.problem import ProblemBook
from adapters.kubernetes.publisher import Publisher
from adapters.kubernetes.table import Index, Name, Table, Taker, Turns
from aggregator.model.errors import Problem, Severity
from aggregator.model.registry import Content, Item, Namespace, RegistryContext, ServiceItem
from aggregator.model.service import NOWHERE, Endpoint, Locality, Workload
from config.core.endpoint_slice import (
    SERVICE_NAME,
    UNKNOWN,
    Behind,
    CoreEndpointSlice,
    SliceEndpoint,
    endpoint_slice_item,
)
from config.core.gateway import NodePlace, by_node_port, network_gateways, opens_network
from config.core.place import NETWORK_LABEL, node_locality
from config.core.pod import Pod
from config.core.service import CoreService, service_item

NAMESPACES: Final = "namespaces"
NODES: Final = "nodes"
PODS: Final = "pods"
SLICES: Final = "endpointslices"
SERVICES: Final = "services"


class Catalog:
    """All of Kubernetes' own objects of one cluster, and the items that they amount to.

    *on_node_port* is called when addresses of nodes begin to matter.
    """

    def __init__(
        self,
        context: RegistryContext,
        publisher: Publisher,
        problems: ProblemBook,
        *,
        system_namespace: str,
        on_node_port: Callable[[], None],
    ) -> None:
        self._context = context
        self._own_network: Final = context.network
        self._locality: Final = Locality.parse(context.locality)
        self._publisher: Final = publisher
        self._problems: Final = problems
        self._system_namespace: Final = system_namespace
        self._on_node_port: Final = on_node_port
        self._published: Final[set[str]] = set()
        self._listing: Final[dict[str, set[str]]] = {}
        self._services_listed: Final[set[str]] = set()

        self._namespaces: Final[Table[Namespace]] = Table()
        self._nodes: Final[Table[NodePlace]] = Table()
        self._pods: Final[Table[Pod]] = Table()
        self._slices: Final[Table[CoreEndpointSlice]] = Table()
        self._services: Final[Table[CoreService]] = Table()
        self._localities: Final[dict[str, Locality]] = {}
        self._pods_on: Final = Index()
        self._pods_at: Final = Index()
        self._slices_of: Final = Index()
        self._by_node_port: Final[set[Name]] = set()

        self._items: Final[dict[str, Callable[[str], dict[Content, dict[str, Item]]]]] = {
            NAMESPACES: self._namespace_items,
            PODS: self._pod_items,
            SLICES: self._slice_items,
            SERVICES: self._service_items,
        }
        self.namespaces: Final[Taker[Namespace]] = _Part(
            NAMESPACES, self._namespaces, self._take_namespace, self
        )
        self.nodes: Final[Taker[NodePlace]] = _Part(NODES, self._nodes, self._take_node, self)
        self.pods: Final[Taker[Pod]] = _Part(PODS, self._pods, self._take_pod, self)
        self.slices: Final[Taker[CoreEndpointSlice]] = _Part(
            SLICES, self._slices, self._take_slice, self
        )
        self.services: Final[Taker[CoreService]] = _Part(
            SERVICES, self._services, self._take_service, self
        )

    @property
    def needs_node_addresses(self) -> bool:
        """Whether some Service is a way into this network by a port of nodes."""
        return bool(self._by_node_port)

    async def publish(self) -> None:
        """Everything was listed, as far as it can be: tell all of it.

        What others are made of goes first, so that little is merged twice.
        """
        for plural, table in (
            (NAMESPACES, self._namespaces),
            (PODS, self._pods),
            (SLICES, self._slices),
            (SERVICES, self._services),
        ):
            self._published.add(plural)
            for namespace in sorted(table.namespaces()):
                self._publish(plural, namespace)
                await asyncio.sleep(0)

    def begin_listing(self, plural: str) -> None:
        """What follows is part of a listing, and told as such: the loss guard judges it."""
        self._listing[plural] = set()

    async def end_listing(self, plural: str, namespace: str) -> None:
        """The listing, of one namespace or of all, is complete."""
        if plural == SERVICES:
            self._services_listed.add(namespace)
            for name in self._slices.names(namespace):
                self._check_service(name)
        for each in sorted(self._listing.pop(plural)):
            self._publish(plural, each)
            await asyncio.sleep(0)

    # What an object touches

    def _take_namespace(self, name: Name, old: Namespace | None, new: Namespace | None) -> None:
        self._put(NAMESPACES, "", Content.PLACES, name[1], new)
        if name[1] != self._system_namespace:
            return
        network = (dict(new.labels).get(NETWORK_LABEL) if new else None) or self._own_network
        if network != self._context.network:
            self._context = structs.replace(self._context, network=network)
            for plural, table in ((PODS, self._pods), (SLICES, self._slices)):
                for namespace in table.namespaces():
                    self._publish(plural, namespace)
            for namespace in self._services.namespaces():
                self._publish(SERVICES, namespace)

    def _take_node(self, name: Name, old: NodePlace | None, new: NodePlace | None) -> None:
        node = name[1]
        before = self._localities.pop(node, NOWHERE)
        after = node_locality(dict(new.labels), self._locality) if new else NOWHERE
        if after is not NOWHERE:
            self._localities[node] = after
        if before != after:
            pods = self._pods_on.of(node)
            for pod in pods:
                self._republish_pod(pod)
            self._touch_slices(_node(node), *(_pod(*pod) for pod in pods))
        for service in self._by_node_port:
            self._publish_gateways(service)

    def _take_pod(self, name: Name, old: Pod | None, new: Pod | None) -> None:
        if old is not None:
            self._pods_on.discard(old.node, name)
            for address in old.addresses:
                self._pods_at.discard(_at(name[0], address), name)
        if new is not None:
            self._pods_on.add(new.node, name)
            for address in () if new.on_host else new.addresses:
                self._pods_at.add(_at(name[0], address), name)
        for key in _workloads(old).keys() - _workloads(new).keys():
            self._put(PODS, name[0], Content.WORKLOADS, key, None)
        self._republish_pod(name)
        if _shown(old) != _shown(new):
            addresses = {*_workloads(old).values(), *_workloads(new).values()}
            self._touch_slices(_pod(*name), *(_at(name[0], each) for each in sorted(addresses)))

    def _take_slice(
        self, name: Name, old: CoreEndpointSlice | None, new: CoreEndpointSlice | None
    ) -> None:
        for token in _references(old):
            self._slices_of.discard(token, name)
        for token in _references(new):
            self._slices_of.add(token, name)
        item = self._slice_item(new) if new is not None else None
        self._put(SLICES, name[0], Content.SERVICES, name[1], item)
        self._check_service(name)

    def _take_service(self, name: Name, old: CoreService | None, new: CoreService | None) -> None:
        self._by_node_port.discard(name)
        if new is not None and by_node_port(new):
            self._by_node_port.add(name)
            self._on_node_port()
        item = self._service_item(new) if new is not None else None
        self._put(SERVICES, name[0], Content.SERVICES, name[1], item)
        if _opens(old) or _opens(new):
            self._publish_gateways(name)
        if _is_name(old) != _is_name(new):
            self._touch_slices(_service(*name))
        if (old is None) != (new is None):
            for each in self._slices_of.of(_service(*name)):
                self._check_service(each)

    # What is told

    def _publish(self, plural: str, namespace: str) -> None:
        """One namespace's objects of a kind, as a listing."""
        if plural in self._published:
            for content, found in self._items[plural](namespace).items():
                self._publisher.replace(plural, namespace, content, found)

    def _namespace_items(self, namespace: str) -> dict[Content, dict[str, Item]]:
        return {Content.PLACES: dict(self._namespaces.within(namespace))}

    def _pod_items(self, namespace: str) -> dict[Content, dict[str, Item]]:
        pods = self._pods.within(namespace).values()
        workloads: dict[str, Item] = {
            key: self._workload(pod, address)
            for pod in pods
            for key, address in _workloads(pod).items()
        }
        return {Content.WORKLOADS: workloads}

    def _slice_items(self, namespace: str) -> dict[Content, dict[str, Item]]:
        slices = self._slices.within(namespace)
        return {Content.SERVICES: {name: self._slice_item(each) for name, each in slices.items()}}

    def _service_items(self, namespace: str) -> dict[Content, dict[str, Item]]:
        services = self._services.within(namespace)
        items: dict[Content, dict[str, Item]] = {
            Content.SERVICES: {name: self._service_item(each) for name, each in services.items()}
        }
        gateways: dict[str, Item] = {}
        for name in services:
            gateways |= self._gateways((namespace, name))
        if gateways or self._publisher.keys(SERVICES, namespace, Content.PLACES):
            items[Content.PLACES] = gateways
        return items

    def _put(
        self, plural: str, namespace: str, content: Content, key: str, item: Item | None
    ) -> None:
        if plural in self._listing:
            self._listing[plural].add(namespace)
        elif plural in self._published:
            self._publisher.put(plural, namespace, content, key, item)

    def _touch_slices(self, *tokens: str) -> None:
        names = dict.fromkeys(name for token in tokens for name in self._slices_of.of(token))
        for name in names if SLICES in self._published else ():
            found = self._slices.get(name)
            if found is not None:
                self._put(SLICES, name[0], Content.SERVICES, name[1], self._slice_item(found))

    def _republish_pod(self, name: Name) -> None:
        pod = self._pods.get(name)
        for key, address in _workloads(pod).items():
            if pod is not None and PODS in self._published:
                item = self._workload(pod, address)
                self._put(PODS, name[0], Content.WORKLOADS, key, item)

    def _publish_gateways(self, name: Name) -> None:
        found = self._gateways(name)
        place = (SERVICES, name[0], Content.PLACES)
        for key in self._publisher.keys(*place):
            if key.startswith(f"{name[1]} ") and key not in found:
                self._put(*place, key, None)
        for key, item in found.items():
            self._put(*place, key, item)

    def _check_service(self, name: Name) -> None:
        """Tell of a slice whose Service is not there, where all Services are known."""
        found = self._slices.get(name)
        problems: tuple[Problem, ...] = ()
        if found is not None and not self._services_listed.isdisjoint(("", name[0])):
            service = found.metadata.labels[SERVICE_NAME]
            if self._services.get((name[0], service)) is None:
                problem = Problem(
                    origin_of(self._context.name, *name),
                    f'metadata.labels["{SERVICE_NAME}"]',
                    f"there is no Service {service!r} in namespace {name[0]}",
                    Severity.WARNING,
                    subject_of("EndpointSlice", *name),
                )
                problems = (problem,)
        self._problems.put(f"{SLICES}/{name[0]}", f"service {name[1]}", problems)

    # What it amounts to

    def _service_item(self, decoded: CoreService) -> ServiceItem:
        metadata = decoded.metadata
        origin = origin_of(self._context.name, metadata.namespace, metadata.name)
        return service_item(decoded, self._context, origin)

    def _gateways(self, name: Name) -> dict[str, Item]:
        decoded = self._services.get(name)
        if decoded is None:
            return {}
        found = network_gateways(decoded, self._context.cluster_id, self._sorted_nodes)
        return {f"{name[1]} {each.address}:{each.port}": each for each in found}

    def _sorted_nodes(self) -> Iterable[NodePlace]:
        nodes = self._nodes.within("")
        return [nodes[name] for name in sorted(nodes)]

    def _slice_item(self, decoded: CoreEndpointSlice) -> ServiceItem:
        namespace = decoded.metadata.namespace
        if _is_name(self._services.get((namespace, decoded.metadata.labels[SERVICE_NAME]))):
            # Of a Service that once had endpoints Kubernetes leaves the slices as they were.
            decoded = structs.replace(decoded, endpoints=())

        def behind(endpoint: SliceEndpoint, address: str) -> Behind:
            pod = self._pod_behind(namespace, endpoint, address)
            if pod is None:
                where = self._localities.get(endpoint.node_name, NOWHERE)
                return UNKNOWN if where is NOWHERE else Behind(locality=where)
            return Behind(pod.labels, self._where(pod), pod.network, pod.service_account)

        return endpoint_slice_item(decoded, self._context, behind)

    def _pod_behind(self, namespace: str, endpoint: SliceEndpoint, address: str) -> Pod | None:
        """The pod that an endpoint names, else the only one of the namespace at its address."""
        target = endpoint.target_ref
        if target is not None:
            if target.kind != "Pod":
                return None
            return self._pods.get((target.namespace or namespace, target.name))
        found = self._pods_at.of(_at(namespace, address))
        return self._pods.get(found[0]) if len(found) == 1 else None

    def _where(self, pod: Pod) -> Locality:
        if pod.locality is not NOWHERE:
            return pod.locality
        return self._localities.get(pod.node, NOWHERE)

    def _workload(self, pod: Pod, address: str) -> Workload:
        where = self._where(pod)
        endpoint = Endpoint(
            address=address,
            labels=pod.labels,
            locality=self._locality if where is NOWHERE else where,
            network=pod.network or self._context.network,
            cluster_id=self._context.cluster_id,
            health=pod.health,
            service_account=pod.service_account,
            hostname=pod.hostname,
            node=pod.node,
            registry=self._context.name,
        )
        origin = origin_of(self._context.name, pod.namespace, pod.name)
        return Workload(pod.name, pod.namespace, endpoint, origin)


class _Part:
    """One kind's way into the catalog: takes listings and single objects alike."""

    def __init__(
        self,
        plural: str,
        table: Table[Any],
        take: Callable[[Name, Any, Any], None],
        catalog: Catalog,
    ) -> None:
        self._plural: Final = plural
        self._table: Final = table
        self._take: Final = take
        self._catalog: Final = catalog

    async def list(self, namespace: str, found: Mapping[Name, Any]) -> None:
        """All objects of a namespace, or of all."""
        turns = Turns()
        self._catalog.begin_listing(self._plural)
        for name in self._table.names(namespace):
            if name not in found:
                self.put(name, None)
                await turns.give()
        for name, value in found.items():
            self.put(name, value)
            await turns.give()
        await self._catalog.end_listing(self._plural, namespace)

    def put(self, name: Name, value: Any) -> None:
        """One object."""
        old = self._table.put(name, value)
        if old != value:
            self._take(name, old, value)

    def known(self, name: Name) -> Any:
        """What was taken of an object last."""
        return self._table.get(name)


def _workloads(pod: Pod | None) -> dict[str, str]:
    """The pod's addresses by the keys of its workloads: a pod with two is two."""
    if pod is None:
        return {}
    first, *others = pod.addresses
    return {pod.name: first, **{f"{pod.name} {each}": each for each in others}}


def _shown(pod: Pod | None) -> tuple[object, ...]:
    """What slices tell of a pod; its health they know themselves."""
    if pod is None:
        return ()
    return (
        pod.addresses,
        pod.on_host,
        pod.labels,
        pod.locality,
        pod.network,
        pod.service_account,
        pod.node,
    )


def _references(decoded: CoreEndpointSlice | None) -> set[str]:
    """What the slice's endpoints are made of, beside itself."""
    if decoded is None:
        return set()
    metadata = decoded.metadata
    found = {_service(metadata.namespace, metadata.labels[SERVICE_NAME])}
    for endpoint in decoded.endpoints:
        target = endpoint.target_ref
        if endpoint.node_name:
            found.add(_node(endpoint.node_name))
        if target is None:
            found |= {_at(metadata.namespace, address) for address in endpoint.addresses}
        elif target.kind == "Pod":
            found.add(_pod(target.namespace or metadata.namespace, target.name))
    return found


def _opens(decoded: CoreService | None) -> bool:
    return decoded is not None and opens_network(decoded)


def _is_name(decoded: CoreService | None) -> bool:
    return decoded is not None and decoded.is_name


def _service(namespace: str, name: str) -> str:
    return f"Service {namespace}/{name}"


def _pod(namespace: str, name: str) -> str:
    return f"Pod {namespace}/{name}"


def _node(name: str) -> str:
    return f"Node {name}"


def _at(namespace: str, address: str) -> str:
    return f"{namespace} at {address}"
