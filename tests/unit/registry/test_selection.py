"""Which namespaces count."""

from typing import Any

from aggregator.model.errors import Origin
from aggregator.model.registry import Namespace
from aggregator.model.service import labels_of
from aggregator.registry.selection import NamespaceSelection
from config.selector import LabelSelector
from config.shape import decode_struct


def selector(**fields: Any) -> LabelSelector:
    return decode_struct(fields, LabelSelector, "", lambda _: Origin())


def namespace(name: str, **labels: str) -> Namespace:
    return Namespace(name, labels_of(labels))


HERE = ("cluster", "key")
MESH = selector(matchLabels={"mesh": "on"})


def test_without_selectors_every_namespace_counts() -> None:
    """Also those that nobody tells of."""
    selection = NamespaceSelection(())
    selection.tell("k8s", namespace("shop"), HERE, present=True)

    assert selection.settle() == {}
    assert selection.counts("k8s", "shop")
    assert selection.counts("k8s", "bank")


def test_only_namespaces_that_a_selector_matches_count() -> None:
    """One of several suffices; one that is not told of has no labels to match."""
    other = selector(matchExpressions=[{"key": "team", "operator": "In", "values": ["a", "b"]}])
    selection = NamespaceSelection((MESH, other))
    for each in (namespace("shop", mesh="on"), namespace("bank", team="b"), namespace("farm")):
        selection.tell("k8s", each, HERE, present=True)
    selection.settle()

    found = {name: selection.counts("k8s", name) for name in ("shop", "bank", "farm", "none")}
    assert found == {"shop": True, "bank": True, "farm": False, "none": False}


def test_a_registry_without_namespaces_is_not_concerned() -> None:
    """Files and Consul have none to label."""
    selection = NamespaceSelection((MESH,))
    selection.tell("k8s", namespace("shop"), HERE, present=True)
    selection.settle()

    assert selection.counts("files", "shop")
    assert not selection.counts("k8s", "shop")


def test_what_flips_is_told_and_nothing_else_is() -> None:
    """What is in a namespace is walked through only if it is judged differently."""
    selection = NamespaceSelection((MESH,))
    selection.tell("k8s", namespace("shop", mesh="on"), HERE, present=True)
    [first] = selection.settle().values()
    assert (first.of("shop"), first.of("bank")) == (None, False)

    selection.tell("k8s", namespace("bank"), HERE, present=True)
    assert selection.settle() == {}
    selection.tell("k8s", namespace("bank", mesh="on"), HERE, present=True)
    [second] = selection.settle().values()
    assert (second.of("shop"), second.of("bank")) == (None, True)

    selection.set_selectors(())
    [third] = selection.settle().values()
    assert (third.of("shop"), third.of("farm")) == (None, True)


def test_a_registry_that_has_lost_its_namespaces_is_not_concerned_any_more() -> None:
    """It was removed; another one under its name starts anew."""
    selection = NamespaceSelection((MESH,))
    selection.tell("k8s", namespace("shop"), HERE, present=True)
    selection.settle()
    selection.tell("k8s", namespace("shop"), HERE, present=False)
    [flip] = selection.settle().values()

    assert flip.of("shop") is True
    assert selection.counts("k8s", "shop")
    selection.set_selectors(())
    assert selection.settle() == {}


def test_of_two_words_on_a_namespace_the_first_source_counts() -> None:
    """Whatever the order in which they were told; and the other one when that is gone."""
    words = {("a", "x"): namespace("shop", mesh="on"), ("b", "x"): namespace("shop")}
    for order in (list(words), list(reversed(words))):
        selection = NamespaceSelection((MESH,))
        for source in order:
            selection.tell("k8s", words[source], source, present=True)
        selection.settle()
        assert selection.counts("k8s", "shop")
        selection.tell("k8s", words["a", "x"], ("a", "x"), present=False)
        selection.settle()
        assert not selection.counts("k8s", "shop")
