"""The permissions of whoever reads a cluster."""

from config.kind_table import kinds
from config.reader import reader_rules


def test_every_kind_of_rules_may_be_read_and_nothing_may_be_changed() -> None:
    """A new kind brings its permission along; secrets are of single namespaces only."""
    rules = reader_rules()
    networking = next(rule for rule in rules if rule["apiGroups"] == ["networking.istio.io"])

    assert networking["resources"] == sorted(kind.plural for kind in kinds().values())
    assert all(rule["verbs"] == ["list", "watch"] for rule in rules)
    assert not any("secrets" in rule["resources"] for rule in rules)
