"""Tests of config.host."""

import pytest

from config.host import host_matches, host_patterns, hosts_overlap, resolve_host


@pytest.mark.parametrize(
    ("host", "resolved"),
    [
        ("reviews", "reviews.shop.svc.cluster.local"),
        ("reviews.other", "reviews.other"),
        ("a.example.com", "a.example.com"),
        ("*.example.com", "*.example.com"),
        ("*", "*"),
        ("", ""),
    ],
)
def test_only_names_without_a_dot_are_completed(host: str, resolved: str) -> None:
    """A rule's short names mean services of its own namespace."""
    assert resolve_host(host, "shop", "cluster.local") == resolved


@pytest.mark.parametrize(
    ("host", "patterns"),
    [
        ("a.b.c", ("a.b.c", "*.b.c", "*.c", "*")),
        ("*.b.c", ("*.b.c", "*.c", "*")),
        ("a", ("a", "*")),
        ("*", ("*",)),
    ],
)
def test_patterns_come_from_the_most_specific_to_the_least(
    host: str, patterns: tuple[str, ...]
) -> None:
    """The first rule found by them is the one that Istio would take."""
    assert host_patterns(host) == patterns


def test_each_pattern_of_a_host_matches_it() -> None:
    """Look-ups by pattern and comparisons must agree."""
    assert all(host_matches(pattern, "x.y.z") for pattern in host_patterns("x.y.z"))


@pytest.mark.parametrize(
    ("pattern", "host", "covered"),
    [
        ("*.foo.com", "a.foo.com", True),
        ("*.foo.com", "a.b.foo.com", True),
        ("*.foo.com", "foo.com", False),
        ("*.foo.com", "afoo.com", False),
        ("*.foo.com", "*.bar.foo.com", True),
        ("*.bar.foo.com", "*.foo.com", False),
        ("*", "*.foo.com", True),
        ("foo.com", "*.com", False),
        ("foo.com", "foo.com", True),
    ],
)
def test_a_wildcard_covers_what_is_below_it(pattern: str, host: str, covered: bool) -> None:
    """Neither the bare domain nor a wider wildcard is below it."""
    assert host_matches(pattern, host) is covered


def test_overlap_does_not_depend_on_the_order() -> None:
    """Duplicates in one rule are found whichever comes first."""
    assert hosts_overlap("a.foo.com", "*.foo.com")
    assert hosts_overlap("*.foo.com", "a.foo.com")
    assert not hosts_overlap("a.foo.com", "b.foo.com")
