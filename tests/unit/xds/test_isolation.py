"""What a client rejects is found piece by piece, also inside a resource that was joined from
parts.
"""

from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.generators.spec import ROUTE, VIRTUAL_HOST, Resource, Whole, join
from aggregator.push.known import Known
from aggregator.xds.isolation import Isolation
from tests.support.session import resource

PARTS: Final = [f"80/{number}" for number in range(12)]


def table(**changed: str) -> Resource:
    """A route table of twelve virtual hosts; *changed* gives bodies by the number of the part."""
    parts = tuple(
        resource(VIRTUAL_HOST, name, changed.get(f"p{number}", "good"))
        for number, name in enumerate(PARTS)
    )
    return join(ROUTE, "80", Whole(resource(ROUTE, "80", "head"), parts, 2))


def settle(
    isolation: Isolation, accepted: Resource | None, want: Resource, bad: set[str]
) -> Resource | None:
    """Play a client that refuses every table in which a part has a bad body; returns what it has in
    the end.
    """
    has = accepted
    for _ in range(100):
        settled, now = isolation.choose(want)
        if not settled or now is None or (has is not None and now.version == has.version):
            return has
        changes = ((want.name, now),)
        parts = now.whole.parts if now.whole else ()
        if any(part.body.decode() in bad for part in parts):
            known = Known.of({want.name: has} if has else {})
            isolation.blame(known, changes, "some route is bad")
        else:
            isolation.took(changes)
            has = now
    raise AssertionError("the search does not end")


@settings(max_examples=60, deadline=None)
@given(
    bad=st.sets(st.integers(0, 11), max_size=4),
    changed=st.sets(st.integers(0, 11)),
    fresh=st.booleans(),
)
def test_good_parts_get_through_whatever_is_bad(
    bad: set[int], changed: set[int], fresh: bool
) -> None:
    """On state of the world one bad virtual host must not hold back a table of good ones."""
    accepted = None if fresh else table()
    bodies = {f"p{number}": f"bad {number}" for number in bad}
    bodies |= {f"p{number}": "better" for number in changed - bad}
    isolation = Isolation(ROUTE, delta=False, trial_seconds=1)
    has = settle(isolation, accepted, table(**bodies), {f"bad {number}" for number in bad})
    expected = {
        name: bodies.get(f"p{number}", "good")
        for number, name in enumerate(PARTS)
        if number not in bad
    }
    if not fresh:
        expected |= {PARTS[number]: "good" for number in bad}
    assert has is not None
    assert has.whole is not None
    assert {part.name: part.body.decode() for part in has.whole.parts} == expected
    assert set(isolation.rejected) == {PARTS[number] for number in bad}


def test_mended_part_ends_the_isolation() -> None:
    """Once the client has taken the new version, nothing of the rejection is left."""
    isolation = Isolation(ROUTE, delta=False, trial_seconds=1)
    has = settle(isolation, table(), table(p3="bad"), {"bad"})
    assert isolation.active
    has = settle(isolation, has, table(p3="mended"), {"bad"})
    assert has is not None
    assert has.version == table(p3="mended").version
    assert not isolation.active


def test_part_that_went_away_is_forgotten() -> None:
    """A rejected virtual host whose rule was deleted must not be shown as rejected for ever."""
    isolation = Isolation(ROUTE, delta=False, trial_seconds=1)
    has = settle(isolation, table(), table(p3="bad"), {"bad"})
    whole = table().whole
    assert whole is not None
    fewer = join(ROUTE, "80", Whole(whole.head, whole.parts[:3] + whole.parts[4:], 2))
    settle(isolation, has, fewer, {"bad"})
    assert not isolation.active


def test_search_goes_on_when_a_suspect_goes_away() -> None:
    """A rule that is deleted while it is under suspicion must not leave the others waiting."""
    isolation = Isolation(ROUTE, delta=False, trial_seconds=1)
    bodies = {f"p{number}": f"new {number}" for number in range(4)}
    known = Known.of({"80": table()})
    isolation.blame(known, (("80", table(**bodies)),), "some route is bad")
    assert isolation.due(0) == {"80"}
    whole = table(**bodies).whole
    assert whole is not None
    left = join(ROUTE, "80", Whole(whole.head, whole.parts[2:], 2))
    isolation.choose(left)
    assert isolation.due(0) == {"80"}
    has = settle(isolation, table(), left, {"new 2"})
    assert has is not None
    assert has.whole is not None
    assert [part.body.decode() for part in has.whole.parts[:2]] == ["good", "new 3"]
