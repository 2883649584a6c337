"""What one key is told as."""

import pytest

from adapters.etcd.decode import content_of, digest_of, read_key, scope_of
from aggregator.model.registry import Content, RegistryContext, ServiceItem

CONTEXT = RegistryContext(name="kv", cluster_id="")
INSTANCE = b'{"apiVersion":"mesh-aggregator/v1","kind":"Instance","address":"10.0.0.1"}'


@pytest.mark.parametrize(
    ("key", "scope"),
    [
        (b"/mesh/services/shop/a.mesh", "services/shop/a.mesh"),
        (b"/mesh/services/\xff", "services/\\xff"),
        (b"/mesh/services/", "services/%"),
        (b"/mesh/services/shop/", "services/shop/%"),
    ],
)
def test_a_key_is_its_own_scope_and_never_stands_for_others(key: bytes, scope: str) -> None:
    """A scope that ends in a slash stands for all below it: one such key would keep them all."""
    assert scope_of(key, b"/mesh/") == scope


def test_rules_are_told_apart_from_services() -> None:
    """They are of another content, and may be switched off."""
    assert content_of("rules/x") is Content.RULES
    assert content_of("services/shop/a.mesh") is Content.SERVICES
    assert content_of("instances/shop/a.mesh/1") is Content.SERVICES


def test_a_key_with_another_lease_is_another() -> None:
    """Which lease it has decides what its end means."""
    assert digest_of(b"x", 1) == digest_of(b"x", 1)
    assert len({digest_of(b"x", 1), digest_of(b"x", -1), digest_of(b"y", 1)}) == 3


def test_a_good_key_has_an_item_and_its_lease() -> None:
    """The plain case."""
    read = read_key(b"/mesh/instances/shop/a.mesh/1", INSTANCE, 7, b"/mesh/", CONTEXT)

    assert (read.scope, read.lease, read.problems) == ("instances/shop/a.mesh/1", 7, ())
    assert isinstance(read.item, ServiceItem)
    assert read.item.host == "a.mesh"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (b"/mesh/services/\xff", b"{}", "kv:/mesh/services/\\xff: expected a key in UTF-8"),
        (b"/mesh/rules/x", b"\xff", "kv:/mesh/rules/x:1: expected UTF-8 text, found byte 0xff"),
    ],
)
def test_a_bad_key_says_why_and_has_no_item(key: bytes, value: bytes, message: str) -> None:
    """It is left out, and nothing else."""
    read = read_key(key, value, 0, b"/mesh/", CONTEXT)

    assert read.item is None
    assert [str(problem) for problem in read.problems] == [message]
