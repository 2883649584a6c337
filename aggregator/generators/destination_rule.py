"""Which DestinationRule holds for a service as a proxy sees it, and what it says of a subset.

Clusters, endpoints and the hash policies of routes all come from the answers here. Knows no
Envoy message.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Struct

from aggregator.generators.spec import View
from aggregator.model.config import Config
from aggregator.model.service import Service, labels_of
from config.host import host_patterns
from config.kinds.destination_rule import DestinationRule, Subset
from config.traffic_policy import PortTrafficPolicy, TrafficPolicy

KIND: Final = "DestinationRule"


class ServiceRule(Struct, frozen=True):
    """All that applies to one service: several objects for the same host are one rule.

    `configs` are the objects. `policy_config` is the one that `traffic_policy` comes from, and
    `subset_configs` are those that the subsets of the same index come from.
    """

    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    configs: tuple[Config, ...] = ()
    policy_config: Config | None = None
    subset_configs: tuple[Config, ...] = ()

    @property
    def origins(self) -> tuple[str, ...]:
        """The objects, as messages name them."""
        return tuple(str(config) for config in self.configs)

    def subset(self, name: str) -> Subset | None:
        """The subset of that name; None also for the empty name, the whole service."""
        return next((each for each in self.subsets if each.name == name), None) if name else None

    def policy(self, port: int, subset: str = "") -> TrafficPolicy | None:
        """What holds for a port: a subset's policy over the rule's, a port's settings over both.

        As in Istio, settings of a port replace those of the same level as a whole.
        """
        base = _policy_of_port(self.traffic_policy, port)
        found = self.subset(subset)
        if found is None or found.traffic_policy is None:
            return base
        over = _policy_of_port(found.traffic_policy, port)
        if base is None or over is None:
            return over or base
        return _merge(base, over, whole=over is not found.traffic_policy)

    def source(self, subset: str = "") -> Config | None:
        """The object to name when something is wrong with a cluster."""
        for each, config in zip(self.subsets, self.subset_configs, strict=True):
            if subset and each.name == subset:
                return config
        return self.policy_config or (self.configs[0] if self.configs else None)


NO_RULE: Final = ServiceRule()


def resolve_destination_rule(view: View, service: Service) -> ServiceRule:
    """The rule of the proxy's namespace, else of the service's, else of the root namespace.

    Of the rules there, those for the most specific host count. Of subsets of the same name the
    first stands, the others are reported.
    """
    found = _find(view, service)
    return _merge_rules(view, found) if found else NO_RULE


def _find(view: View, service: Service) -> tuple[Config, ...]:
    by_namespace: dict[str, tuple[Config, ...]] = {}
    for pattern in host_patterns(service.host):
        here: dict[str, list[Config]] = {}
        for config in view.configs(KIND, pattern):
            if config.namespace not in by_namespace and _selects(view, config):
                here.setdefault(config.namespace, []).append(config)
        by_namespace.update({namespace: tuple(of) for namespace, of in here.items()})
    if not by_namespace:
        return ()
    chosen = _choose_namespace(view, service, by_namespace)
    return by_namespace.get(chosen, ())


def _selects(view: View, config: Config) -> bool:
    """Whether its workload selector takes these proxies, which must be in its own namespace."""
    rule: DestinationRule = config.spec
    if rule.workload_selector is None:
        return True
    return view.in_namespace(config.namespace) and view.matches(
        labels_of(rule.workload_selector.match_labels)
    )


def _choose_namespace(view: View, service: Service, found: dict[str, tuple[Config, ...]]) -> str:
    root = view.mesh.root_namespace
    # Rules that the root namespace keeps to itself are for the proxies in it; its other rules are
    # defaults for the mesh, so that the service's own come before them there too.
    if root in found and all(_is_private(config) for config in found[root]):
        return root
    inherited = [each for each in (service.namespace, root) if each in found]
    for namespace in sorted(found):
        if namespace != root and namespace not in inherited[:1] and view.in_namespace(namespace):
            return namespace
    return inherited[0] if inherited else ""


def _is_private(config: Config) -> bool:
    rule: DestinationRule = config.spec
    if rule.workload_selector is not None:
        return True
    return bool(rule.export_to) and set(rule.export_to) <= {".", config.namespace}


def _merge_rules(view: View, configs: Iterable[Config]) -> ServiceRule:
    """Those that select these proxies come before those for all, the oldest first."""
    ordered = sorted(
        configs, key=lambda config: (config.spec.workload_selector is None, config.age_order)
    )
    subsets: dict[str, tuple[Subset, Config]] = {}
    for config in ordered:
        rule: DestinationRule = config.spec
        for index, subset in enumerate(rule.subsets):
            if subset.name not in subsets:
                subsets[subset.name] = (subset, config)
                continue
            view.report(
                config.origin,
                str(config.key),
                f"subset {subset.name!r} of {rule.host} is already in {subsets[subset.name][1]}",
                path=f"spec.subsets[{index}]",
            )
    with_policy = next((each for each in ordered if each.spec.traffic_policy is not None), None)
    _report_unused(view, ordered, with_policy)
    return ServiceRule(
        traffic_policy=with_policy.spec.traffic_policy if with_policy else None,
        subsets=tuple(subset for subset, _ in subsets.values()),
        configs=tuple(ordered),
        policy_config=with_policy,
        subset_configs=tuple(config for _, config in subsets.values()),
    )


def _report_unused(view: View, ordered: Iterable[Config], winner: Config | None) -> None:
    """Tell policies that lose to another; to one for selected workloads they are meant to lose."""
    if winner is None:
        return
    selecting = winner.spec.workload_selector is not None
    for config in ordered:
        rule: DestinationRule = config.spec
        meant = selecting and rule.workload_selector is None
        if config is winner or rule.traffic_policy is None or meant:
            continue
        view.report(
            config.origin,
            str(config.key),
            f"has no effect: that of {rule.host} is in {winner} already",
            path="spec.trafficPolicy",
        )


def _policy_of_port(policy: TrafficPolicy | None, port: int) -> TrafficPolicy | None:
    if policy is None:
        return None
    for each in policy.port_level_settings:
        if each.port is not None and each.port.number == port:
            return _of_port(each)
    return policy


def _of_port(settings: PortTrafficPolicy) -> TrafficPolicy:
    return TrafficPolicy(
        load_balancer=settings.load_balancer,
        connection_pool=settings.connection_pool,
        outlier_detection=settings.outlier_detection,
        tls=settings.tls,
    )


def _merge(base: TrafficPolicy, over: TrafficPolicy, *, whole: bool) -> TrafficPolicy:
    """*whole* says that *over* is of one port, whose omissions mean the defaults."""
    return msgspec.structs.replace(
        base,
        load_balancer=over.load_balancer if whole else over.load_balancer or base.load_balancer,
        connection_pool=over.connection_pool
        if whole
        else over.connection_pool or base.connection_pool,
        outlier_detection=over.outlier_detection
        if whole
        else over.outlier_detection or base.outlier_detection,
        tls=over.tls if whole else over.tls or base.tls,
        tunnel=over.tunnel or base.tunnel,
        proxy_protocol=over.proxy_protocol or base.proxy_protocol,
        retry_budget=over.retry_budget or base.retry_budget,
        port_level_settings=(),
    )
