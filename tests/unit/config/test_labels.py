"""Tests of config.labels."""

from config.labels import clean_labels


def test_valid_metadata_become_sorted_labels() -> None:
    """Equal metadata give equal labels, whatever the order."""
    assert clean_labels({"b": "2", "a.io/x": "1"}).labels == (("a.io/x", "1"), ("b", "2"))


def test_what_is_no_label_is_left_out_by_name() -> None:
    """A key or value that Kubernetes refuses could never be selected, and is not guessed at."""
    cleaned = clean_labels({"ok": "v1", "no key!": "x", "value": "a b", "long": "x" * 64})

    assert cleaned.labels == (("ok", "v1"),)
    assert cleaned.dropped == ("long", "no key!", "value")


def test_names_of_dropped_labels_stay_short() -> None:
    """A megabyte of key does not get into logs."""
    (dropped,) = clean_labels({"x" * 1_000_000: "y"}).dropped

    assert len(dropped) == 80


def test_the_first_metadata_have_precedence() -> None:
    """An instance's word outdoes its service's."""
    assert clean_labels({"a": "1"}, {"a": "2", "b": "3"}).labels == (("a", "1"), ("b", "3"))
