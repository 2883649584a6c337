"""Views come, move and go with their streams, and one failing generator stops nothing."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import msgspec
import pytest
import structlog
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from aggregator.generators.spec import CLUSTER, GeneratorSpec, GeneratorTable, Resource, Unit, View
from aggregator.model.change import Change
from aggregator.model.proxy import Proxy
from aggregator.model.service import Locality, ServiceKey, labels_of
from aggregator.push.engine import IDLE_VIEW_SECONDS, Engine, PushSettings
from aggregator.push.metrics import Metrics
from aggregator.push.state import Cause, ViewDiff, ViewState
from config.kind_table import kinds
from config.kinds.sidecar import Sidecar
from config.mesh import MeshConfig
from tests.support.builders import endpoint, rule, service
from tests.support.mesh import MemorySource, generator_table
from tests.support.poll import eventually

HOST: Final = "reviews.shop.svc.cluster.local"
NAME: Final = f"outbound|80||{HOST}"
KEY: Final = ServiceKey("shop", HOST)


class Time:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Silent:
    """A stream that is never written to."""

    def __init__(self) -> None:
        self.diffs: list[ViewDiff] = []
        self.causes: list[Cause] = []
        self.moves: list[ViewState] = []

    def view_changed(self, diff: ViewDiff, cause: Cause) -> None:
        self.diffs.append(diff)
        self.causes.append(cause)

    def view_moved(self, view: ViewState) -> None:
        self.moves.append(view)


def proxy(namespace: str = "shop", **labels: str) -> Proxy:
    """A client."""
    return Proxy(id="p", namespace=namespace, labels=labels_of(labels))


def engine_of(
    source: MemorySource,
    clock: Callable[[], float],
    generators: GeneratorTable | None = None,
    on_first_view: Callable[[], None] = lambda: None,
) -> Engine:
    """An engine over what *source* has at first."""
    engine = Engine(
        source,
        generators or generator_table(),
        kinds(),
        mesh=MeshConfig(),
        domain="cluster.local",
        settings=PushSettings(),
        metrics=Metrics(CollectorRegistry()),
        clock=clock,
        on_first_view=on_first_view,
    )
    for key in source.service_keys():
        engine.submit([source.put_service(source.services[key], *source.all_endpoints[key])])
    return engine


def reviews(*addresses: str) -> MemorySource:
    """A source with one service."""
    source = MemorySource()
    source.put_service(service(HOST), *(endpoint(each) for each in addresses or ("10.0.0.1",)))
    return source


def cluster(view: ViewState) -> Resource | None:
    """The service's cluster as a view has it."""
    return view.resource(CLUSTER.type_url, NAME)


def failing(when: Callable[[View, Unit], bool]) -> GeneratorTable:
    """The real generators, but that of clusters raises *when* it says so."""

    def watched(spec: GeneratorSpec) -> GeneratorSpec:
        def build(view: View, unit: Unit) -> Iterable[Resource]:
            made = list(spec.build(view, unit))
            if when(view, unit):
                raise KeyError(unit.key)
            return made

        return msgspec.structs.replace(spec, build=build)

    table = dict(generator_table())
    table[CLUSTER.type_url] = tuple(watched(spec) for spec in table[CLUSTER.type_url])
    return table


async def test_failing_generator_keeps_the_last_good_and_stops_nothing() -> None:
    """A mistake of ours in one resource must not stop the pushing of all the others."""
    broken: set[str] = set()
    source = reviews()
    engine = engine_of(source, Time(), failing(lambda _view, unit: unit.key in broken))
    stream = Silent()
    view = await engine.attach(stream, proxy(), vhds=True)
    good = cluster(view)
    assert good is not None
    broken.add(HOST)
    other = "other.shop.svc.cluster.local"
    with structlog.testing.capture_logs() as logs:
        for created in (1.0, 2.0):
            changed = service(HOST, created=created, subject_alt_names=(str(created),))
            engine.submit(
                [
                    source.put_service(changed, endpoint("10.0.0.9")),
                    source.put_service(service(other, created=created)),
                ]
            )
            await engine.push()
    assert cluster(view) is good
    assert view.resource(CLUSTER.type_url, f"outbound|80||{other}") is not None
    assert engine.units.failures == 2
    traced = [each for each in logs if each["event"] == "generator_failed"]
    assert len(traced) == 1, "one traceback is enough"
    assert any("KeyError" in problem.message for problem in engine.problems())


