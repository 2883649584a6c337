"""Tests of adapters.kubernetes.resource and adapters.kubernetes.table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.kubernetes.resource import Lines, Resource, decode_event, decode_page, version_of
from adapters.kubernetes.table import Index, Table
from aggregator.model.errors import AdapterUnavailableError

PODS = Resource("Pod", "", "v1", "pods")
SLICES = Resource("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices", "shop")


def test_paths_and_scopes_follow_from_group_and_namespace() -> None:
    """The core group has a path of its own; a scope ends in a slash if others are below it."""
    assert (PODS.path, PODS.scope) == ("/api/v1/pods", "pods/")
    assert (SLICES.path, SLICES.scope) == (
        "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices",
        "endpointslices/shop",
    )


def test_the_permission_that_is_missing_is_told_as_a_role_has_it() -> None:
    """So that it can be copied."""
    assert PODS.permission == (
        "a ClusterRole with apiGroups [''], resources ['pods'] and verbs ['list', 'watch'] lets it"
    )
    assert SLICES.permission.startswith("a Role in namespace shop with apiGroups ['discovery.")


@given(st.lists(st.binary(max_size=20)), st.data())
def test_lines_are_the_same_however_they_are_cut(lines: list[bytes], data: st.DataObject) -> None:
    """The network cuts anywhere, and a line may be longer than any buffer."""
    wanted = [each.replace(b"\n", b" ") for each in lines]
    whole = b"".join(each + b"\n" for each in wanted)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)))))
    reader = Lines()
    found = [
        line
        for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)
        for line in reader.feed(whole[start:end])
    ]
    assert found == [each for each in wanted if each.strip()]


def test_pages_and_events_are_read_as_far_as_they_matter() -> None:
    """An empty list may be null."""
    page = decode_page(b'{"metadata": {"resourceVersion": "7", "continue": "x"}, "items": null}')
    event = decode_event(b'{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "8"}}}')

    assert (page.metadata.resource_version, page.metadata.continue_) == ("7", "x")
    assert page.items is None
    assert (event.type, version_of(event.object)) == ("BOOKMARK", "8")


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b'{"items": 3}', b'{"metadata": {"resourceVersion": "\xff"}}'],
)
def test_what_is_no_list_is_an_error_and_no_empty_list(body: bytes) -> None:
    """Such as the page of a proxy that stands before the server."""
    with pytest.raises(AdapterUnavailableError):
        decode_page(body)
    with pytest.raises(AdapterUnavailableError):
        decode_event(body)


def test_a_table_forgets_namespaces_without_objects() -> None:
    """They may come and go for years."""
    table: Table[int] = Table()
    assert table.put(("shop", "a"), 1) is None
    assert table.put(("shop", "a"), 2) == 1
    assert table.names() == [("shop", "a")]
    assert table.put(("shop", "a"), None) == 2
    assert table.put(("shop", "a"), None) is None
    assert table.namespaces() == set()


Step = tuple[bool, str, tuple[str, str]]
STEPS = st.lists(
    st.tuples(
        st.booleans(), st.sampled_from("ab"), st.tuples(st.just("shop"), st.sampled_from("xyz"))
    )
)


@given(STEPS)
def test_an_index_is_what_was_added_and_not_discarded(steps: list[Step]) -> None:
    """One, many, and one again."""
    index = Index()
    known: set[tuple[str, tuple[str, str]]] = set()
    for add, token, name in steps:
        if add:
            index.add(token, name)
            known.add((token, name))
        else:
            index.discard(token, name)
            known.discard((token, name))
    for token in "ab":
        assert index.of(token) == sorted(name for each, name in known if each == token)
