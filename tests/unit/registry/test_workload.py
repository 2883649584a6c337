"""Which workloads selectors pick."""

from aggregator.model.service import ServiceKey, Workload, labels_of
from aggregator.registry.workload import WorkloadIndex
from tests.support.builders import endpoint

REVIEWS = ServiceKey("shop", "reviews.shop.mesh")


def workload(name: str, namespace: str = "shop", **labels: str) -> Workload:
    """A workload with these labels."""
    return Workload(name, namespace, endpoint(labels=labels))


def test_a_selector_picks_by_all_its_labels_in_its_namespace() -> None:
    """A service must not get the endpoints of another version, nor of another namespace."""
    index = WorkloadIndex()
    index.put(("r", False, "s", "a"), workload("a", app="reviews", tier="web"))
    index.put(("r", False, "s", "b"), workload("b", app="reviews", tier="batch"))
    index.put(("r", False, "s", "c"), workload("c", "other", app="reviews", tier="web"))
    selector = labels_of({"app": "reviews", "tier": "web"})
    index.select(REVIEWS, selector, 1)

    assert [each.workload.name for each in index.pick("shop", selector)] == ["a"]


def test_workloads_after_the_selector_are_found_too() -> None:
    """The order in which registries tell things does not matter."""
    index = WorkloadIndex()
    selector = labels_of({"app": "reviews"})
    index.select(REVIEWS, selector, 1)

    touched = index.put(("r", False, "s", "a"), workload("a", app="reviews"))

    assert touched == {REVIEWS}
    assert [each.workload.name for each in index.pick("shop", selector)] == ["a"]


def test_a_workload_that_changes_labels_touches_both_services() -> None:
    """Who had it must lose it."""
    ratings = ServiceKey("shop", "ratings.shop.mesh")
    index = WorkloadIndex()
    index.select(REVIEWS, labels_of({"app": "reviews"}), 1)
    index.select(ratings, labels_of({"app": "ratings"}), 1)
    index.put(("r", False, "s", "a"), workload("a", app="reviews"))

    touched = index.put(("r", False, "s", "a"), workload("a", app="ratings"))

    assert touched == {REVIEWS, ratings}
    assert index.pick("shop", labels_of({"app": "reviews"})) == []


def test_a_workload_that_nobody_selects_touches_nothing() -> None:
    """Pods come and go all the time."""
    index = WorkloadIndex()
    index.select(REVIEWS, labels_of({"app": "reviews", "tier": "web"}), 1)

    assert not index.put(("r", False, "s", "a"), workload("a", app="reviews"))


def test_an_empty_selector_picks_nothing() -> None:
    """A service without a selector has the endpoints that it is given."""
    index = WorkloadIndex()
    index.put(("r", False, "s", "a"), workload("a", app="reviews"))
    index.select(REVIEWS, (), 1)

    assert index.pick("shop", ()) == []


def test_a_selector_counts_until_its_last_user_is_gone() -> None:
    """Two definitions of one service may have the same selector."""
    index = WorkloadIndex()
    selector = labels_of({"app": "reviews"})
    for sign in (1, 1, -1):
        index.select(REVIEWS, selector, sign)
    assert index.put(("r", False, "s", "a"), workload("a", app="reviews")) == {REVIEWS}

    index.select(REVIEWS, selector, -1)
    assert not index.put(("r", False, "s", "a"), None)
