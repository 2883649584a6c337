"""A view on plain collections that writes down what it was asked, as the real one does."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

from aggregator.generators.bind import is_address
from aggregator.generators.spec import NODE_LABEL, GeneratorSpec, Resource, Root, Unit
from aggregator.model.config import Config
from aggregator.model.errors import Origin, Problem, Severity
from aggregator.model.policy import UNION, MergePolicy
from aggregator.model.proxy import Proxy
from aggregator.model.registry import NetworkGateway
from aggregator.model.service import (
    Endpoint,
    Labels,
    Locality,
    Service,
    ServiceKey,
    labels_match,
)
from config.mesh import MeshConfig

Read = tuple[str, str]


class RecordingMesh:
    """Mesh settings whose every field that is read is written down by its name."""

    def __init__(self, mesh: MeshConfig, reads: set[Read]) -> None:
        self._mesh = mesh
        self._reads = reads

    def __getattr__(self, name: str) -> object:
        self._reads.add(("mesh", name))
        return cast(object, getattr(self._mesh, name))


class FakeView:
    """Implements `spec.View`.

    `reads` holds (question, what about) for all that was asked; `problems` what was reported.
    Inside `generate` it raises on attributes and kinds that the generator did not declare.
    """

    def __init__(
        self,
        services: Iterable[Service] = (),
        endpoints: Mapping[Service, Sequence[Endpoint]] | None = None,
        configs: Iterable[Config] = (),
        *,
        proxy: Proxy | None = None,
        mesh: MeshConfig | None = None,
        sidecar: Config | None = None,
        ipv4: bool = True,
        ipv6: bool = False,
        vhds: bool = False,
        domain_suffix: str = "cluster.local",
        policy: MergePolicy = UNION,
        gateways: Sequence[NetworkGateway] = (),
    ) -> None:
        self.reads: set[Read] = set()
        self.problems: list[Problem] = []
        self.limits: GeneratorSpec | None = None
        self._proxy = proxy or Proxy(id="test", namespace="shop", domain="shop.svc.cluster.local")
        self._services = tuple(services)
        self._endpoints = {each.key: tuple(of) for each, of in (endpoints or {}).items()}
        self._configs = tuple(sorted(configs, key=lambda each: each.age_order))
        self._mesh = mesh or MeshConfig()
        self._sidecar = sidecar
        self._ipv4 = ipv4
        self._ipv6 = ipv6
        self._vhds = vhds
        self._domain_suffix = domain_suffix
        self._policy = policy
        self._gateways = tuple(gateways)

    # What a proxy is.
    @property
    def kind(self) -> str:
        self._read_attribute("kind")
        return self._proxy.kind

    @property
    def namespace(self) -> str:
        self._read_attribute("namespace")
        return self._proxy.namespace

    @property
    def domain(self) -> str:
        self._read_attribute("domain")
        return self._proxy.domain

    @property
    def cluster_id(self) -> str:
        self._read_attribute("cluster_id")
        return self._proxy.cluster_id

    @property
    def network(self) -> str:
        self._read_attribute("network")
        return self._proxy.network

    @property
    def locality(self) -> Locality:
        self._read_attribute("locality")
        return self._proxy.locality

    @property
    def generator(self) -> str:
        self._read_attribute("generator")
        return self._proxy.generator

    @property
    def interception_mode(self) -> str:
        self._read_attribute("interception_mode")
        return self._proxy.interception_mode

    @property
    def ipv4(self) -> bool:
        self._read_attribute("ipv4")
        return self._ipv4

    @property
    def ipv6(self) -> bool:
        self._read_attribute("ipv6")
        return self._ipv6

    @property
    def vhds(self) -> bool:
        self._read_attribute("vhds")
        return self._vhds

    @property
    def extensions(self) -> frozenset[str]:
        self._read_attribute("extensions")
        return self._proxy.extensions

    # Questions whose answer is what is recorded.
    def in_namespace(self, *namespaces: str) -> bool:
        self.reads.add(("in_namespace", ",".join(namespaces)))
        return self._proxy.namespace in namespaces

    def matches(self, selector: Labels) -> bool:
        self.reads.add(("matches", ",".join(f"{name}={value}" for name, value in selector)))
        return labels_match(selector, self._proxy.labels)

    def label(self, name: str) -> str:
        self.reads.add(("label", name))
        node = {NODE_LABEL: self._proxy.node_name}
        return (node | dict(self._proxy.labels)).get(name, "")

    # What is in the world.
    @property
    def mesh(self) -> MeshConfig:
        return cast(MeshConfig, RecordingMesh(self._mesh, self.reads))

    @property
    def domain_suffix(self) -> str:
        self._read_attribute("domain_suffix")
        return self._domain_suffix

    def sidecar(self) -> Config | None:
        self.reads.add(("sidecar", ""))
        return self._sidecar

    def service(self, host: str) -> Service | None:
        self.reads.add(("service", host))
        return self._service(host)

    def service_in(self, namespace: str, host: str) -> Service | None:
        self.reads.add(("service_in", f"{namespace}/{host}"))
        key = ServiceKey(namespace, host)
        return next((each for each in self._services if each.key == key and self._sees(each)), None)

    def endpoints(self, key: ServiceKey) -> tuple[Endpoint, ...]:
        self.reads.add(("endpoints", str(key)))
        return self._endpoints.get(key, ())

    def merge_policy(self, key: ServiceKey) -> MergePolicy:
        self.reads.add(("merge_policy", str(key)))
        return self._policy

    def gateways(self, network: str) -> tuple[NetworkGateway, ...]:
        self.reads.add(("gateways", network))
        return tuple(each for each in self._gateways if each.network == network)

    def http_on_port(self, port: int, wanted: Callable[[Service], bool]) -> bool:
        self.reads.add(("http_on_port", str(port)))
        return any(
            each.number == port and each.protocol.is_http
            for service in self._visible()
            if wanted(service)
            for each in service.ports
        )

    def tcp_services_on_port(self, port: int) -> tuple[Service, ...]:
        self.reads.add(("tcp_services_on_port", str(port)))
        return self._tcp_services(port)

    def _tcp_services(self, port: int) -> tuple[Service, ...]:
        found = [
            service
            for service in self._visible()
            for each in service.ports
            if each.number == port and not each.protocol.is_http and each.protocol != "UDP"
        ]
        return tuple(sorted(found, key=_age_order))

    def tcp_services_without_address(self, port: int) -> tuple[Service, ...]:
        self.reads.add(("tcp_services_without_address", str(port)))
        return tuple(
            service
            for service in self._tcp_services(port)
            if not any(is_address(address) for address in service.addresses)
            or any("/" in address for address in service.addresses)
        )

    def service_ports(self) -> tuple[int, ...]:
        self.reads.add(("service_ports", ""))
        ports = {
            each.number
            for service in self._visible()
            for each in service.ports
            if each.protocol.is_http
        }
        return tuple(sorted(ports))

    def resolves_dynamically(self) -> bool:
        self.reads.add(("resolves_dynamically", ""))
        return any(each.resolution == "DYNAMIC_DNS" for each in self._services)

    def hosts_under(self, suffix: str) -> tuple[str, ...]:
        self.reads.add(("hosts_under", suffix))
        hosts = {each.host for each in self._visible() if each.host.endswith(f".{suffix}")}
        return tuple(sorted(hosts))

    def services_at(self, address: str) -> tuple[ServiceKey, ...]:
        self.reads.add(("services_at", address))
        found = [each for each in self._services if address in each.addresses]
        return tuple(each.key for each in sorted(found, key=_age_order))

    def configs(self, kind: str, host: str) -> tuple[Config, ...]:
        self._read_kind(kind)
        self.reads.add(("configs", f"{kind} {host}"))
        return tuple(
            each
            for each in self._configs
            if each.kind == kind and host in self._hosts(each) and self._exported(each)
        )

    def config(self, kind: str, namespace: str, name: str) -> Config | None:
        self._read_kind(kind)
        self.reads.add(("config", f"{kind} {namespace}/{name}"))
        for each in self._configs:
            if (each.kind, each.namespace, each.name) == (kind, namespace, name):
                return each
        return None

    # What is wrong with it.
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

    # How the questions are answered.
    def _read_attribute(self, name: str) -> None:
        if self.limits and name not in self.limits.attributes and name != "domain_suffix":
            message = f"the generator read {name!r}, which it does not declare"
            raise AssertionError(message)
        self.reads.add(("attribute", name))

    def _read_kind(self, kind: str) -> None:
        if self.limits and kind not in self.limits.kinds:
            message = f"the generator asked for {kind}, which it does not declare"
            raise AssertionError(message)

    def _hosts(self, config: Config) -> tuple[str, ...]:
        named = config.spec.hosts if hasattr(config.spec, "hosts") else (config.spec.host,)
        suffix = f"{config.namespace}.svc.{self._domain_suffix}"
        return tuple(
            host if "." in host or host.startswith("*") else f"{host}.{suffix}" for host in named
        )

    def _exported(self, config: Config) -> bool:
        mine = self._proxy.namespace
        export_to = config.spec.export_to or _default_export(config.kind, self._mesh)
        return any(
            to in ("*", mine) or (to == "." and config.namespace == mine) for to in export_to
        )

    def _sees(self, service: Service) -> bool:
        if not service.visible_in(self._proxy.namespace):
            return False
        if self._sidecar is None or not self._sidecar.spec.egress:
            return True
        return any(
            self._imports(pattern, service)
            for listener in self._sidecar.spec.egress
            for pattern in listener.hosts
        )

    def _imports(self, pattern: str, service: Service) -> bool:
        namespace, _, host = pattern.partition("/")
        if namespace not in ("*", service.namespace) and not (
            namespace == "." and service.namespace == self._proxy.namespace
        ):
            return False
        if host.startswith("*"):
            return service.host.endswith(host[1:])
        return service.host == host

    def _service(self, host: str) -> Service | None:
        found = [each for each in self._services if each.host == host and self._sees(each)]
        mine = self._proxy.namespace
        return min(found, key=lambda each: (each.namespace != mine, _age_order(each)), default=None)

    def _visible(self) -> list[Service]:
        hosts = dict.fromkeys(each.host for each in self._services)
        return [each for host in hosts if (each := self._service(host)) is not None]


def _default_export(kind: str, mesh: MeshConfig) -> tuple[str, ...]:
    if kind == "DestinationRule":
        return mesh.default_destination_rule_export_to
    return mesh.default_virtual_service_export_to


def _age_order(service: Service) -> tuple[float, str, str]:
    return (service.created or float("inf"), service.namespace, service.host)


def generate(
    generator: GeneratorSpec, view: FakeView, root: Root, key: str = ""
) -> dict[str, Resource]:
    """Build one unit, holding the generator to what it declares; resources by name."""
    assert root in generator.roots
    view.limits = generator
    try:
        built = list(generator.build(view, Unit(root, key)))
    finally:
        view.limits = None
    names = [each.name for each in built]
    assert len(set(names)) == len(names), "a unit makes each name once"
    return {each.name: each for each in built}
