"""Tests of config.duration."""

import pytest

from config.duration import Duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("1.5s", 1.5),
        ("100ms", 0.1),
        ("1h2m3s", 3723),
        ("250us", 0.00025),
        ("2m", 120),
        ("0s", 0),
        ("0", 0),
        (".5s", 0.5),
    ],
)
def test_every_way_to_write_a_duration_is_read(text: str, seconds: float) -> None:
    """Istio's users write Go's durations as well as protobuf's."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "5", "s", "-5s", "5 s", "5s ", "1d", "five", "5sm", "1e3s", "\u0665s", "9" * 101 + "s"],
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    """The user is shown the form that is expected."""
    with pytest.raises(ValueError, match="expected a duration such as 5s"):
        parse_duration(text)


def test_a_duration_beyond_protobufs_range_is_refused() -> None:
    """Envoy's messages could not carry it."""
    with pytest.raises(ValueError, match="out of range"):
        parse_duration("99999999999999h")


@pytest.mark.parametrize("text", ["5s", "1.5s", "0.1s", "3723s", "0s"])
def test_its_text_is_read_back_as_the_same(text: str) -> None:
    """Debug views show rules in the form that they were written in."""
    assert str(parse_duration(text)) == text
    assert parse_duration(str(Duration(0.25))) == 0.25
