"""The definitions of traffic rules on a real API server."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from aggregator.model.errors import ConfigError
from config.decode import is_rule, load_config
from config.documents import read_documents
from config.kind_table import kinds
from tests.support.crds import install_crds, our_crds
from tests.support.istio_cases import FILE, Verdict, verdicts
from tests.support.servers.kube_apiserver import (
    KubeApiserver,
    KubeClient,
    KubeRefusedError,
    object_path,
)

pytestmark = pytest.mark.servers

NAMESPACE = "crd-test"
KINDS = kinds()
VERDICTS = tuple(verdicts()) if FILE.exists() else ()


def _goldens() -> Iterator[dict[str, Any]]:
    """The rules of all cases of tests/golden that our validation takes."""
    for path in sorted((Path(__file__).parents[2] / "golden").glob("*/*/in.yaml")):
        for document in read_documents(path.read_bytes(), str(path)).documents:
            try:
                if is_rule(document):
                    load_config(document, default_namespace="default")
                    yield document.data
            except ConfigError:
                continue


GOLDENS = tuple(_goldens())


@pytest.fixture
async def client(kube: KubeApiserver) -> AsyncIterator[KubeClient]:
    """An administrator of a cluster that has the definitions."""
    async with kube.client() as found:
        await found.create_namespace(NAMESPACE)
        await install_crds(found)
        yield found


async def try_out(client: KubeClient, document: dict[str, Any], *, strict: bool = True) -> Any:
    """What the server would store. Raises KubeRefusedError."""
    metadata = {**document["metadata"], "namespace": NAMESPACE}
    given = {**document, "metadata": metadata}
    validation = "Strict" if strict else "Warn"
    folder = object_path(given).rpartition("/")[0]
    path = f"{folder}?dryRun=All&fieldValidation={validation}"
    return await client.call("POST", path, given)


def rule(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A rule of a test."""
    version = KINDS[kind].api_versions[0]
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "a"}, "spec": spec}


async def test_all_kinds_are_served_in_all_versions(client: KubeClient) -> None:
    """The server finds nothing to complain of: structural schemas, bounded costs of rules."""
    for definition in our_crds():
        found = await client.get(definition)
        conditions = {each["type"]: each["status"] for each in found["status"]["conditions"]}
        assert conditions["Established"] == "True"
        assert "NonStructuralSchema" not in conditions
    for kind in KINDS.values():
        for version in kind.api_versions:
            path = f"/apis/{version}/namespaces/{NAMESPACE}/{kind.plural}"
            assert (await client.call("GET", path))["kind"] == f"{kind.kind}List"


@pytest.mark.skipif(not FILE.exists(), reason=f"the cases are not at {FILE}")
async def test_what_istio_accepts_is_stored_whole(client: KubeClient) -> None:
    """No valid rule is refused, and none loses a field, since unknown ones would be refused."""
    refused: list[str] = []
    accepted = [each for each in VERDICTS if each.case.valid and each.valid]
    for verdict in accepted:
        document = verdict.case.document
        named = {**document, "metadata": {**document["metadata"], "name": _name(verdict)}}
        try:
            stored = await try_out(client, named)
        except KubeRefusedError as error:
            refused.append(f"{json.dumps(document)}: {error}")
        else:
            if stored["spec"] != document["spec"]:
                refused.append(f"{json.dumps(document)}: stored as {stored['spec']}")

    assert len(accepted) > 300
    assert refused == []


async def test_every_rule_of_the_goldens_is_stored_whole(client: KubeClient) -> None:
    """Whatever we serve in some way can be written to a cluster."""
    refused: list[str] = []
    for index, document in enumerate(GOLDENS):
        named = {**document, "metadata": {**document["metadata"], "name": f"golden-{index}"}}
        try:
            stored = await try_out(client, named)
        except KubeRefusedError as error:
            refused.append(f"{json.dumps(document)}: {error}")
        else:
            if stored["spec"] != document["spec"]:
                refused.append(f"{json.dumps(document)}: stored as {stored['spec']}")

    assert len(GOLDENS) > 50
    assert refused == []


