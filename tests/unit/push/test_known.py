"""States of clients are shared by all that went the same way, and cost nothing once nobody is in
them.
"""

import gc
import weakref
from typing import Final

from aggregator.generators.spec import CLUSTER, Resource
from aggregator.push.known import Changes, Known
from aggregator.xds.message import unknown
from tests.support.session import resource

ONE: Final = resource(CLUSTER, "a", "one")
TWO: Final = resource(CLUSTER, "a", "two")
OTHER: Final = resource(CLUSTER, "b", "other", clusters=["x", "y"])


def change(*resources: Resource | None) -> Changes:
    """Changes of resources; None removes a."""
    return tuple((each.name if each else "a", each) for each in resources)


def test_the_same_way_leads_to_the_very_same_state() -> None:
    """A thousand streams of a view hold one state."""
    start = Known.of({})
    assert start.apply(change(ONE)) is start.apply(change(ONE))
    assert start.apply(change(ONE)) is not start.apply(change(TWO))


def test_nonce_stands_for_the_way() -> None:
    """Two replicas that sent the same expect the same answers, and no state has another's nonce."""
    there = [Known.of({}).apply(change(ONE)).apply(change(TWO)) for _ in range(2)]
    assert there[0].nonce == there[1].nonce
    back = there[0].apply(change(ONE))
    assert back.resources == {"a": ONE}
    assert back.nonce not in (there[0].nonce, Known.of({}).apply(change(ONE)).nonce)


def test_version_stands_for_the_content_alone() -> None:
    """A client that comes back by another way is recognised by what it has."""
    one_way = Known.of({}).apply(change(TWO, OTHER)).apply(change(ONE))
    other_way = Known.of({}).apply(change(OTHER)).apply(change(ONE))
    assert one_way.version == other_way.version == Known.of({"a": ONE, "b": OTHER}).version
    assert one_way.version != Known.of({"a": TWO, "b": OTHER}).version


def test_removal_takes_away() -> None:
    """None in the changes is a removal."""
    known = Known.of({"a": ONE, "b": OTHER})
    assert known.apply(change(None)).resources == {"b": OTHER}
    assert known.without(["a", "none such"]).resources == {"b": OTHER}
    assert known.without(["none such"]) is known


def test_clusters_are_those_of_all_resources() -> None:
    """What a client's routes may send to is asked for all of them at once."""
    assert Known.of({"a": ONE, "b": OTHER}).clusters == {"x", "y"}


def test_unknown_is_not_had() -> None:
    """What a client may or may not have does not count as something that it has."""
    known = Known.of({"a": ONE}).apply((("b", unknown("b", frozenset({"x"}))),))
    assert known.has("a")
    assert not known.has("b")
    assert not known.has("c")
    assert known.clusters == {"x"}


def test_changes_lead_from_one_state_to_the_other() -> None:
    """What a complete state held beyond another is found out from both."""
    first, second = Known.of({"a": ONE, "b": OTHER}), Known.of({"a": TWO})
    assert first.apply(first.changes_to(second)).resources == second.resources
    assert first.changes_to(first) == ()


def test_state_goes_when_nobody_is_in_it() -> None:
    """A state that all streams have left must not be held by the one before it."""
    start = Known.of({})
    after = weakref.ref(start.apply(change(ONE)))
    gc.collect()
    assert after() is None
