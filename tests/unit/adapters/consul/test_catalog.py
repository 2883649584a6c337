"""Sums of checks, which tell what to sweep first."""

from adapters.consul.answer import Check
from adapters.consul.catalog import marks_of, moved

WEB = Check("n1", "c1", "passing", "web", 1)
API = Check("n2", "c1", "passing", "api", 1)
NODE = Check("n1", "serfHealth", "passing", "", 1)


def test_nothing_moved_where_the_checks_are_the_same_in_any_order() -> None:
    """Consul's order is not ours."""
    assert moved(marks_of([WEB, API, NODE]), marks_of([NODE, API, WEB])) == set()


def test_a_check_that_changed_came_or_went_marks_its_service() -> None:
    """Every registration of an instance with a check is seen by it."""
    before = marks_of([WEB, API])

    assert moved(before, marks_of([Check("n1", "c1", "critical", "web", 2), API])) == {"web"}
    assert moved(before, marks_of([WEB, API, Check("n3", "c9", "passing", "api", 5)])) == {"api"}
    assert moved(before, marks_of([WEB])) == {"api"}


def test_a_node_that_fails_marks_every_service_on_it() -> None:
    """Its own check belongs to none of them."""
    failed = Check("n1", "serfHealth", "critical", "", 2)

    assert moved(marks_of([WEB, API, NODE]), marks_of([WEB, API, failed])) == {"web"}
