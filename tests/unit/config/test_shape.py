"""Tests of config.shape."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import pytest
from msgspec import Meta, Struct, field

from aggregator.model.errors import ConfigError, Origin
from config.duration import Duration
from config.message import Int32, Message, UInt32, UInt64
from config.shape import MOST_TOLD, decode_struct, encode_struct, suggest


class Mode(StrEnum):
    """Some enumeration."""

    OFF = "OFF"
    FAST = "FAST"


class Inner(Message, frozen=True):
    """A message in another."""

    port: UInt32 = 0
    wait: Duration | None = None


class Outer(Message, frozen=True):
    """One field of each type."""

    some_text: str = ""
    mode: Mode = Mode.OFF
    flag: bool | None = None
    share: float = 0.0
    signed: Int32 = 0
    large: UInt64 = UInt64(0)
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    named: Mapping[str, Inner] = {}
    body: bytes | None = None
    from_: str = field(default="", name="from")


class Open(Struct, frozen=True):
    """A struct that needs a field and ignores what it does not know."""

    name: str
    target: int | str = 0


class Demanding(Struct):
    """Demands that our own structs do not have."""

    above: Annotated[float, Meta(gt=0)] = 1.0
    below: Annotated[int, Meta(ge=1, lt=10)] = 1
    short: Annotated[str, Meta(max_length=3)] = ""


def place(path: str) -> Origin:
    """Lines as a document would find them, so that it shows who was asked for."""
    return Origin("f.yaml", len(path))


def decode(data: Any) -> Outer:
    """Decode as part of an object."""
    return decode_struct(data, Outer, "spec", place, "Thing shop/x")


def mismatches(data: Any, of: type[Struct] = Outer) -> dict[str, str]:
    """Messages by path."""
    with pytest.raises(ConfigError) as caught:
        decode_struct(data, of, "spec", place, "Thing shop/x")
    for problem in caught.value.problems:
        assert problem.origin == place(problem.path)
        assert problem.subject == "Thing shop/x"
    return {problem.path: problem.message for problem in caught.value.problems}


def test_every_type_of_field_is_decoded_by_its_outer_name() -> None:
    """The names are camel case, the values protobuf's JSON."""
    decoded = decode(
        {
            "someText": "x",
            "mode": "FAST",
            "flag": True,
            "share": 1,
            "signed": -5,
            "large": "18446744073709551615",
            "inner": {"port": 80, "wait": "1.5s"},
            "many": [{"port": 1}, {}],
            "named": {"a.b": {"port": 2}},
            "body": "aGk=",
            "from": "here",
        }
    )

    assert decoded == Outer(
        "x",
        Mode.FAST,
        True,
        1.0,
        -5,
        UInt64(2**64 - 1),
        Inner(80, Duration(1.5)),
        (Inner(1), Inner()),
        {"a.b": Inner(2)},
        b"hi",
        "here",
    )


def test_everything_wrong_is_told_at_once_at_its_path() -> None:
    """A user mends a file in one go."""
    found = mismatches(
        {
            "someTxt": "x",
            "mode": "SLOW",
            "flag": "yes",
            "share": "much",
            "signed": 2**31,
            "large": -1,
            "inner": {"port": -1, "wait": 5},
            "many": [{"port": 1}, {"wait": "soon"}, 7, None],
            "named": {"a.b": {"prt": 1}, "c": []},
            "body": "&",
        }
    )

    assert found == {
        "spec.someTxt": "unknown field 'someTxt'; did you mean 'someText'?",
        "spec.mode": "expected one of OFF, FAST, found 'SLOW'",
        "spec.flag": "expected true or false, found 'yes'",
        "spec.share": "expected a number, found 'much'",
        "spec.signed": "expected a whole number from -2147483648 to 2147483647, found 2147483648",
        "spec.large": "expected a whole number from 0 to 2**64 - 1, found -1",
        "spec.inner.port": "expected a whole number from 0 to 4294967295, found -1",
        "spec.inner.wait": "expected a duration such as 5s, found 5",
        "spec.many[1].wait": "expected a duration such as 5s, 1.5s, 100ms or 1h30m, found 'soon'",
        "spec.many[2]": "expected an object, found 7",
        "spec.many[3]": "expected an object, found null",
        'spec.named["a.b"].prt': "unknown field 'prt'; did you mean 'port'?",
        "spec.named.c": "expected an object, found a list",
        "spec.body": "expected bytes in base64, found '&'",
    }


