"""Which workloads a selector picks, and which services a workload concerns, within a namespace.

Both questions cost what they touch: workloads are indexed by the label names that selectors use.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable

from msgspec import Struct

from aggregator.model.service import (
    NOWHERE,
    Labels,
    Locality,
    ServiceKey,
    Workload,
    labels_match,
)

WorkloadId = tuple[str, bool, str, str]
"""Registry, whether a rule (WorkloadEntry) gave it, scope, and the adapter's own key."""

_Place = tuple[str, tuple[str, str]]


class Candidate(Struct, frozen=True):
    """A workload and where it comes from."""

    id: WorkloadId
    workload: Workload

    @property
    def registry(self) -> str:
        """Who tells of it."""
        return self.id[0]

    @property
    def rule(self) -> bool:
        """Whether it is a WorkloadEntry."""
        return self.id[1]


class WorkloadIndex:
    """Workloads and selectors by namespace and label."""

    def __init__(self) -> None:
        self._workloads: dict[WorkloadId, Candidate] = {}
        self._by_namespace: defaultdict[str, dict[WorkloadId, Candidate]] = defaultdict(dict)
        self._by_label: defaultdict[_Place, dict[WorkloadId, Candidate]] = defaultdict(dict)
        self._by_address: defaultdict[str, dict[WorkloadId, Candidate]] = defaultdict(dict)
        self._names: defaultdict[str, set[str]] = defaultdict(set)
        self._selectors: defaultdict[_Place, Counter[tuple[ServiceKey, Labels]]]
        self._selectors = defaultdict(Counter)

    def get(self, id_: WorkloadId) -> Workload | None:
        """What was put."""
        found = self._workloads.get(id_)
        return found.workload if found is not None else None

    def put(self, id_: WorkloadId, workload: Workload | None) -> set[ServiceKey]:
        """Install or remove a workload; returns the services whose selectors pick it now or did."""
        old = self._workloads.pop(id_, None)
        touched: set[ServiceKey] = set()
        if old is not None:
            touched |= self._chosen_by(old.workload)
            del self._by_namespace[old.workload.namespace][id_]
            address = old.workload.endpoint.address
            del self._by_address[address][id_]
            if not self._by_address[address]:
                del self._by_address[address]
            for place in self._places(old.workload):
                del self._by_label[place][id_]
                if not self._by_label[place]:
                    del self._by_label[place]
        if workload is not None:
            new = Candidate(id_, workload)
            touched |= self._chosen_by(workload)
            self._workloads[id_] = new
            self._by_namespace[workload.namespace][id_] = new
            self._by_address[workload.endpoint.address][id_] = new
            for place in self._places(workload):
                self._by_label[place][id_] = new
        return touched

    def select(self, key: ServiceKey, selector: Labels, sign: int) -> None:
        """Count a service's selector in (1) or out (-1). An empty one picks nothing."""
        if not selector:
            return
        for name in {name for name, _ in selector} - self._names[key.namespace]:
            self._index_name(key.namespace, name)
        place = (key.namespace, selector[0])
        users = self._selectors[place]
        users[key, selector] += sign
        if not users[key, selector]:
            del users[key, selector]
        if not users:
            del self._selectors[place]

    def pick(self, namespace: str, selector: Labels) -> list[Candidate]:
        """The namespace's workloads that have all these labels, in a stable order."""
        if not selector:
            return []
        found = [self._by_label.get((namespace, pair), {}) for pair in selector]
        picked = [
            each
            for each in min(found, key=len).values()
            if labels_match(selector, each.workload.endpoint.labels)
        ]
        return sorted(picked, key=lambda each: each.id)

    def at(self, address: str) -> list[Candidate]:
        """The workloads of any namespace with this address, in a stable order: those that
        registries tell of themselves before those of rules.
        """
        found = self._by_address.get(address, {})
        return sorted(found.values(), key=lambda each: (each.rule, each.id))

    def place_of(self, namespace: str, cluster_id: str, addresses: Iterable[str]) -> Locality:
        """Where the workload of this namespace and cluster is that has one of the addresses;
        `NOWHERE` if nobody knows. Whoever tells no cluster may be in any. A loopback address is one
        of every machine, and tells nothing.
        """
        for address in addresses:
            for each in () if address.startswith("127.") or address == "::1" else self.at(address):
                endpoint = each.workload.endpoint
                if (
                    endpoint.locality != NOWHERE
                    and each.workload.namespace == namespace
                    and (not cluster_id or endpoint.cluster_id in ("", cluster_id))
                ):
                    return endpoint.locality
        return NOWHERE

    def _index_name(self, namespace: str, name: str) -> None:
        self._names[namespace].add(name)
        for candidate in self._by_namespace[namespace].values():
            for pair in candidate.workload.endpoint.labels:
                if pair[0] == name:
                    self._by_label[namespace, pair][candidate.id] = candidate

    def _places(self, workload: Workload) -> Iterable[_Place]:
        names = self._names.get(workload.namespace, ())
        return [(workload.namespace, pair) for pair in workload.endpoint.labels if pair[0] in names]

    def _chosen_by(self, workload: Workload) -> set[ServiceKey]:
        labels = workload.endpoint.labels
        return {
            key
            for pair in labels
            for key, selector in self._selectors.get((workload.namespace, pair), ())
            if labels_match(selector, labels)
        }
