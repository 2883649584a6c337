"""What becomes of objects that can be read, that cannot, and that are of no concern."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from msgspec import Raw

from adapters.kubernetes.decode import decode_rules, decode_slices
from adapters.kubernetes.feed import ItemTaker, ObjectFeed
from adapters.kubernetes.problem import ProblemBook
from adapters.kubernetes.publisher import Publisher
from adapters.kubernetes.resource import DISCOVERY, Resource
from adapters.kubernetes.table import Name, Taker
from aggregator.model.config import ConfigKey
from aggregator.model.registry import Content, RegistryContext
from aggregator.registry.aggregate import Aggregate
from config.kind_table import kinds

RULES = Resource("DestinationRule", "networking.istio.io", "v1", "destinationrules", optional=True)
SLICES = Resource("EndpointSlice", DISCOVERY, "v1", "endpointslices")


def rule(name: str, **spec: Any) -> Raw:
    """A DestinationRule as the server sends it."""
    document = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"host": "a.mesh", **spec},
    }
    return Raw(json.dumps(document).encode())


GOOD = rule("a", subsets=[{"name": "v1", "labels": {"version": "v1"}}])
BAD = rule("a", subsets=3)


class Rules:
    """Rules that an aggregate is fed with, and what is wrong with them."""

    def __init__(self) -> None:
        self.aggregate = Aggregate(lambda _changes: None, clock=lambda: 0.0)
        sink = self.aggregate.sink("east", RegistryContext(name="east", cluster_id="east"))
        self._book = ProblemBook(sink)
        taker: Taker[Any] = ItemTaker(Publisher(sink, "east"), RULES.plural, Content.RULES)
        decode = decode_rules("east", RULES.kind)
        self.feed = ObjectFeed("east", RULES, decode, taker, self._book)

    async def list(self, *objects: Raw) -> None:
        """The server lists these."""
        self.feed.begin()
        self.feed.page(objects)
        await self.feed.end()

    def subsets(self, name: str = "a") -> int | None:
        """How many subsets the rule has; None if there is no such rule."""
        found = self.aggregate.config(ConfigKey("DestinationRule", "shop", name))
        return len(found.spec.subsets) if found else None

    def problems(self) -> int:
        """How many there are."""
        self._book.flush()
        return sum(map(len, self.aggregate.problems().values()))


async def test_an_object_that_cannot_be_used_any_more_stays_what_it_was() -> None:
    """A slip in one edit takes no route away; the next good word counts."""
    rules = Rules()
    await rules.list(GOOD)

    rules.feed.changed(BAD, deleted=False)
    assert (rules.subsets(), rules.problems()) == (1, 1)
    await rules.list(BAD, rule("b"))
    assert (rules.subsets(), rules.subsets("b"), rules.problems()) == (1, 0, 1)

    rules.feed.changed(rule("a"), deleted=False)
    assert (rules.subsets(), rules.problems()) == (0, 0)


async def test_a_broken_object_that_is_deleted_is_gone() -> None:
    """With what is wrong with it."""
    rules = Rules()
    await rules.list(GOOD)
    rules.feed.changed(BAD, deleted=False)

    rules.feed.changed(BAD, deleted=True)

    assert (rules.subsets(), rules.problems()) == (None, 0)


async def test_a_broken_object_that_was_never_good_is_left_out() -> None:
    """There is nothing to keep."""
    rules = Rules()
    await rules.list(BAD, rule("b"))

    assert (rules.subsets(), rules.subsets("b"), rules.problems()) == (None, 0, 1)


@pytest.mark.parametrize("raw", [b'{"\xff": 1}', b"[]", b"3", b'{"kind": 3}', b"[" * 2000])
async def test_what_is_no_object_at_all_is_told_and_harms_no_other(raw: bytes) -> None:
    """A server, or what stands before it, may say anything."""
    rules = Rules()
    await rules.list(GOOD, Raw(raw))

    assert (rules.subsets(), rules.problems()) == (1, 1)


class Slices:
    """Takes slices and remembers them."""

    def __init__(self) -> None:
        self.taken: dict[Name, Any] = {}

    async def list(self, namespace: str, found: Mapping[Name, Any]) -> None:
        """All."""
        self.taken = dict(found)

    def put(self, name: Name, value: Any) -> None:
        """One."""
        self.taken[name] = value

    def known(self, name: Name) -> Any:
        """One, as it was."""
        return self.taken.get(name)


async def test_an_object_that_is_of_no_concern_any_more_goes() -> None:
    """A slice that lost its service is no broken one, though somebody is warned."""
    aggregate = Aggregate(lambda _changes: None, clock=lambda: 0.0)
    taker, book = Slices(), ProblemBook(aggregate.sink("east"))
    feed = ObjectFeed("east", SLICES, decode_slices("east"), taker, book)
    metadata = {"name": "a", "namespace": "shop", "labels": {"kubernetes.io/service-name": "a"}}
    document: dict[str, Any] = {"metadata": metadata, "addressType": "IPv4", "endpoints": []}
    feed.changed(_raw(document), deleted=False)
    assert taker.taken["shop", "a"] is not None

    feed.changed(_raw(document | {"addressType": "FQDN"}), deleted=False)

    assert taker.taken == {("shop", "a"): None}


def _raw(document: Mapping[str, Any]) -> Raw:
    return Raw(json.dumps(document).encode())


# Kinds are found by reading folders, which the event loop must not do.
kinds()
