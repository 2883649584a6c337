"""Documents under keys: what each place takes, and what is written there."""

import json

import pytest

from aggregator.model.config import Config
from aggregator.model.errors import ConfigError, Problem
from aggregator.model.registry import RegistryContext, ServiceItem
from config.documents import read_documents
from config.keyed import Decoded, Entry, decode_entry, encode_entries

CONTEXT = RegistryContext(name="kv", cluster_id="", namespace="shop", locality="eu/eu-1")
SERVICE = """
apiVersion: mesh-aggregator/v1
kind: Service
ports: [{number: 80, name: http}]
"""
INSTANCE = """
apiVersion: mesh-aggregator/v1
kind: Instance
address: 10.0.0.1
ports: {http: 8080}
"""
RULE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews.shop.mesh]
  http: [{route: [{destination: {host: reviews.shop.mesh}}]}]
"""


def decode(key: str, value: str | bytes) -> Decoded:
    """What a key holds."""
    text = value.encode() if isinstance(value, str) else value
    return decode_entry(key, text, CONTEXT, f"kv:/mesh/{key}")


def problems(key: str, value: str | bytes) -> list[str]:
    """What is wrong with a key."""
    with pytest.raises(ConfigError) as caught:
        decode(key, value)
    return [str(problem) for problem in caught.value.problems]


def encode(text: str) -> tuple[Entry, ...]:
    """What is written for a document."""
    documents = read_documents(text.encode(), "file.yaml")
    assert not documents.problems
    (document,) = documents.documents
    return encode_entries(document, CONTEXT)


def refused(text: str) -> list[Problem]:
    """Why a document is not written."""
    with pytest.raises(ConfigError) as caught:
        encode(text)
    return list(caught.value.problems)


def test_a_service_is_where_its_key_says() -> None:
    """The key alone names it, so that no two keys can hold the same service."""
    decoded = decode("services/shop/reviews.shop.mesh", SERVICE)

    assert isinstance(decoded.item, ServiceItem)
    assert decoded.item.service is not None
    assert decoded.item.service.host == "reviews.shop.mesh"
    assert decoded.item.service.namespace == "shop"
    assert decoded.item.service.origin.source == "kv:/mesh/services/shop/reviews.shop.mesh"


def test_an_instance_is_an_endpoint_of_the_service_in_its_key() -> None:
    """It adds an endpoint to a service that is defined elsewhere, with the registry's defaults."""
    decoded = decode("instances/shop/reviews.shop.mesh/one", INSTANCE)

    assert isinstance(decoded.item, ServiceItem)
    assert decoded.item.service is None
    (endpoint,) = decoded.item.endpoints
    assert (endpoint.address, endpoint.ports) == ("10.0.0.1", (("http", 8080),))
    assert str(endpoint.locality) == "eu/eu-1"


def test_a_rule_names_itself() -> None:
    """Rules have names of their own, so any key below rules/ will do."""
    decoded = decode("rules/whatever", RULE)

    assert isinstance(decoded.item, Config)
    assert str(decoded.item.key) == decoded.name == "VirtualService shop/reviews"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("services/reviews.shop.mesh", "expected a key services/<namespace>/<host>"),
        ("services/shop/", "expected a key services/<namespace>/<host>"),
        ("services/a/b/c", "expected a key services/<namespace>/<host>"),
        ("services/shop/b ad", "'b ad' is no host name"),
        ("services/shop/Reviews.mesh", "lower case"),
        ("services/sh_op/reviews.mesh", "expected a namespace"),
        ("instances/shop/reviews.mesh", "expected a key instances/<namespace>/<host>/<name>"),
        ("instances/shop/reviews.mesh/", "expected a key instances/<namespace>/<host>/<name>"),
    ],
)
def test_a_key_of_another_form_is_refused_with_the_form(key: str, message: str) -> None:
    """A slip in a key must not be silently ignored."""
    (problem,) = problems(key, SERVICE)

    assert message in problem


def test_values_name_their_version_and_kind() -> None:
    """What a later version writes is not misread by this one."""
    assert problems("services/shop/a.mesh", "ports: []") == [
        "kv:/mesh/services/shop/a.mesh:1: apiVersion: required: mesh-aggregator/v1",
        "kv:/mesh/services/shop/a.mesh:1: kind: required: Service",
    ]
    (problem,) = problems("services/shop/a.mesh", SERVICE.replace("/v1", "/v2"))
    assert problem.endswith(
        ":2: apiVersion: expected mesh-aggregator/v1, found 'mesh-aggregator/v2'"
    )