async def test_mended_generator_is_used_again() -> None:
    """The next change of what the unit read tries again, and takes the problem away."""
    broken = {HOST}
    source = reviews()
    engine = engine_of(source, Time(), failing(lambda _view, unit: unit.key in broken))
    with structlog.testing.capture_logs():
        view = await engine.attach(Silent(), proxy(), vhds=True)
    assert cluster(view) is None
    broken.clear()
    engine.submit([source.put_service(service(HOST, created=5.0), endpoint())])
    await engine.push()
    assert cluster(view) is not None
    assert engine.problems() == []


async def test_what_one_view_had_is_not_handed_to_another() -> None:
    """A failed build says nothing of the views that had something else before."""
    broken: set[str] = set()
    source = reviews()
    source.put_service(service(HOST, export_to=["shop"]), endpoint())
    engine = engine_of(source, Time(), failing(lambda _view, unit: unit.key in broken))
    inside = await engine.attach(Silent(), proxy("shop"), vhds=True)
    outside = await engine.attach(Silent(), proxy("bank"), vhds=True)
    assert cluster(inside) is not None
    assert cluster(outside) is None
    broken.add(HOST)
    with structlog.testing.capture_logs():
        engine.submit([source.put_service(service(HOST, created=7.0))])
        await engine.push()
    assert cluster(inside) is not None
    assert cluster(outside) is None


async def test_views_without_clients_go_even_while_changes_never_cease() -> None:
    """Classes of proxies that left must not be kept up to date for ever."""
    clock = Time()
    source = reviews()
    engine = engine_of(source, clock)
    stream = Silent()
    await engine.attach(stream, proxy(), vhds=True)
    runner = asyncio.create_task(engine.run())
    await asyncio.sleep(0)
    engine.detach(stream)
    clock.now += IDLE_VIEW_SECONDS
    assert engine.views
    engine.submit([source.put_endpoints(KEY, endpoint("10.0.0.7"))])
    await eventually(lambda: not engine.views)
    assert len(engine.units) == 0
    runner.cancel()
    await asyncio.wait([runner])


async def test_view_is_found_again_by_who_comes_back_in_time() -> None:
    """A restart of all clients must not build all views anew."""
    clock = Time()
    engine = engine_of(reviews(), clock)
    stream = Silent()
    view = await engine.attach(stream, proxy(), vhds=True)
    engine.detach(stream)
    clock.now += IDLE_VIEW_SECONDS - 1
    engine.drop_idle_views()
    assert await engine.attach(Silent(), proxy(), vhds=True) is view


async def test_a_proxy_is_where_its_registry_says() -> None:
    """A sidecar does not know its zone, and a registry can look at its node, if need be later."""
    source = reviews()
    engine = engine_of(source, Time())
    east, west = Locality("eu", "eu-1"), Locality("eu", "eu-2")
    told = replace(proxy(), addresses=("10.0.0.1", "fd00::1"), locality=Locality("us"))
    stream = Silent()
    view = await engine.attach(stream, told, vhds=True)
    assert view.key.locality == Locality("us"), "its own word, while nobody knows better"

    engine.submit([source.put_place("10.9.9.9", west)])
    assert not engine.waiting_changes, "where others are matters only to them"
    engine.submit([source.put_place("fd00::1", east)])
    await engine.push()
    (moved,) = stream.moves
    assert moved.key.locality == east
    again = await engine.attach(Silent(), told, vhds=True)
    assert again is moved

    engine.detach(stream)
    engine.submit([source.put_place("fd00::1", west)])
    assert engine.waiting_changes, "the other one is still there"


async def test_a_place_that_is_told_while_a_view_is_built_is_not_missed() -> None:
    """The stream belongs to no view yet, so that nothing else would move it."""
    source = reviews()
    told = replace(proxy(), addresses=("10.0.0.1",))
    late: list[Change] = []

    def tell(_view: View, _unit: Unit) -> bool:
        if not late:
            late.append(source.put_place("10.0.0.1", Locality("eu", "eu-1")))
            engine.submit(late)
        return False

    engine = engine_of(source, Time(), failing(tell))
    stream = Silent()
    await engine.attach(stream, told, vhds=True)
    await engine.push()
    (moved,) = stream.moves
    assert moved.key.locality == Locality("eu", "eu-1")


