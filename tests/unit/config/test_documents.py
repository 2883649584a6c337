"""Tests of config.documents."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.model.errors import Origin
from config.documents import Documents, field_path, read_documents
from tests.support.documents import document, documents


def read(text: str | bytes, source: str = "f.yaml") -> Documents:
    """Read a text that may be broken."""
    return read_documents(text.encode() if isinstance(text, str) else text, source)


def fault(text: str | bytes, source: str = "f.yaml") -> tuple[int, str]:
    """Line and message of the only problem of a broken text, which must give no documents."""
    found = read(text, source)
    assert found.documents == ()
    (problem,) = found.problems
    assert problem.origin.source == source
    return problem.origin.line, problem.message


def test_a_stream_gives_each_document_with_its_line() -> None:
    """Messages about an object point at where it begins."""
    found = documents("a: 1\n---\n# a comment\nb: 2\n---\n---\nc: 3\n...\n")

    assert [each.data for each in found] == [{"a": 1}, {"b": 2}, {"c": 3}]
    assert [each.origin.line for each in found] == [1, 4, 7]


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n---\n", "\ufeff"])
def test_a_text_without_objects_is_sound_and_empty(text: str) -> None:
    """An emptied file removes its objects; it is not broken."""
    assert read(text) == Documents()


def test_plain_scalars_mean_what_kubernetes_takes_them_for() -> None:
    """A rule tried with kubectl reads the same here: no dates, no base 60."""
    text = """
        numbers: [1, -2, +3, 0x1F, 0o17, 0777, 1.5, 1e3, -.5, 08]
        words: [true, no, On, null, ~, '']
        text: [1:30, 2026-01-02, v1, 1.2.3, '5', "true", !!str 5, 0x, e3, -]
    """
    data = document(text).data

    assert data["numbers"] == [1, -2, 3, 31, 15, 511, 1.5, 1000.0, -0.5, 8.0]
    assert data["words"] == [True, False, True, None, None, ""]
    assert data["text"] == ["1:30", "2026-01-02", "v1", "1.2.3", "5", "true", "5", "0x", "e3", "-"]


def test_keys_are_text_whatever_they_look_like() -> None:
    """Labels may have numbers or words as names."""
    assert document("{1: a, true: b, null: c}").data == {"1": "a", "true": "b", "null": "c"}


def test_explicit_tags_decide_the_type_and_foreign_ones_are_refused() -> None:
    """No tag can make the reader build anything but plain data."""
    assert document("{a: !!float 1, b: !!int 2, c: ! 3}").data == {"a": 1.0, "b": 2, "c": "3"}
    for tag in ("!!python/object/apply:os.system [x]", "!!timestamp 2026-01-01", "!mine {}"):
        assert "tag" in fault(f"a: {tag}")[1]


def test_anchors_aliases_and_merges_are_resolved() -> None:
    """Users share parts of their rules; what is written beside a merge wins."""
    text = """
        base: &base {x: 1, y: 2}
        more: &more {z: 4}
        here: {<<: *base, y: 3}
        both: {<<: [*more, {z: 5, w: 6}]}
        list: [*base, *base]
    """
    data = document(text).data

    assert data["here"] == {"x": 1, "y": 3}
    assert data["both"] == {"z": 4, "w": 6}
    assert data["list"] == [{"x": 1, "y": 2}] * 2


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("a: 1\nb: [1,\nc: 2\n", 4, "a flow sequence that begins on line 2"),
        ("a: b: c", 1, "mapping values"),
        ("a: 1\n\tb: 2", 2, "character"),
        ("a: 1\nb: 2\na: 3", 3, "'a' is written twice"),
        ("a: 1\nb: {x: 1,\n x: 2}", 3, "'x' is written twice"),
        ("ok: 1\n---\nb: *none", 3, "'none' is not defined"),
        ("a: &a [1, *a]", 1, "contains itself"),
        ("a: 1\n---\n- 1\n", 3, "found a list"),
        ("just text", 1, "found text"),
        ("? [a]\n: 1", 1, "expected a name as key"),
        ("a: 1\nb: \x01", 2, "printable"),
        ("a: {<<: 5}", 1, "objects to merge"),
    ],
)
def test_broken_yaml_gives_nothing_but_line_and_reason(text: str, line: int, word: str) -> None:
    """After one error nothing in the file can be trusted."""
    found = fault(text)

    assert found[0] == line
    assert word in found[1]


def test_bytes_that_are_no_utf8_are_reported_at_their_line() -> None:
    """A file in another encoding is not guessed at."""
    assert fault(b"a: 1\nb: x\xe9\n") == (2, "expected UTF-8 text, found byte 0xe9")
    assert fault("a: 1".encode("utf-16"))[1].startswith("expected UTF-8 text")


def test_a_byte_order_mark_and_dos_line_ends_are_taken() -> None:
    """Files that were edited on Windows are sound."""
    found = read("\ufeffa: 1\r\nb:\r\n  c: text\r\n").documents[0]

    assert found.data == {"a": 1, "b": {"c": "text"}}
    assert found.position("b.c").line == 3


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("[" * 200_000, "f.yaml"),
        ("- " * 200_000 + "x", "f.yaml"),
        ("".join(" " * depth + "a:\n" for depth in range(2_000)), "f.yaml"),
        ('{"a":' * 200_000, "f.json"),
        ('{"a":' + "[" * 150 + "]" * 150 + "}", "f.json"),
    ],
)
def test_deep_nesting_is_refused_and_does_not_exhaust_the_stack(text: str, source: str) -> None:
    """libyaml's own composer would end the process here."""
    assert "100 levels of nesting" in fault(text, source)[1]