def test_what_a_value_repeats_of_its_key_must_agree() -> None:
    """A value that was copied to another key is told, not guessed about."""
    (problem,) = problems("services/shop/a.mesh", SERVICE + "host: b.mesh\n")

    assert problem.endswith(":5: host: the key says 'a.mesh', found 'b.mesh'")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"\xff\xfe", "expected UTF-8 text, found byte 0xff"),
        (b"", "expected one object, found nothing"),
        (b"{", "did not find expected"),
        (b"[1]", "expected an object"),
        (SERVICE.encode() + b"---\n" + SERVICE.encode(), "expected one object, found 2"),
        (SERVICE.encode() + b"extra: 1\n", "unknown field 'extra'"),
        (b"apiVersion: v1\nkind: Service\n", "expected mesh-aggregator/v1, found 'v1'"),
    ],
)
def test_a_bad_value_says_why(value: bytes, message: str) -> None:
    """Everybody who may write can write anything."""
    assert message in " ".join(problems("services/shop/a.mesh", value))


@pytest.mark.parametrize("address", ["reviews.mesh", "unix:///run/x", "999.1.1.1", ""])
def test_an_instance_has_an_ip_address(address: str) -> None:
    """It joins a service that may be served by address only, where a name would break all."""
    value = INSTANCE.replace("10.0.0.1", repr(address))

    assert "expected an IP address" in problems("instances/shop/a.mesh/1", value)[0]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (SERVICE + "host: a.mesh\n", "services/shop/a.mesh"),
        (SERVICE + "host: A.mesh\nnamespace: other\n", "services/other/a.mesh"),
        (SERVICE + "host: a.x.svc.cluster.local\n", "services/x/a.x.svc.cluster.local"),
        (INSTANCE + "host: a.mesh\n", "instances/shop/a.mesh/10.0.0.1-8080"),
        (INSTANCE + "host: a.mesh\nname: one\n", "instances/shop/a.mesh/one"),
        (RULE, "rules/VirtualService/shop/reviews"),
    ],
)
def test_what_is_written_is_read_as_meant(text: str, key: str) -> None:
    """Whoever reads need not have the writer's defaults."""
    (entry,) = encode(text)

    assert entry.key == key
    other = RegistryContext(name="kv", cluster_id="", namespace="elsewhere")
    decoded = decode_entry(entry.key, entry.value, other, "kv")
    assert decoded.item.namespace == json.loads(entry.value).get(
        "namespace", json.loads(entry.value).get("metadata", {}).get("namespace")
    )


def test_a_list_of_services_is_written_to_a_key_each() -> None:
    """A file of the files adapter can be brought in as it is."""
    entries = encode(
        "services:\n- {host: A.mesh, ports: [{number: 80}]}\n"
        "- {host: b.mesh, namespace: other, ports: [{number: 80}],"
        " endpoints: [{address: 10.0.0.1}]}\n"
    )

    assert [entry.key for entry in entries] == ["services/shop/a.mesh", "services/other/b.mesh"]
    assert [len(decode(entry.key, entry.value).item.endpoints) for entry in entries] == [0, 1]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (SERVICE, "host"),
        (SERVICE + "host: 'a b'\n", ""),
        (SERVICE + "host: a.mesh\nnamespace: 3\n", "namespace"),
        (SERVICE.replace("number: 80", "number: 0") + "host: a.mesh\n", "ports[0].number"),
        (INSTANCE.replace("http: 8080", "http: 99999") + "host: a.mesh\n", "ports.http"),
        (INSTANCE + "host: a.mesh\nname: a/b\n", ""),
        (RULE.replace("hosts:", "host:"), "spec.host"),
    ],
)
def test_what_could_not_be_read_is_not_written(text: str, path: str) -> None:
    """A mistake is told to whoever makes it, with its place, before it is in the store."""
    assert path in [problem.path for problem in refused(text)]


def test_everything_that_is_wrong_is_told_at_once() -> None:
    """Who has mended one mistake is not told of the next one only then."""
    text = INSTANCE.replace("address", "adress").replace("ports: {http: 8080}", "")

    assert [problem.path for problem in refused(text)] == ["host", "adress", "address"]
