"""The class of proxies that get the same resources, its key, and the recording accessor through
which generators see the world.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar, cast

from msgspec import Struct
from msgspec.structs import replace

from aggregator.generators.sidecar_scope import imported
from aggregator.generators.spec import NODE_LABEL, GeneratorSpec, View
from aggregator.model.config import Config, ConfigKey
from aggregator.model.errors import Origin, Problem, Severity
from aggregator.model.policy import UNION, MergePolicy
from aggregator.model.proxy import Proxy
from aggregator.model.registry import NetworkGateway
from aggregator.model.service import Endpoint, Labels, Locality, Service, ServiceKey, labels_match
from aggregator.push import world as w
from aggregator.push.world import Fact, World
from config.mesh import MeshConfig

T = TypeVar("T")
ALWAYS_READABLE: Final = frozenset({"sidecar", "in_namespace", "in_cluster", "matches", "label"})


class ViewKey(Struct, frozen=True):
    """Every proxy attribute that a generator may read. Equal keys are one view.

    `selectors` are those in use by any object that match the proxy; `labels` those that failover
    priorities compare. `client` chooses the generators: ``envoy`` or ``grpc``.
    """

    client: str
    kind: str
    namespace: str
    domain: str
    cluster_id: str
    network: str
    locality: Locality
    interception_mode: str
    ipv4: bool
    ipv6: bool
    vhds: bool
    sidecar: ConfigKey | None
    selectors: frozenset[Labels]
    labels: Labels
    extensions: frozenset[str]

    def answer(self, question: str, argument: Any) -> Any:
        """What this class of proxies answers to a recorded question."""
        match question:
            case "in_namespace":
                return self.namespace in argument
            case "in_cluster":
                return self.cluster_id if self.cluster_id in argument else ""
            case "matches":
                return argument in self.selectors
            case "label":
                return dict(self.labels).get(argument, "")
            case "generator":
                return "" if self.client == "envoy" else self.client
            case _:
                return getattr(self, question)

    def differing(self, other: "ViewKey") -> frozenset[str]:
        """The questions to which another class may answer differently."""
        return frozenset(
            question
            for question, attribute in _ANSWERED_BY.items()
            if getattr(self, attribute) != getattr(other, attribute)
        )


_ANSWERED_BY: Final = {name: name for name in ViewKey.__struct_fields__} | {
    "in_namespace": "namespace",
    "in_cluster": "cluster_id",
    "matches": "selectors",
    "label": "labels",
    "generator": "client",
}
"""The attribute that each question is about."""


def key_of(proxy: Proxy, world: World, *, vhds: bool, attributes: frozenset[str]) -> ViewKey:
    """The view of a proxy, as the world's selectors and Sidecars place it.

    Attributes that no generator declares are left blank, so that they do not split views.
    """
    ipv6 = any(":" in address for address in proxy.addresses)
    ipv4 = not ipv6 or any(":" not in address for address in proxy.addresses)

    def only(name: str, value: T, blank: T) -> T:
        return value if name in attributes else blank

    names = world.label_names()
    return ViewKey(
        client="grpc" if proxy.generator == "grpc" else "envoy",
        kind=proxy.kind,
        namespace=proxy.namespace,
        domain=only("domain", proxy.domain, ""),
        cluster_id=only("cluster_id", proxy.cluster_id, ""),
        network=only("network", proxy.network, ""),
        locality=only("locality", proxy.locality, Locality()),
        interception_mode=only("interception_mode", proxy.interception_mode, ""),
        ipv4=ipv4,
        ipv6=ipv6,
        vhds=vhds,
        sidecar=world.sidecar_for(proxy),
        selectors=frozenset(
            selector for selector in world.selectors if labels_match(selector, proxy.labels)
        ),
        labels=_compared_labels(proxy, names),
        extensions=only("extensions", proxy.extensions, frozenset()),
    )


def _compared_labels(proxy: Proxy, names: frozenset[str]) -> Labels:
    labels = tuple(pair for pair in proxy.labels if pair[0] in names)
    if NODE_LABEL in names and proxy.node_name and NODE_LABEL not in dict(labels):
        return tuple(sorted((*labels, (NODE_LABEL, proxy.node_name))))
    return labels


class UndeclaredReadError(TypeError):
    """A generator read what its spec does not declare: a mistake in our own tree, found on the
    first use.
    """


class _MeshReader:
    """Passes mesh settings on and records each field that is read."""

    def __init__(self, mesh: MeshConfig, facts: set[Fact]) -> None:
        self._mesh = mesh
        self._facts = facts

    def __getattr__(self, name: str) -> Any:
        self._facts.add((w.MESH, name))
        return getattr(self._mesh, name)


class RecordingView(View):
    """`View` over the world for one build of one unit."""

    def __init__(self, world: World, key: ViewKey, spec: GeneratorSpec) -> None:
        self._world = world
        self._key = key
        self._spec = spec
        self.facts: Final[set[Fact]] = set()
        self.asked: Final[dict[tuple[str, Any], Any]] = {}
        self.problems: Final[list[Problem]] = []

    def _ask(self, question: str, argument: Any = None) -> Any:
        asked = self.asked.get((question, argument), self)
        if asked is not self:
            return asked
        if question not in ALWAYS_READABLE and question not in self._spec.attributes:
            message = f"the {self._spec.kind.short} generator reads {question!r} undeclared"
            raise UndeclaredReadError(message)
        answer = self._key.answer(question, argument)
        self.asked[(question, argument)] = answer
        return answer

    # Proxy attributes

    @property
    def kind(self) -> str:
        return cast(str, self._ask("kind"))

    @property
    def namespace(self) -> str:
        return cast(str, self._ask("namespace"))

    @property
    def domain(self) -> str:
        return cast(str, self._ask("domain"))

    @property
    def cluster_id(self) -> str:
        return cast(str, self._ask("cluster_id"))

    @property
    def network(self) -> str:
        return cast(str, self._ask("network"))

    @property
    def locality(self) -> Locality:
        return cast(Locality, self._ask("locality"))

    @property
    def generator(self) -> str:
        return cast(str, self._ask("generator"))

    @property
    def interception_mode(self) -> str:
        return cast(str, self._ask("interception_mode"))

    @property
    def ipv4(self) -> bool:
        return cast(bool, self._ask("ipv4"))

    @property
    def ipv6(self) -> bool:
        return cast(bool, self._ask("ipv6"))

    @property
    def vhds(self) -> bool:
        return cast(bool, self._ask("vhds"))

    @property
    def extensions(self) -> frozenset[str]:
        return cast(frozenset[str], self._ask("extensions"))

    def in_namespace(self, *namespaces: str) -> bool:
        return cast(bool, self._ask("in_namespace", frozenset(namespaces)))

    def matches(self, selector: Labels) -> bool:
        return not selector or cast(bool, self._ask("matches", selector))

    def label(self, name: str) -> str:
        return cast(str, self._ask("label", name))

    # The world

    @property
    def mesh(self) -> MeshConfig:
        return cast(MeshConfig, _MeshReader(self._world.mesh, self.facts))

    @property
    def domain_suffix(self) -> str:
        return self._world.domain

    def sidecar(self) -> Config | None:
        key = cast(ConfigKey | None, self._ask("sidecar"))
        if key is None:
            return None
        self.facts.add((w.CONFIG, key))
        return self._world.configs.get(key)

    def _exported(self, namespace: str, export_to: Iterable[str]) -> bool:
        """Whether these proxies are in one of the namespaces; ``*`` asks nothing."""
        named = {namespace if to == "." else to for to in export_to}
        return "*" in named or (bool(named - {"~"}) and self.in_namespace(*(named - {"~"})))

    def _visible(self, service: Service) -> bool:
        if not self._exported(service.namespace, service.export_to):
            return False
        sidecar = self.sidecar()
        return (
            sidecar is None
            or imported(sidecar, service.namespace, service.host, self.in_namespace)
            or self._sent_to(sidecar, service.host)
        )

    def _sent_to(self, sidecar: Config, host: str) -> bool:
        """Whether a VirtualService that the Sidecar imports sends traffic to the host.

        Istio's rule: such a service is known without being imported, so that the rule works.
        """
        self.facts.add((w.DESTINATION, host))
        return any(
            self._exported(rule.namespace, self._export_of(rule))
            and any(
                imported(sidecar, rule.namespace, each, self.in_namespace)
                for each in self._world.kinds[rule.kind].hosts(rule, self._world.domain)
            )
            for rule in self._world.by_destination.get(host, ())
        )

    def service(self, host: str) -> Service | None:
        self.facts.add((w.HOST, host))
        visible = [each for each in self._world.by_host.get(host, ()) if self._visible(each)]
        if len(visible) > 1:
            for each in visible:
                if self.in_namespace(each.namespace):
                    return self._localised(each)
        return self._localised(visible[0]) if visible else None

    def service_in(self, namespace: str, host: str) -> Service | None:
        self.facts.add((w.HOST, host))
        service = self._world.services.get(ServiceKey(namespace, host))
        return self._localised(service) if service is not None and self._visible(service) else None

    def _own_cluster(self, service: Service) -> str:
        """The proxies' cluster, if the service has addresses in it, else ""."""
        clusters = frozenset(cluster for cluster, _ in service.cluster_addresses)
        return cast(str, self._ask("in_cluster", clusters)) if clusters else ""

    def _localised(self, service: Service) -> Service:
        """With the addresses of the proxies' own cluster, else those of the first that has any;
        what belongs to no cluster is everywhere.
        """
        if len(service.cluster_addresses) < 2:
            return service
        own = self._own_cluster(service) or service.cluster_addresses[0][0]
        other = {
            address
            for cluster, addresses in service.cluster_addresses
            if cluster != own
            for address in addresses
        }
        other.difference_update(dict(service.cluster_addresses)[own])
        seen = tuple(address for address in service.addresses if address not in other)
        return replace(service, addresses=seen)

    def endpoints(self, key: ServiceKey) -> tuple[Endpoint, ...]:
        self.facts.add((w.ENDPOINTS, key))
        return self._world.endpoints.get(key, ())

    def merge_policy(self, key: ServiceKey) -> MergePolicy:
        self.facts.add((w.POLICY, key))
        return self._world.policies.get(key, UNION)

    def gateways(self, network: str) -> tuple[NetworkGateway, ...]:
        self.facts.add((w.GATEWAYS, network))
        return self._world.gateways.get(network, ())

    def http_on_port(self, port: int, wanted: Callable[[Service], bool]) -> bool:
        self.facts.add((w.HTTP_PORT, port))
        services = self._world.http_ports.get(port, {}).values()
        return any(wanted(each) and self._visible(each) for each in services)

    def tcp_services_on_port(self, port: int) -> tuple[Service, ...]:
        self.facts.add((w.TCP_PORT, port))
        return self._sorted_visible(self._world.tcp_ports.get(port, {}).values())

    def tcp_services_without_address(self, port: int) -> tuple[Service, ...]:
        self.facts.add((w.OPEN_TCP_PORT, port))
        return self._sorted_visible(self._world.open_tcp_ports.get(port, {}).values())

    def _sorted_visible(self, services: Iterable[Service]) -> tuple[Service, ...]:
        visible = (self._localised(each) for each in services if self._visible(each))
        return tuple(sorted(visible, key=_age))

    def service_ports(self) -> tuple[int, ...]:
        self.facts.add((w.HTTP_PORTS, ""))
        return tuple(sorted(self._world.http_ports))

    def resolves_dynamically(self) -> bool:
        self.facts.add((w.DYNAMIC, ""))
        return bool(self._world.dynamic)

    def hosts_under(self, suffix: str) -> tuple[str, ...]:
        self.facts.add((w.UNDER, suffix))
        return tuple(
            host
            for host in sorted(self._world.under.get(suffix, ()))
            if self.service(host) is not None
        )

    def services_at(self, address: str) -> tuple[ServiceKey, ...]:
        self.facts.add((w.ADDRESS, address))
        keys = [key for _, key in self._world.by_address.get(address, ())]
        if len(keys) == 1 and len(self._world.services[keys[0]].cluster_addresses) < 2:
            return tuple(keys)
        own: list[ServiceKey] = []
        lent: list[ServiceKey] = []
        for key in keys:
            service = self._world.services[key]
            cluster = self._own_cluster(service)
            if address in self._localised(service).addresses:
                (own if cluster or not service.cluster_addresses else lent).append(key)
        return (*own, *lent)

    def configs(self, kind: str, host: str) -> tuple[Config, ...]:
        self._check_kind(kind)
        question = (kind, host)
        self.facts.add((w.CONFIG_HOST, question))
        found = self._world.by_config_host.get(question)
        if not found:  # which is so for nearly all of the wildcards that could match a host
            return ()
        return tuple(
            each for each in found if self._exported(each.namespace, self._export_of(each))
        )

    def config(self, kind: str, namespace: str, name: str) -> Config | None:
        self._check_kind(kind)
        key = ConfigKey(kind, namespace, name)
        self.facts.add((w.CONFIG, key))
        return self._world.configs.get(key)

    def _check_kind(self, kind: str) -> None:
        if kind not in self._spec.kinds:
            message = f"the {self._spec.kind.short} generator reads kind {kind!r} undeclared"
            raise UndeclaredReadError(message)

    def _export_of(self, config: Config) -> Iterable[str]:
        """The object's `exportTo`, else the mesh's default for its kind, else everyone."""
        named = self._world.kinds[config.kind].export_to(config)
        if named:
            return named
        field = _DEFAULT_EXPORTS.get(config.kind)
        default = getattr(self.mesh, field) if field else ()
        return cast(Iterable[str], default) or ("*",)

    # What is wrong

    def report(
        self,
        origin: Origin,
        subject: str,
        message: str,
        *,
        path: str = "",
        severity: Severity = Severity.WARNING,
    ) -> None:
        self.problems.append(Problem(origin, path, message, severity, subject))


_DEFAULT_EXPORTS: Final[Mapping[str, str]] = {
    "VirtualService": "default_virtual_service_export_to",
    "DestinationRule": "default_destination_rule_export_to",
}


def _age(service: Service) -> tuple[float, str, str]:
    return (service.created or float("inf"), service.namespace, service.host)
