"""Any history of what registries say, against a mesh that was told only its end."""

from collections.abc import Sequence

import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from structlog.testing import LogCapture

from aggregator.model.change import Change, ConfigChanged, EndpointsChanged, ServiceChanged
from aggregator.model.config import Config, ConfigKey
from aggregator.model.registry import (
    Content,
    Item,
    Namespace,
    RegistrySink,
    ServiceItem,
    ShardKey,
)
from aggregator.model.service import (
    Endpoint,
    Resolution,
    Service,
    ServiceKey,
    Workload,
    labels_of,
)
from aggregator.registry.aggregate import Aggregate
from aggregator.registry.guard import GuardSettings, LossGuard
from config.kinds.destination_rule import DestinationRule
from config.kinds.service_entry import ServiceEntry, ServicePort
from config.kinds.workload_entry import WorkloadEntry
from config.mesh import MeshConfig
from config.selector import LabelSelector, WorkloadSelector
from tests.support.builders import config, endpoint, port, service
from tests.support.clock import FakeClock

REGISTRIES = ("vms", "east", "west")
HOSTS = ("reviews.shop.mesh", "ratings.shop.mesh")
APPS = ("reviews", "ratings")
Word = tuple[ShardKey, str, Item]


class Observer:
    """Knows the mesh only by the changes that are told, as the push engine does."""

    def __init__(self) -> None:
        self.services: dict[ServiceKey, Service] = {}
        self.endpoints: dict[ServiceKey, tuple[Endpoint, ...]] = {}
        self.configs: dict[ConfigKey, Config] = {}
        self.idle: list[Change] = []
        self.aggregate = Aggregate(
            self._take,
            clock=FakeClock(),
            precedence=REGISTRIES,
            mesh=MeshConfig(discovery_selectors=(LabelSelector(match_labels={"mesh": "on"}),)),
            guard=LossGuard(GuardSettings(share=1.0)),
            log=structlog.wrap_logger(None, processors=[LogCapture()]),
        )

    def _take(self, changes: Sequence[Change]) -> None:
        for change in changes:
            before = (dict(self.services), dict(self.endpoints), dict(self.configs))
            match change:
                case ServiceChanged(key):
                    _set(self.services, key, self.aggregate.service(key))
                    _set(self.endpoints, key, self.aggregate.endpoints(key) or None)
                case EndpointsChanged(key):
                    _set(self.endpoints, key, self.aggregate.endpoints(key) or None)
                case ConfigChanged(key):
                    _set(self.configs, key, self.aggregate.config(key))
                case _:
                    continue  # nothing is read of places here
            if before == (self.services, self.endpoints, self.configs):
                self.idle.append(change)

    def seen(self) -> object:
        """What the changes amount to."""
        return (self.services, self.endpoints, self.configs)


def _set(index: dict[object, object] | dict, key: object, value: object) -> None:  # type: ignore[type-arg]
    if value is None:
        index.pop(key, None)
    else:
        index[key] = value


def state(aggregate: Aggregate) -> object:
    """The merged state as it can be read."""
    keys = aggregate.service_keys()
    return (
        {key: aggregate.service(key) for key in keys},
        {key: aggregate.endpoints(key) for key in keys if aggregate.endpoints(key)},
        {key: aggregate.config(key) for key in aggregate.config_keys()},
    )


addresses = st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"]), max_size=3)
ports = st.sampled_from([(port(80),), (port(80), port(90, "TCP")), (port(80, "TCP", "db"),)])
apps = st.sampled_from(APPS)
created = st.sampled_from([0.0, 10.0, 20.0])


@st.composite
def service_items(draw: st.DrawFn) -> tuple[Content, Item]:
    """A service with or without a definition, with or without a selector."""
    host = draw(st.sampled_from(HOSTS))
    definition = None
    if draw(st.booleans()):
        definition = replace(
            service(host, *draw(ports), namespace="shop", created=draw(created)),
            selector=labels_of({"app": draw(apps)}) if draw(st.booleans()) else (),
        )
    endpoints = tuple(endpoint(address) for address in draw(addresses))
    return Content.SERVICES, ServiceItem("shop", host, definition, endpoints)


@st.composite
def workloads(draw: st.DrawFn) -> tuple[Content, Item]:
    """A pod."""
    labels = {"app": draw(apps), "pod": draw(st.sampled_from("ab"))}
    address = draw(st.sampled_from(["10.1.0.1", "10.1.0.2"]))
    return Content.WORKLOADS, Workload("pod", "shop", endpoint(address, labels=labels))


@st.composite
def entries(draw: st.DrawFn) -> tuple[Content, Item]:
    """A ServiceEntry."""
    selecting = draw(st.booleans())
    spec = ServiceEntry(
        hosts=tuple(draw(st.lists(st.sampled_from(HOSTS), min_size=1, unique=True))),
        ports=(ServicePort(number=80, name="http", protocol="HTTP"),),
        resolution=Resolution.STATIC,
        endpoints=()
        if selecting
        else tuple(WorkloadEntry(address=address) for address in draw(addresses)),
        workload_selector=WorkloadSelector(labels={"app": draw(apps)}) if selecting else None,
    )
    name = draw(st.sampled_from(["one", "two"]))
    return Content.RULES, config("ServiceEntry", spec, name=name, created=draw(created))


