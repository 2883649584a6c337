"""The garbage collector leaves alone what lasts, and looks for the rest when nobody waits."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from aggregator import collector
from aggregator.collector import Collector
from tests.support.clock import FakeClock


class Node:
    """Something that holds itself, so that counting never frees it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    usual = gc.get_threshold()
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    gc.set_threshold(*usual)
    gc.unfreeze()


def grow_old() -> None:
    """Until the old generation is due."""
    for _ in range(collector.DUE):
        gc.collect(1)


def old_garbage() -> "weakref.ref[Node]":
    """What was in use for long, and is not any more."""
    node = Node()
    grow_old()
    return weakref.ref(node)


class Load:
    """What the collector is told of the daemon."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.idle = True
        self.ended = 0
        self.collector = Collector(lambda: self.idle, lambda: self.ended, clock=self.clock)


def test_what_is_there_when_all_has_settled_is_not_looked_at_again() -> None:
    """Looking at a large mesh takes most of a second, in which nothing is sent."""
    lasting = [[number] for number in range(1000)]

    collector.settle()

    assert all(each is not lasting for each in gc.get_objects())
    later = [[0]]
    assert any(each is later for each in gc.get_objects())


def test_young_garbage_that_comes_later_is_found_as_usual() -> None:
    """Only what proved to last waits for a quiet moment."""
    usual = gc.get_threshold()

    collector.expect_growth()
    assert gc.get_threshold() == collector.GROWING
    collector.settle()

    assert gc.get_threshold() == (*usual[:2], collector.NEVER)


def test_old_garbage_waits_for_a_quiet_moment() -> None:
    """A change that is on its way is not held up by twenty milliseconds of looking around."""
    load = Load()
    load.idle = False
    garbage = old_garbage()

    load.collector.turn()
    assert garbage() is not None

    load.idle = True
    load.collector.turn()
    assert garbage() is None


def test_a_moment_that_never_comes_is_not_waited_for() -> None:
    """Under endless changes memory would grow."""
    load = Load()
    load.idle = False
    garbage = old_garbage()

    load.collector.turn()
    load.clock.now += collector.LATEST
    load.collector.turn()

    assert garbage() is None


def test_nothing_is_collected_before_enough_grew_old() -> None:
    """A daemon at rest does nothing."""
    load = Load()
    garbage = weakref.ref(Node())

    load.collector.turn()

    assert garbage() is not None


def test_what_outlives_a_collection_is_not_looked_at_again() -> None:
    """So the next one costs what came since."""
    load = Load()
    lasting: list[list[int]] = [[]]
    grow_old()

    load.collector.turn()

    assert all(each is not lasting for each in gc.get_objects())


def test_what_lasted_is_looked_at_once_many_streams_have_ended() -> None:
    """gRPC leaves a few objects of each stream in a circle that only the collector sees."""
    load = Load()
    node = Node()
    garbage = weakref.ref(node)
    grow_old()
    load.collector.turn()
    del node
    load.ended = collector.LEFT_BEHIND - 1
    grow_old()
    load.collector.turn()
    assert garbage() is not None

    load.ended += 1
    grow_old()
    load.collector.turn()

    assert garbage() is None
