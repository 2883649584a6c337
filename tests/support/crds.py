"""The definitions of traffic rules, on the API servers of tests: ours, and those of Istio."""

import json
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support.poll import eventually
from tests.support.servers.build import find_go
from tests.support.servers.kube_apiserver import KubeClient, KubeRefusedError

Json = dict[str, Any]

FILE: Final = Path(__file__).parents[2] / "deploy" / "kubernetes" / "crds.yaml"
ISTIO: Final = "istio.io/api@v1.31.1"


@cache
def our_crds() -> tuple[Json, ...]:
    """What `deploy/kubernetes` installs."""
    return tuple(yaml.load_all(FILE.read_bytes(), Loader=_LOADER))


@cache
def istio_crds() -> tuple[Json, ...]:
    """What Istio installs of the networking group, out of its Go module."""
    command = [find_go(), "mod", "download", "-json", ISTIO]
    answer = subprocess.run(command, stdout=subprocess.PIPE, cwd=Path("/"), check=True).stdout
    folder = Path(json.loads(answer)["Dir"])
    text = (folder / "kubernetes" / "customresourcedefinitions.gen.yaml").read_bytes()
    found = (each for each in yaml.load_all(text, Loader=_LOADER) if each)
    return tuple(each for each in found if each["spec"]["group"] == "networking.istio.io")


async def install_crds(client: KubeClient, definitions: Iterable[Json] = ()) -> None:
    """Apply *definitions*, ours unless given, and wait until their objects can be written."""
    given = tuple(definitions) or our_crds()
    await client.apply(*given)
    for version in {each for definition in given for each in _versions(definition)}:
        wanted = {each["spec"]["names"]["plural"] for each in given if version in _versions(each)}
        await eventually(partial(_served, client, version), wanted.issubset)


def _versions(definition: Mapping[str, Any]) -> list[str]:
    spec = definition["spec"]
    return [f"{spec['group']}/{each['name']}" for each in spec["versions"]]


async def _served(client: KubeClient, version: str) -> set[str]:
    """The resources of a version; none while the server does not know it."""
    try:
        found = await client.call("GET", f"/apis/{version}")
    except KubeRefusedError:
        return set()
    return {each["name"] for each in found["resources"]}


_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
