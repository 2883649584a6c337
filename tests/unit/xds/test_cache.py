"""Sets of names are one object for all streams that say the same."""

from aggregator.xds.cache import PlanCache


def test_streams_that_go_the_same_way_share_their_names() -> None:
    """Comparing two sets of thousands of names by content costs more than sending a change."""
    cache = PlanCache()
    first = cache.names(frozenset({"a", "b"}))
    second = cache.names(frozenset(["b", "a"]))

    assert first is second
    assert cache.changed_names(first, frozenset("c"), frozenset("a")) is cache.changed_names(
        second, frozenset("c"), frozenset("a")
    )


def test_changed_names_have_more_and_less() -> None:
    """What is given up and asked for at once is given up, as one request says it."""
    cache = PlanCache()

    changed = cache.changed_names(frozenset("ab"), frozenset("cd"), frozenset("ad"))

    assert changed == {"b", "c"}
    assert cache.names(frozenset("bc")) is changed