def _name(verdict: Verdict) -> str:
    """A name that Kubernetes takes; the cases are about other things."""
    return f"case-{verdict.case.id}"


@pytest.mark.parametrize(
    ("kind", "spec", "expected"),
    [
        ("VirtualService", {"hosts": ["a.example"]}, "expected rules in http, tls or tcp"),
        ("Sidecar", {}, "expected egress, ingress or outboundTrafficPolicy"),
        ("WorkloadEntry", {"labels": {"a": "b"}}, "expected an address"),
        ("WorkloadEntry", {"address": "unix:///a", "ports": {"a": 1}}, "has no ports"),
        (
            "ServiceEntry",
            {"hosts": ["a.example"], "endpoints": [{"address": "10.0.0.1"}]},
            "endpoints need resolution",
        ),
        (
            "ServiceEntry",
            {
                "hosts": ["a.example"],
                "resolution": "STATIC",
                "endpoints": [{"address": "10.0.0.1"}],
                "workloadSelector": {"labels": {"a": "b"}},
            },
            "expected only one of endpoints and workloadSelector",
        ),
        ("DestinationRule", {"trafficPolicy": {"tls": {"mode": "SIMPLE"}}}, "spec.host: Required"),
        ("WorkloadGroup", {"template": {}, "probe": {}}, "expected one of httpGet"),
        (
            "DestinationRule",
            {
                "host": "a",
                "trafficPolicy": {
                    "loadBalancer": {"simple": "RANDOM", "consistentHash": {"useSourceIp": True}}
                },
            },
            "spec.trafficPolicy.loadBalancer",
        ),
        (
            "DestinationRule",
            {"host": "a", "trafficPolicy": {"connectionPool": {"tcp": {"connectTimeout": "5"}}}},
            "spec.trafficPolicy.connectionPool.tcp.connectTimeout",
        ),
        ("ServiceEntry", {"hosts": ["a.example"], "resolution": "NOPE"}, "spec.resolution"),
    ],
)
async def test_what_cannot_be_used_is_refused_when_it_is_written(
    client: KubeClient, kind: str, spec: dict[str, Any], expected: str
) -> None:
    """The author hears of it from kubectl, instead of finding it in a log later."""
    with pytest.raises(KubeRefusedError, match="422") as refused:
        await try_out(client, rule(kind, spec))

    assert expected in str(refused.value)


async def test_an_unknown_field_is_refused_or_left_out(client: KubeClient) -> None:
    """kubectl asks for a refusal; other clients get their object stored without the field."""
    document = rule("DestinationRule", {"host": "a", "trafficPolicie": {"tunnel": {}}})

    with pytest.raises(KubeRefusedError, match="unknown field"):
        await try_out(client, document)
    stored = await try_out(client, document, strict=False)
    assert stored["spec"] == {"host": "a"}


async def test_nulls_are_absent_fields(client: KubeClient) -> None:
    """Tools that write every field write null for those that are not there."""
    spec = {"host": "a", "trafficPolicy": None, "subsets": None, "exportTo": ["."]}

    stored = await try_out(client, rule("DestinationRule", spec))

    assert stored["spec"] == {"host": "a", "exportTo": ["."]}


async def test_status_is_written_apart_from_the_rule(client: KubeClient) -> None:
    """Who writes a status needs no right to change rules."""
    document = rule("ServiceEntry", {"hosts": ["status.example"]})
    document["metadata"]["namespace"] = NAMESPACE

    await client.apply({**document, "status": {"addresses": [{"value": "240.0.0.1"}]}})

    assert (await client.get(document))["status"] == {"addresses": [{"value": "240.0.0.1"}]}
    await client.delete(document)
