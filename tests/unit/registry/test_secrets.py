"""What an adapter is told of the secrets that another registry gives."""

from collections.abc import Collection, Mapping

from aggregator.model.registry import Content, ShardKey
from aggregator.model.secret import Redacted, Secret
from aggregator.registry.aggregate import Aggregate
from tests.support.clock import FakeClock

SHARD = ShardKey("east", "istio-system", Content.SECRETS)


class Reader:
    """An aggregate in which `more` follows the secrets of `east`, and what it was told."""

    def __init__(self) -> None:
        self.aggregate = Aggregate(lambda _changes: None, clock=FakeClock())
        self.told: list[tuple[list[str], list[str]]] = []

    def follow(self) -> None:
        """Begin a run of `more`."""
        self.aggregate.sink("more").follow_secrets("east", self._take)

    def _take(self, secrets: Mapping[str, Secret], deleted: Collection[str]) -> None:
        self.told.append((sorted(secrets), sorted(deleted)))


def secret(name: str, kubeconfig: bytes = b"x") -> Secret:
    """A secret of one key."""
    return Secret("istio-system", name, {name: Redacted(kubeconfig)})


def test_unlisted_secrets_are_not_taken_for_none() -> None:
    """While the cluster that keeps the secrets is not read yet, no remote cluster is gone."""
    reader = Reader()
    reader.follow()
    reader.aggregate.sink("east")

    assert reader.told == []


def test_an_empty_listing_is_told() -> None:
    """Whoever follows can be in sync though there is no secret."""
    reader = Reader()
    reader.follow()
    reader.aggregate.sink("east").replace(SHARD, {})

    assert reader.told == [([], [])]


def test_present_secrets_are_told_at_once_and_changes_afterwards() -> None:
    """A restarted adapter knows all; a rotated credential arrives like a new secret."""
    reader = Reader()
    sink = reader.aggregate.sink("east")
    sink.replace(SHARD, {"uid1": secret("west")})

    reader.follow()
    sink.update(SHARD, "uid2", secret("north"))
    sink.update(SHARD, "uid2", secret("north"))
    sink.update(SHARD, "uid1", secret("west", b"y"))

    both = ["istio-system/north", "istio-system/west"]
    assert reader.told == [(["istio-system/west"], []), (both, []), (both, [])]


def test_deletion_is_told_apart_from_absence() -> None:
    """What was deleted goes at once, what a listing lacks is for the loss guard to judge."""
    reader = Reader()
    reader.follow()
    sink = reader.aggregate.sink("east")
    listing = {name: secret(name) for name in ("a", "b", "c", "d")}
    sink.replace(SHARD, listing)

    sink.replace(SHARD, {name: listing[name] for name in ("a", "b", "c")})
    sink.update(SHARD, "a", None)
    sink.replace(SHARD, {"c": listing["c"]}, explicit=True)
    sink.drop(SHARD)

    assert [deleted for _, deleted in reader.told] == [
        [],
        [],
        ["istio-system/a"],
        ["istio-system/b"],
        ["istio-system/c"],
    ]


def test_a_registry_that_leaves_deletes_no_secret() -> None:
    """The clusters that its secrets led to are not known to be gone."""
    reader = Reader()
    reader.follow()
    reader.aggregate.sink("east").replace(SHARD, {"a": secret("a")})
    reader.aggregate.remove_registry("east")

    assert len(reader.told) == 1


def test_a_replacement_is_heard_once_it_counts() -> None:
    """What a registry in preparation lists may never take effect."""
    reader = Reader()
    reader.follow()
    reader.aggregate.sink("east").replace(SHARD, {"a": secret("a")})
    staged = reader.aggregate.swap("east")
    staged.replace(SHARD, {"b": secret("b")})
    assert len(reader.told) == 1

    staged.synced()

    assert reader.told[1:] == [(["istio-system/b"], [])]


def test_an_ended_run_is_told_nothing_more() -> None:
    """A callback into an adapter that was ended would act for nobody."""
    reader = Reader()
    reader.follow()
    old, reader.told = reader.told, []
    reader.follow()
    reader.aggregate.sink("east").replace(SHARD, {"a": secret("a")})

    assert old == []
    assert len(reader.told) == 1
