"""The garbage collector leaves alone what lasts, and only that."""

import gc
from collections.abc import Iterator

import pytest

from aggregator import collector


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    usual = gc.get_threshold()
    yield
    gc.set_threshold(*usual)
    gc.unfreeze()


def test_what_is_there_when_all_has_settled_is_not_looked_at_again() -> None:
    """Looking at a large mesh takes most of a second, in which nothing is sent."""
    lasting = [[number] for number in range(1000)]

    collector.settle()

    assert all(each is not lasting for each in gc.get_objects())
    later = [[0]]
    assert any(each is later for each in gc.get_objects())


def test_garbage_that_comes_later_is_found_as_usual() -> None:
    """Streams that end leave cycles behind."""
    usual = gc.get_threshold()

    collector.expect_growth()
    assert gc.get_threshold() == collector.GROWING
    collector.settle()

    assert gc.get_threshold() == usual
