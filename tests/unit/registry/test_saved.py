"""What a registry said, written and read again."""

import zlib
from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from aggregator.model.errors import Origin
from aggregator.model.registry import (
    AnnouncedRegistry,
    Content,
    Item,
    Namespace,
    NetworkGateway,
    ServiceItem,
    ShardKey,
)
from aggregator.model.secret import Redacted, Secret
from aggregator.model.service import Health, Workload, labels_of
from aggregator.registry.saved import (
    FORMAT,
    KEPT,
    Head,
    Shards,
    StateError,
    decode_state,
    encode_state,
    seal,
)
from tests.support.builders import endpoint, service
from tests.support.history import configs, endpoints, services

HEAD = Head("east", "fake", "17")


def written(shards: Shards, head: Head = HEAD) -> bytes:
    """A whole file."""
    body = list(encode_state(head, shards))
    return seal(body) + b"".join(body)


def shard(content: Content, scope: str = "all") -> ShardKey:
    """A shard of the registry."""
    return ShardKey("east", scope, content)


def item(number: int) -> ServiceItem:
    """A service with two endpoints."""
    host = f"s{number}.mesh"
    told = (
        endpoint(f"10.0.{number}.1", labels={"app": "x"}, locality="eu/a/1", ports={"http": 8080}),
        endpoint(f"10.0.{number}.2", labels={"app": "x"}, health=Health.DRAINING, weight=0),
    )
    return ServiceItem("shop", host, service(host, namespace="shop", labels={"a": "b"}), told)


def test_everything_that_is_kept_comes_back_equal() -> None:
    """An item that came back otherwise would be pushed to every proxy once more."""
    shards: Shards = {
        shard(Content.SERVICES): {str(number): item(number) for number in range(250)},
        shard(Content.SERVICES, "empty"): {},
        shard(Content.WORKLOADS): {"w": Workload("w", "shop", endpoint(), Origin("a.yaml", 3))},
        shard(Content.PLACES): {
            "n": Namespace("shop", labels_of({"x": "y"})),
            "g": NetworkGateway("net1", "10.0.0.1", 15443),
        },
    }

    state = decode_state(written(shards))

    assert state.head == HEAD
    assert state.shards == shards


@given(st.lists(configs(), max_size=5), services(), endpoints())
def test_rules_of_every_form_come_back_equal(rules: list[Item], told: object, at: object) -> None:
    """Their structs depend on their kind."""
    shards: Shards = {
        shard(Content.RULES): {str(index): each for index, each in enumerate(rules)},
        shard(Content.SERVICES): {"x": ServiceItem("shop", "x", told, at)},  # type: ignore[arg-type]
    }

    assert decode_state(written(shards)).shards == shards


def test_credentials_are_never_written() -> None:
    """The file lies on a disk; kubeconfigs and secrets are their owner's to keep."""
    hidden = Redacted(b"hunter2")
    shards: Mapping[ShardKey, Mapping[str, Item]] = {
        shard(Content.SECRETS): {"s": Secret("ns", "s", {"key": hidden})},
        shard(Content.REGISTRIES): {"r": AnnouncedRegistry("r", "x", {}, hidden)},
        shard(Content.SERVICES): {"1": item(1)},
    }

    found = decode_state(written(shards)).shards

    assert set(found) == {shard(Content.SERVICES), shard(Content.REGISTRIES)}
    assert found[shard(Content.REGISTRIES)]["r"] == AnnouncedRegistry("r", "x", {}, remembered=True)
    assert Content.SECRETS not in KEPT


def test_announced_registries_come_back_as_remembered() -> None:
    """What they gave is served until they are announced again, or are known to be gone."""
    announced = AnnouncedRegistry(
        "west",
        "kubernetes",
        {"network": "net1", "required": True, "export_to": ["*"]},
        base_dir="/etc/k",
        created=7.0,
        origin=Origin("/etc/k/west.yaml"),
    )
    shards: Shards = {shard(Content.REGISTRIES, "secrets/a"): {"west": announced}}

    found = decode_state(written(shards)).shards

    assert found == {
        shard(Content.REGISTRIES, "secrets/a"): {"west": replace(announced, remembered=True)}
    }


def test_equal_labels_are_one_object_again() -> None:
    """A hundred thousand endpoints share a few sets of labels."""
    shards: Shards = {shard(Content.SERVICES): {"1": item(1), "2": item(2)}}

    (items,) = decode_state(written(shards)).shards.values()
    found = [each.endpoints[0].labels for each in items.values() if isinstance(each, ServiceItem)]

    assert found[0] is found[1]


@pytest.mark.parametrize("where", [0, 30, 60, 100, 200, -1])
def test_a_changed_byte_is_noticed(where: int) -> None:
    """Disks and people do that; what is damaged must not be served."""
    data = bytearray(written({shard(Content.SERVICES): {"1": item(1)}}))
    data[where] ^= 1

    with pytest.raises(StateError):
        decode_state(bytes(data))


@pytest.mark.parametrize("length", [0, 5, 24, 90, 150])
def test_a_file_that_was_cut_off_is_noticed(length: int) -> None:
    """So is one that is empty."""
    data = written({shard(Content.SERVICES): {"1": item(1)}})
    assert length < len(data)

    with pytest.raises(StateError):
        decode_state(data[:length])


def test_another_format_is_told_apart_from_damage() -> None:
    """After an update the reason is not the disk."""
    data = written({}).replace(f"state {FORMAT}".encode(), b"state 99", 1)

    with pytest.raises(StateError, match=f"its format is 99, not {FORMAT}"):
        decode_state(data)


def test_content_of_another_version_is_refused_with_the_reason() -> None:
    """A whole file whose fields mean something else today."""
    packed = zlib.compress(msgspec.msgpack.encode({"registry": 5}))
    body = len(packed).to_bytes(4, "big") + packed

    with pytest.raises(StateError, match="cannot be read by this version"):
        decode_state(seal([body]) + body)
