"""Plain data to structs, and what is said of data that does not fit."""

from enum import StrEnum
from typing import Annotated, Any

import pytest
from msgspec import Meta, Struct

from aggregator.convert import convert
from aggregator.model.errors import ConfigError, Origin
from aggregator.quantity import Address, Size
from config.duration import Duration


class Colour(StrEnum):
    """An enumeration."""

    RED = "red"
    GREEN = "green"


class Inner(Struct, frozen=True, forbid_unknown_fields=True):
    """A section."""

    max: Annotated[Duration, Meta(description="At most.")] = Duration(1)
    size: Size = Size(0)


class Outer(Struct, frozen=True, forbid_unknown_fields=True):
    """A file."""

    name: Annotated[str, Meta(pattern="^[a-z]+$")]
    inner: Annotated[Inner, Meta(description="A section.")] = Inner()
    maybe: Inner | None = None
    several: tuple[Inner, ...] = ()
    by_name: dict[str, Inner] = {}
    colour: Annotated[Colour, Meta(description="A colour.")] = Colour.RED
    address: Address = Address("127.0.0.1:1")
    count: int = 0


def place(path: str) -> Origin:
    """A line for each path, so that the tests see that it was asked for."""
    return Origin("file", len(path))


def problems_of(data: object) -> list[tuple[str, str]]:
    """(path, message) of every problem with *data*."""
    with pytest.raises(ConfigError) as caught:
        convert(data, Outer, "", place)
    assert all(each.origin == place(each.path) for each in caught.value.problems)
    return [(problem.path, problem.message) for problem in caught.value.problems]


def test_text_forms_become_their_values() -> None:
    """200ms, 48MiB and host:port are understood wherever they stand."""
    data: dict[str, Any] = {
        "name": "a",
        "inner": {"max": "200ms", "size": "48MiB"},
        "several": [{"max": "1m"}],
        "maybe": None,
        "by_name": {"x": {"size": 12}},
        "address": "[::1]:5",
        "colour": "green",
    }

    outer = convert(data, Outer, "", place)

    assert outer == Outer(
        "a",
        Inner(Duration(0.2), Size(48 * 2**20)),
        None,
        (Inner(Duration(60)),),
        {"x": Inner(size=Size(12))},
        Colour.GREEN,
        Address("[::1]:5"),
    )


def test_every_problem_is_told_at_once() -> None:
    """Nobody should have to start the daemon ten times to mend ten lines."""
    data = {
        "inner": {"maxx": "1s", "size": "1 banana"},
        "several": [{}, {"max": 3}],
        "by_name": {"x": {"wrong": 1}},
        "colour": "blue",
        "count": "many",
    }

    assert [path for path, _ in problems_of(data)] == [
        "inner.maxx",
        "inner.size",
        "several[1].max",
        "by_name.x.wrong",
        "colour",
        "count",
        "name",
    ]


@pytest.mark.parametrize(
    ("data", "path", "message"),
    [
        ({"name": "a", "iner": {}}, "iner", "unknown key 'iner'; did you mean 'inner'?"),
        ({}, "name", "'name' is required"),
        ({"name": "A"}, "name", "expected 'str' matching regex '^[a-z]+$'"),
        ({"name": "a", "3 4": 4}, '["3 4"]', "unknown key '3 4'"),
        ({"name": "a", "colour": "blue"}, "colour", "expected one of red, green, found 'blue'"),
        ({"name": "a", "colour": []}, "colour", "expected one of red, green, found []"),
        ({"name": "a", "inner": []}, "inner", "expected 'object', got 'array'"),
        ({"name": "a", "inner": {"max": True}}, "inner.max", 'expected text such as "200ms"'),
        ({"name": "a", "inner": {"size": True}}, "inner.size", 'expected text such as "48MiB"'),
        ({"name": "a", "maybe": {"zz": 1}}, "maybe.zz", "unknown key 'zz'; known are max, size"),
        ([], "", "expected 'object', got 'array'"),
        (None, "", "expected 'object', got 'null'"),
    ],
)
def test_a_problem_names_its_field_and_what_was_expected(
    data: object, path: str, message: str
) -> None:
    """A message that does not lead to the line is half a message."""
    found = problems_of(data)

    assert [each[0] for each in found] == [path]
    assert message in found[0][1]
