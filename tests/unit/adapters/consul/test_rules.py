"""A key's value to rules."""

import base64

import pytest

from adapters.consul.answer import Pair
from adapters.consul.rules import KeyContent, decode_key
from aggregator.model.registry import RegistryContext

RULE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec: {hosts: [web.mesh], http: [{route: [{destination: {host: web.mesh}}]}]}
"""


def decode(value: str | bytes | None) -> KeyContent:
    """Decode what somebody put under a key."""
    raw = value.encode() if isinstance(value, str) else value
    text = base64.b64encode(raw).decode() if raw is not None else None
    return decode_key(
        Pair("mesh/web", text), "consul/kv/mesh/web", RegistryContext(name="c", cluster_id="")
    )


def test_a_key_may_hold_several_rules() -> None:
    """Documents of one value are one whole."""
    content = decode(RULE + "---" + RULE.replace("name: web,", "name: api,"))

    assert sorted(content.rules) == ["VirtualService shop/api", "VirtualService shop/web"]
    assert content.problems == ()


@pytest.mark.parametrize("value", [None, b"", b"# nothing\n"], ids=repr)
def test_an_empty_value_gives_nothing_and_is_no_mistake(value: bytes | None) -> None:
    """Markers of folders have no value."""
    assert decode(value) == KeyContent({})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (RULE.replace("hosts", "hots"), "unknown field 'hots'"),
        (RULE + "---" + RULE, "is in this key already"),
        (b"\xff\xfe", "expected UTF-8"),
        (
            "services: [{host: web.mesh, ports: [{number: 80}]}]",
            "services are read from the catalog",
        ),
        ("just text", "expected an object"),
    ],
    ids=["field", "twice", "bytes", "service", "text"],
)
def test_a_value_with_any_mistake_gives_nothing(value: str | bytes, message: str) -> None:
    """Half a value may be worse than none, and the key is named."""
    content = decode(value)

    assert content.broken
    assert content.rules == {}
    assert message in str(content.problems[0])
    assert str(content.problems[0]).startswith("consul/kv/mesh/web")


def test_a_value_that_is_no_base64_is_told_of() -> None:
    """Whatever a proxy between has made of it."""
    content = decode_key(Pair("k", "***"), "consul/kv/k", RegistryContext(name="c", cluster_id=""))

    assert content.broken
