"""The schemas that Kubernetes gets of the kinds."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import inspect, structs

from config.duration import parse_duration
from config.kind_table import kinds
from config.kinds.envoy_filter import Patch
from config.kinds.service_entry import ServiceEntry
from config.kinds.workload_group import ReadinessProbe
from config.message import Message
from config.openapi import message_schema
from config.traffic_policy import ConsistentHashLB, RingHash, WarmupConfiguration


def messages() -> Iterator[type[Message]]:
    """Every message that some kind is made of."""
    waiting: list[Any] = [inspect.type_info(kind.spec) for kind in kinds().values()]
    seen: set[type] = set()
    while waiting:
        match waiting.pop():
            case inspect.StructType(cls=cls, fields=fields) if cls not in seen:
                seen.add(cls)
                assert issubclass(cls, Message)
                yield cls
                waiting += (field.type for field in fields)
            case inspect.UnionType(types=types):
                waiting += types
            case inspect.VarTupleType(item_type=item) | inspect.DictType(value_type=item):
                waiting.append(item)
            case _:
                pass


@pytest.mark.parametrize("message", tuple(messages()), ids=lambda each: each.__name__)
def test_what_is_said_of_fields_is_said_of_fields_that_there_are(message: type[Message]) -> None:
    """A slip in a name would make the API server refuse everything, or nothing."""
    known = {field.encode_name for field in structs.fields(message)}
    in_rules = {
        name for rule in message.RULES for name in re.findall(r"self\.(\w+)(?![\w(])", rule.cel)
    }

    assert set(message.NEEDS) <= known
    assert {name for group in message.ONE_OF for name in group} <= known
    assert in_rules <= known


def test_a_schema_has_every_field_under_its_name_outside() -> None:
    """Fields that are not in the schema are dropped by the API server."""
    properties = message_schema(ServiceEntry)["properties"]

    assert list(properties) == [field.encode_name for field in structs.fields(ServiceEntry)]
    assert properties["endpoints"]["items"]["properties"]["ports"] == {
        "type": "object",
        "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
    }
    assert properties["resolution"]["type"] == "string"
    assert "DNS_ROUND_ROBIN" in properties["resolution"]["enum"]


def test_alternatives_are_exclusive_each_group_for_itself() -> None:
    """A hash key and a hash table are two choices, not one."""
    groups = message_schema(ConsistentHashLB)["allOf"]

    assert [len(group["oneOf"]) for group in groups] == [5, 3]
    assert {"required": ["ringHash"]} in groups[1]["oneOf"]
    assert groups[1]["oneOf"][0] == {
        "not": {"anyOf": [{"required": ["ringHash"]}, {"required": ["maglev"]}]}
    }
    assert "oneOf" in message_schema(ReadinessProbe)


def test_large_numbers_may_be_written_as_text() -> None:
    """protobuf's JSON does so for 64 bits."""
    size = message_schema(RingHash)["properties"]["minimumRingSize"]

    assert size["x-kubernetes-int-or-string"] is True
    assert re.search(size["pattern"], "1024")
    assert not re.search(size["pattern"], "-1")


@pytest.mark.parametrize("text", ["5s", "1h30m", "100ms", "0", ".5s", "1.5s", "3µs"])
def test_every_duration_that_is_read_fits_the_schema(text: str) -> None:
    """The API server must not refuse what a file may say."""
    parse_duration(text)

    assert re.search(message_schema(WarmupConfiguration)["properties"]["duration"]["pattern"], text)


@pytest.mark.parametrize("text", ["", "5", "-5s", "5s ", "5 s", "five"])
def test_what_is_no_duration_does_not_fit_the_schema(text: str) -> None:
    """It is refused when it is written, not found later in a log."""
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)

    pattern = message_schema(WarmupConfiguration)["properties"]["duration"]["pattern"]
    assert not re.search(pattern, text)


def test_values_of_patches_are_kept_as_they_are() -> None:
    """They are messages of Envoy's, of which the definition knows nothing."""
    value = message_schema(Patch)["properties"]["value"]

    assert value == {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def test_descriptions_use_the_names_that_users_write() -> None:
    """`kubectl explain` shows them."""
    descriptions: list[str] = []

    def collect(schema: Any) -> None:
        if isinstance(schema, dict):
            descriptions.extend([schema["description"]] if "description" in schema else [])
            for each in schema.values():
                collect(each)

    for kind in kinds().values():
        collect({"spec": message_schema(kind.spec)["properties"]})

    assert all(descriptions)
    assert [text for text in descriptions if re.search(r"`\w+_\w+`", text)] == []