def test_a_hundred_levels_are_enough_for_everyone() -> None:
    """The bound does not hit real objects."""
    text = "a: " + "[" * 99 + "]" * 99

    assert len(read(text).documents) == 1


def test_aliases_cannot_blow_up_a_small_file() -> None:
    """Nine lines that stand for a thousand million values are refused at once."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]

    line, message = fault("\n".join(lines))

    assert "aliases expand to too much" in message
    assert line <= 7


@pytest.mark.parametrize("source", ["f.yaml", "f.json"])
def test_numbers_of_thousands_of_digits_are_no_attack(source: str) -> None:
    """Python's conversion of long numbers is slow, and refused by itself in a surprising way."""
    found = read('{"a": ' + "9" * 100_000 + "}", source)

    assert found.problems or isinstance(found.documents[0].data["a"], str)


def test_json_is_read_as_json() -> None:
    """Numbers, escapes and nesting as the standard has them."""
    text = '{"a": [1, 2.5, true, null, "\\u00e9\\ud83d\\ude00"], "b": {"c": {}}}'

    assert read(text, "f.json").documents[0].data == json.loads(text)


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ('{"a": 1,\n "b": }', 2, "expecting value"),
        ('{"a": 1,\n "b": 2,\n "a": 3}', 3, "'a' is written twice"),
        ('{"a": NaN}', 0, "NaN"),
        ('{"b": 1,\n"a": "\\ud800"}', 2, "escape"),
        ("[1]", 1, "found a list"),
        ("5", 1, "found a number"),
    ],
)
def test_broken_json_is_reported_with_its_line_where_it_can_be_known(
    text: str, line: int, word: str
) -> None:
    """A file named .json is judged as JSON alone."""
    found = fault(text, "f.json")

    assert found[0] == line
    assert word in found[1]


def test_flow_style_yaml_need_not_be_json() -> None:
    """What begins with a brace is tried as JSON first, and then as YAML."""
    assert read("{a: 1, b: [x, y]}").documents[0].data == {"a": 1, "b": ["x", "y"]}


def test_a_list_object_is_taken_apart() -> None:
    """``kubectl get -o yaml`` writes several objects into one; each keeps its own lines."""
    found = documents("kind: List\nitems:\n- a: 1\n- b:\n    c: 2\n---\nd: 1\n")

    assert [each.data for each in found] == [{"a": 1}, {"b": {"c": 2}}, {"d": 1}]
    assert [each.origin.line for each in found] == [3, 4, 7]
    assert found[1].position("b.c") == Origin("rules.yaml", 5)


def test_an_item_of_a_list_that_is_no_object_is_reported_at_its_line() -> None:
    """Nothing is silently left out."""
    assert fault("kind: List\nitems:\n- a: 1\n- 5\n") == (
        4,
        "items[1]: expected an object, found a number",
    )


POSITIONS = """\
kind: X
spec:
  http:
  - match: [{uri: {prefix: /}}]
    route:
    - weight: 1
    - weight: 2
      "x.y/z": 3
  - timeout: 5s
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("", 1),
        ("kind", 1),
        ("spec.http", 3),
        ("spec.http[0]", 4),
        ("spec.http[0].match[0].uri.prefix", 4),
        ("spec.http[0].route[1]", 7),
        ("spec.http[0].route[1].weight", 7),
        ('spec.http[0].route[1]["x.y/z"]', 8),
        ("spec.http[1].timeout", 9),
        ("spec.http[1].retries.attempts", 9),
        ("spec.http[7].timeout", 3),
        ("spec.missing.deeper", 2),
        ("missing", 1),
    ],
)
@pytest.mark.parametrize("before", ["", "first: 1\n---\n---\n"])
def test_a_path_is_found_at_its_line_or_its_parents(path: str, line: int, before: str) -> None:
    """Errors name the line that the user has to change."""
    found = read(before + POSITIONS).documents[-1]

    assert found.position(path) == Origin("f.yaml", line + before.count("\n"))


def test_json_has_lines_too() -> None:
    """The same messages come of both forms."""
    found = read('{\n "a": {\n  "b": [1,\n   2]}}', "f.json").documents[0]

    assert found.position("a.b[1]").line == 4


@settings(deadline=None)  # Other work on the machine is no failure.
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=12,
    )
)
def test_whatever_json_can_say_is_read_back(value: object) -> None:
    """The reader adds nothing and loses nothing."""
    text = json.dumps({"value": value})

    assert read(text, "f.json").documents[0].data == {"value": value}


@settings(deadline=None)  # Other work on the machine is no failure.
@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail(data: bytes) -> None:
    """Hostile files end in a problem, never in an exception."""
    found = read_documents(data, "f.yaml")

    assert not (found.documents and found.problems)


@settings(deadline=None)  # Other work on the machine is no failure.
@given(st.text(alphabet="ab:-[]{},&*!|>\"'\n \t#?%@`~<0.", max_size=60))
def test_no_punctuation_makes_the_reader_fail(text: str) -> None:
    """YAML's own signs in any order."""
    found = read(text)

    for each in found.documents:
        each.position("a[0].b")


def test_keys_that_are_no_plain_names_are_quoted_in_paths() -> None:
    """A path stays readable for machines when labels have dots."""
    assert field_path("spec", "hosts") == "spec.hosts"
    assert field_path("", "kind") == "kind"
    assert field_path("labels", 'a.b/"c"') == 'labels["a.b/\\"c\\""]'