@st.composite
def machines(draw: st.DrawFn) -> tuple[Content, Item]:
    """A WorkloadEntry."""
    spec = WorkloadEntry(
        address=draw(st.sampled_from(["10.2.0.1", "10.2.0.2"])), labels={"app": draw(apps)}
    )
    return Content.RULES, config("WorkloadEntry", spec, name=draw(st.sampled_from("ab")))


@st.composite
def rules(draw: st.DrawFn) -> tuple[Content, Item]:
    """A DestinationRule."""
    spec = DestinationRule(host=draw(st.sampled_from(HOSTS)))
    return Content.RULES, config("DestinationRule", spec, created=draw(created))


@st.composite
def namespaces(draw: st.DrawFn) -> tuple[Content, Item]:
    """The namespace of everything, discovered or not, or another one."""
    labels = labels_of({"mesh": draw(st.sampled_from(["on", "off"]))})
    return Content.PLACES, Namespace(draw(st.sampled_from(["shop", "bank"])), labels)


@st.composite
def words(draw: st.DrawFn) -> Word:
    """What one registry says of one thing."""
    kinds = (service_items(), workloads(), entries(), machines(), rules(), namespaces())
    content, item = draw(st.one_of(*kinds))
    shard = ShardKey(draw(st.sampled_from(REGISTRIES)), draw(st.sampled_from(["a", "b"])), content)
    return shard, draw(st.sampled_from(["x", "y"])), item


def sinks(observer: Observer) -> dict[str, RegistrySink]:
    """A sink for each registry."""
    return {name: observer.aggregate.sink(name) for name in REGISTRIES}


def tell(observer: Observer, told: dict[tuple[ShardKey, str], Item]) -> None:
    """Say everything, one thing after the other."""
    feeds = sinks(observer)
    for (shard, key), item in told.items():
        feeds[shard.registry].update(shard, key, item)


@settings(max_examples=100, deadline=None)
@given(history=st.lists(words(), max_size=14), data=st.data())
def test_only_the_end_of_a_history_counts(history: list[Word], data: st.DataObject) -> None:
    """Replicas that saw different pasts send the same bytes, and changes tell all that changes."""
    seasoned, fresh = Observer(), Observer()
    feeds = sinks(seasoned)
    told: dict[tuple[ShardKey, str], Item] = {}
    for shard, key, item in history:
        match data.draw(st.sampled_from(["update", "delete", "replace", "drop"])):
            case "update":
                feeds[shard.registry].update(shard, key, item)
                told[shard, key] = item
            case "delete":
                feeds[shard.registry].update(shard, key, None)
                told.pop((shard, key), None)
            case "replace":
                feeds[shard.registry].replace(shard, {key: item})
                told = {place: old for place, old in told.items() if place[0] != shard}
                told[shard, key] = item
            case _:
                feeds[shard.registry].drop(shard)
                told = {place: old for place, old in told.items() if place[0] != shard}
        assert seasoned.seen() == state(seasoned.aggregate)
    order = data.draw(st.permutations(list(told.items())))
    tell(fresh, dict(order))

    assert state(seasoned.aggregate) == state(fresh.aggregate)
    assert set(seasoned.aggregate.unclaimed()) == set(fresh.aggregate.unclaimed())
    assert seasoned.aggregate.conflicts() == fresh.aggregate.conflicts()
    assert seasoned.idle == []


@settings(max_examples=100, deadline=None)
@given(before=st.lists(words(), max_size=8), after=st.lists(words(), max_size=8))
def test_a_swap_ends_where_a_start_would(before: list[Word], after: list[Word]) -> None:
    """A replaced registry leaves nothing behind, and the swap tells all that changes."""
    swapped, fresh = Observer(), Observer()
    others = {(shard, key): item for shard, key, item in before if shard.registry != "east"}
    old = {(shard, key): item for shard, key, item in before if shard.registry == "east"}
    new = {(replace(shard, registry="east"), key): item for shard, key, item in after}
    tell(swapped, others | old)
    sink = swapped.aggregate.swap("east")
    for (shard, key), item in new.items():
        sink.update(shard, key, item)
    sink.synced()
    tell(fresh, others | new)

    assert state(swapped.aggregate) == state(fresh.aggregate)
    assert swapped.seen() == state(swapped.aggregate)


@settings(deadline=None)
@given(history=st.lists(words(), max_size=10), order=st.permutations(REGISTRIES))
def test_a_new_precedence_is_as_good_as_an_old_one(history: list[Word], order: list[str]) -> None:
    """Reordering registries leads to what a start with that order would."""
    told = {(shard, key): item for shard, key, item in history}
    first, second = Observer(), Observer()
    tell(first, told)
    first.aggregate.set_precedence(order)
    second.aggregate.set_precedence(order)
    tell(second, told)

    assert state(first.aggregate) == state(second.aggregate)
    assert first.seen() == state(first.aggregate)
