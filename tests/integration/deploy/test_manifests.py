"""`deploy/kubernetes` on a real API server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from config.reader import reader_rules
from tests.support.crds import install_crds
from tests.support.manifests import manifest, manifests
from tests.support.servers.kube_apiserver import KubeApiserver, KubeClient, object_path

pytestmark = pytest.mark.servers

NAMESPACE = manifest("Namespace")["metadata"]["name"]
ACCOUNT = manifest("ServiceAccount")["metadata"]["name"]
OBJECTS = manifests()
RULES = reader_rules()
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")

Permission = tuple[str, str, str, str]
"""Group, resource and verb, and the namespace or "" for the whole cluster."""


@pytest.fixture
async def admin(kube: KubeApiserver) -> AsyncIterator[KubeClient]:
    """An administrator of a cluster where everything was applied."""
    async with kube.client() as client:
        await install_crds(client)
        await client.apply(*OBJECTS)
        yield client


async def test_every_object_is_taken_as_it_is_written(admin: KubeClient) -> None:
    """A misspelt field would be dropped without a word by most clients."""
    for document in OBJECTS:
        tried = {**document, "metadata": {**document["metadata"], "name": "tried"}}
        folder = object_path(tried).rpartition("/")[0]
        answer = await admin.call("POST", f"{folder}?dryRun=All&fieldValidation=Strict", tried)
        assert answer["kind"] == document["kind"]


async def test_the_account_may_read_what_is_read_and_do_nothing_else(
    kube: KubeApiserver, admin: KubeClient
) -> None:
    """A stolen token shows the mesh's own secrets and no others, and changes nothing."""
    resources = await _resources(admin)
    await admin.create_namespace("other")
    ours = await admin.token_of(NAMESPACE, ACCOUNT)
    nobody = await admin.token_of(NAMESPACE, "nobody")
    async with kube.client(ours) as reader, kube.client(nobody) as plain:
        mine = await _allowed(reader, resources)
        basic = await _allowed(plain, resources)

    everywhere = {
        (group, plural, verb, "")
        for rule in RULES
        for group in rule["apiGroups"]
        for plural in rule["resources"]
        for verb in rule["verbs"]
    }
    # What is allowed everywhere is allowed in each namespace too.
    in_namespaces = {
        (group, plural, verb, namespace)
        for group, plural, verb, _ in everywhere
        for namespace in (NAMESPACE, "other")
    }
    secrets = {("", "secrets", verb, NAMESPACE) for verb in ("list", "watch")}
    assert len(resources) > 50
    assert mine - basic == everywhere | in_namespaces | secrets


async def _resources(client: KubeClient) -> list[tuple[str, str]]:
    """Group and plural name of everything that the server has."""
    groups = (await client.call("GET", "/apis"))["groups"]
    paths = {"/api/v1": ""} | {
        f"/apis/{version['groupVersion']}": group["name"]
        for group in groups
        for version in group["versions"]
    }
    return sorted(
        {
            (group, each["name"])
            for path, group in paths.items()
            for each in (await client.call("GET", path))["resources"]
        }
    )


async def _allowed(client: KubeClient, resources: list[tuple[str, str]]) -> set[Permission]:
    """All that a client may do, as the server says itself."""
    asked = [
        (group, plural, verb, namespace)
        for group, plural in resources
        for verb in VERBS
        for namespace in ("", NAMESPACE, "other")
    ]
    answers = await asyncio.gather(*(_may(client, each) for each in asked))
    return {each for each, allowed in zip(asked, answers, strict=True) if allowed}


async def _may(client: KubeClient, permission: Permission) -> bool:
    group, plural, verb, namespace = permission
    resource, _, part = plural.partition("/")
    attributes: dict[str, Any] = {
        "group": group,
        "resource": resource,
        "subresource": part,
        "verb": verb,
        "namespace": namespace,
    }
    answer = await client.call(
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        },
    )
    return bool(answer["status"]["allowed"])
