"""Tests of config.naming."""

import pytest

from config.naming import Clash, NamedService, assign_hosts, host_of_template, template_fault

CONSUL = "{service}.service.{datacenter}.consul"


def test_a_template_makes_hosts_in_lower_case() -> None:
    """Host names are compared without case."""
    assert host_of_template(CONSUL, service="Web", datacenter="DC1") == "web.service.dc1.consul"


@pytest.mark.parametrize(
    ("name", "host"),
    [("web_api", "web-api"), ("a b/c", "a-b-c"), ("_x_", "x"), ("a..b", "a.b"), ("grüße", "gr-e")],
)
def test_what_no_host_may_have_becomes_a_dash(name: str, host: str) -> None:
    """A service with an odd name is still reachable."""
    assert host_of_template("{service}.mesh", service=name) == f"{host}.mesh"


def test_an_empty_part_goes_with_its_dot() -> None:
    """Not every service has a namespace."""
    assert host_of_template("{service}.{namespace}.mesh", service="a", namespace="") == "a.mesh"


@pytest.mark.parametrize("name", ["***", "x" * 64, ".".join(["x" * 60] * 5), "x" * 1_000_000])
def test_what_gives_no_host_name_is_refused_briefly(name: str) -> None:
    """Two services without a usable letter must not become one."""
    with pytest.raises(ValueError, match="host name") as caught:
        host_of_template("{service}.mesh", service=name)

    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        (CONSUL, ""),
        ("{Service}.MESH", ""),
        ("{service}.{dc}", "unknown placeholder {dc}; known: {service}, {datacenter}"),
        ("all.mesh", "names no placeholder, so that all services would be one; known: {service}"),
        ("{service", "expected a template"),
        ("{service}.a b", "is not allowed"),
        ("{service!r}.mesh", "is not allowed"),
    ],
)
def test_templates_are_checked_before_they_are_used(template: str, fault: str) -> None:
    """A wrong setting is told once, at its place."""
    found = template_fault(template, ("service", "datacenter"))

    assert fault in found
    assert bool(found) is bool(fault)


def test_the_older_of_two_names_keeps_the_host() -> None:
    """A newcomer must not take over somebody's traffic."""
    old, new = NamedService("web_a", "web-a", 1.0), NamedService("web-a", "web-a", 2.0)

    clash = Clash("web-a", "web-a", "web_a")
    for order in ([old, new], [new, old]):
        assert assign_hosts(order) == ({"web_a": "web-a"}, (clash,))
    assert str(clash) == "'web-a' would be 'web-a', which 'web_a' is already"


def test_among_equals_the_first_by_name_keeps_the_host() -> None:
    """Replicas that list in another order agree."""
    hosts, _ = assign_hosts([NamedService("b", "x"), NamedService("a", "x")])

    assert hosts == {"a": "x"}
