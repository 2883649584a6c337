"""A large mapping with changes over it says the same as one that was copied."""

from hypothesis import given
from hypothesis import strategies as st

from aggregator.push.layered import LAYER, Layered, changed

BASE = {f"name{number}": number for number in range(4 * LAYER)}
CHANGES = st.lists(
    st.tuples(st.sampled_from([*list(BASE)[:20], "new", "newer"]), st.none() | st.integers(0, 9)),
    max_size=8,
).map(tuple)


@given(st.lists(CHANGES, max_size=6))
def test_changes_over_a_base_are_as_in_a_copy(
    steps: list[tuple[tuple[str, int | None], ...]],
) -> None:
    """Whatever is asked, a layered mapping answers like a dictionary, removals included."""
    mapping, plain = changed(BASE, ()), dict(BASE)
    for step in steps:
        mapping = changed(mapping, step)
        for name, value in step:
            if value is None:
                plain.pop(name, None)
            else:
                plain[name] = value
    assert dict(mapping) == dict(mapping.items()) == plain
    assert len(mapping) == len(plain)
    assert sorted(mapping.values()) == sorted(plain.values())
    for name in (*list(BASE)[:20], "new", "newer", "absent"):
        assert (name in mapping) == (name in plain)
        assert mapping.get(name) == plain.get(name)


def test_what_was_changed_stays_as_it_was() -> None:
    """States are shared by streams that went different ways from them."""
    before = changed(BASE, (("name1", 100),))

    changed(before, (("name1", None), ("new", 1)))

    assert before["name1"] == 100
    assert "new" not in before
    assert BASE["name1"] == 1


def test_many_changes_are_not_carried_along_for_ever() -> None:
    """A layer is copied with each change, so it has to stay small."""
    few = changed(BASE, tuple((f"name{number}", 0) for number in range(LAYER)))
    more = changed(few, (("new", 0),))

    assert isinstance(few, Layered)
    assert not isinstance(more, Layered)
    assert len(more) == len(BASE) + 1