async def test_view_whose_client_left_while_it_moved_is_dropped() -> None:
    """A view that was built for a stream which is gone has nobody to keep it."""
    clock = Time()
    source = reviews()
    streams: list[Silent] = []

    def leave(view: View, _unit: Unit) -> bool:
        if view.sidecar() is not None:
            for stream in streams:
                engine.detach(stream)
        return False

    engine = engine_of(source, clock, failing(leave))
    streams.append(Silent())
    await engine.attach(streams[0], proxy(), vhds=True)
    config = rule(Sidecar, {"egress": [{"hosts": ["./*"]}]}, name="default")
    engine.submit([source.put_config(config)])
    await engine.push()
    clock.now += IDLE_VIEW_SECONDS
    engine.drop_idle_views()
    assert engine.views == {}
    assert len(engine.units) == 0


async def test_client_that_leaves_during_its_first_build_leaves_nothing_behind() -> None:
    """Units of a view that never came to be must not stay in memory."""
    clock = Time()
    source = MemorySource()
    for number in range(50):
        source.put_service(service(f"s{number}.shop.svc.cluster.local"), endpoint())

    def slow(_view: View, _unit: Unit) -> bool:
        clock.now += 1
        return False

    engine = engine_of(source, clock, failing(slow))
    attaching = asyncio.create_task(engine.attach(Silent(), proxy(), vhds=True))
    for _ in range(5):
        await asyncio.sleep(0)
    assert 0 < len(engine.units) < 50
    attaching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attaching
    assert len(engine.units) == 0
    assert engine.views == {}


async def test_build_lets_others_run() -> None:
    """Building the view of a large mesh must not keep the streams from being served."""
    clock = Time()
    source = MemorySource()
    for number in range(20):
        source.put_service(service(f"s{number}.shop.svc.cluster.local"), endpoint())

    def slow(_view: View, _unit: Unit) -> bool:
        clock.now += 0.02
        return False

    engine = engine_of(source, clock, failing(slow))
    attaching = asyncio.create_task(engine.attach(Silent(), proxy(), vhds=True))
    turns = 0
    while not attaching.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 15


async def test_problems_are_known_as_soon_as_a_client_sees_them() -> None:
    """What is wrong shows when the first proxy that it concerns connects, not with a later push."""
    engine = engine_of(reviews(), Time(), failing(lambda _view, unit: unit.key == HOST))
    with structlog.testing.capture_logs() as logs:
        await engine.attach(Silent(), proxy(), vhds=True)
    assert [each["event"] for each in logs if each["event"] == "problem"] == ["problem"]


async def test_lone_change_of_a_running_engine_is_pushed() -> None:
    """What is submitted reaches the streams without anybody asking."""
    source = reviews()
    engine = engine_of(source, asyncio.get_running_loop().time)
    stream = Silent()
    runner = asyncio.create_task(engine.run())
    await engine.attach(stream, proxy(), vhds=True)
    engine.submit([source.put_endpoints(KEY, endpoint("10.0.0.7"))])
    await eventually(lambda: stream.diffs)
    assert [sorted(diff.values()) for diff in stream.diffs] == [[frozenset({NAME})]]
    runner.cancel()
    await asyncio.wait([runner])


async def test_first_view_is_told_of_once() -> None:
    """What is done when all is in memory must not be done again: streams are open by then."""
    told: list[bool] = []
    engine = engine_of(reviews(), Time(), on_first_view=lambda: told.append(bool(engine.units)))
    assert told == []

    for namespace in ("shop", "bank"):
        await engine.attach(Silent(), proxy(namespace), vhds=True)

    assert told == [True]


async def test_push_says_since_when_and_by_whose_word_it_was_due() -> None:
    """How long a change takes is counted from when it came in, and by the registry that told it."""
    source, time = reviews(), Time()
    engine, stream = engine_of(source, time), Silent()
    await engine.attach(stream, proxy(), vhds=True)
    await engine.push()
    began = time.now
    engine.submit([source.put_endpoints(KEY, endpoint("10.0.0.7"))], "east")
    time.now += 3
    engine.submit([source.put_endpoints(KEY, endpoint("10.0.0.8"))], "west")

    await engine.push()

    (cause,) = stream.causes
    assert cause.at == began
    assert cause.registries == {"east", "west"}