@pytest.mark.parametrize("value", [True, 1.5, "1", 2**70, [1], {}])
def test_what_is_no_whole_number_is_no_port(value: object) -> None:
    """YAML's other scalars are not converted in silence."""
    assert list(mismatches({"inner": {"port": value}})) == ["spec.inner.port"]


@pytest.mark.parametrize("value", [5, True, 1.0, None, ["x"]])
def test_only_text_is_text(value: object) -> None:
    """An unquoted version such as 1.0 is a number, which the message says."""
    if value is None:
        assert decode({"someText": None}).some_text == ""
    else:
        assert mismatches({"someText": value})["spec.someText"].startswith("expected text, found")


def test_null_means_absent_at_any_depth_but_not_in_lists() -> None:
    """As in Kubernetes, whose users leave keys without values."""
    decoded = decode({"inner": {"port": None, "wait": None}, "many": None, "named": None})

    assert decoded == Outer(inner=Inner())
    assert list(mismatches({"many": [None]})) == ["spec.many[0]"]


def test_a_required_field_is_asked_for_and_foreign_ones_can_be_ignored() -> None:
    """Kubernetes' objects carry much that nobody here reads."""
    assert mismatches({}, Open) == {"spec.name": "required"}
    assert mismatches({"name": 5, "target": "http"}, Open) == {
        "spec.name": "expected text, found 5"
    }
    assert decode_struct({"name": "a", "target": "http", "x": 1}, Open, "", place).target == "http"


def test_a_mistake_made_a_million_times_is_not_told_as_often() -> None:
    """A text of a few megabytes fills neither the memory nor the log."""
    data = {"many": [{"porrt": 1, "prot": 2}] * 500_000}

    with pytest.raises(ConfigError) as raised:
        decode_struct(data, Outer, "", lambda path: Origin(path))

    problems = raised.value.problems
    assert len(problems) == MOST_TOLD + 1
    assert "only the first 100 problems" in problems[-1].message
    assert problems[-1].path == "many[50].porrt"


def test_what_is_no_object_at_all_is_told() -> None:
    """A spec that is a list is a mistake of indentation."""
    assert mismatches([]) == {"spec": "expected an object, found a list"}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("above", 0, "expected a number above 0, found 0"),
        ("below", 10, "expected a whole number of at least 1 and below 10, found 10"),
        ("short", "abcd", "Expected `str` of length <= 3 - at `$.short`"),
    ],
)
def test_every_demand_of_a_struct_is_told(field: str, value: object, message: str) -> None:
    """Also one that nobody thought of here: adapters that live elsewhere bring structs too."""
    with pytest.raises(ConfigError) as raised:
        decode_struct({field: value}, Demanding, "spec", lambda path: Origin(path))

    (problem,) = raised.value.problems
    assert problem.message == message
    assert problem.path.startswith("spec")


def test_encoding_gives_back_what_was_written() -> None:
    """Debug views show rules as their users wrote them, without defaults."""
    data = {
        "mode": "FAST",
        "large": "42",
        "inner": {"wait": "1.5s"},
        "named": {"a": {"port": 2}},
        "body": "aGk=",
        "from": "here",
    }

    assert encode_struct(decode(data)) == data


def test_suggestions_name_the_nearest_or_all_of_a_few() -> None:
    """The user need not look the name up."""
    assert suggest("hosst", ("hosts", "http")) == "; did you mean 'hosts'?"
    assert suggest("zzz", ("b", "a")) == "; known are a, b"
    assert suggest("zzz", tuple(f"name{i}" for i in range(20))) == ""
