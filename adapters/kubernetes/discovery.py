"""Which kinds of rules the API server has, and in which version they are best read."""

from collections.abc import Iterable
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from adapters.kubernetes.client import ApiError, KubernetesClient
from aggregator.model.errors import AdapterUnavailableError
from config.kind import KindSpec

S = TypeVar("S", bound=Struct)

PROBE_SECONDS: Final = 10.0
"""How long the server may think about what it has; it need not look anything up."""


class _Version(Struct, frozen=True):
    version: str = ""


class _Group(Struct, frozen=True):
    versions: tuple[_Version, ...] = ()


class _Resource(Struct, frozen=True):
    name: str = ""


class _Resources(Struct, frozen=True):
    resources: tuple[_Resource, ...] = ()


async def find_versions(client: KubernetesClient, specs: Iterable[KindSpec]) -> dict[str, str]:
    """The version to read of each kind that the server has, by plural name.

    Raises as the client does if anything but the absence of a group or version was answered.
    """
    wanted = list(specs)
    found: dict[str, str] = {}
    for group in sorted({spec.group for spec in wanted}):
        mine = [spec for spec in wanted if spec.group == group]
        served = await _versions(client, group)
        versions = dict.fromkeys(version for spec in mine for version in spec.versions)
        for version in versions:
            missing = [spec for spec in mine if spec.plural not in found]
            if version not in served or not missing:
                continue
            plurals = await _plurals(client, group, version)
            found |= {
                spec.plural: version
                for spec in missing
                if spec.plural in plurals and version in spec.versions
            }
    return found


async def _versions(client: KubernetesClient, group: str) -> set[str]:
    body = await _get(client, f"/apis/{group}")
    return {each.version for each in _decode(body, _Group).versions} if body else set()


async def _plurals(client: KubernetesClient, group: str, version: str) -> set[str]:
    body = await _get(client, f"/apis/{group}/{version}")
    return {each.name for each in _decode(body, _Resources).resources} if body else set()


async def _get(client: KubernetesClient, path: str) -> bytes:
    """The answer; nothing where the server has nothing."""
    try:
        return await client.get(path, read_seconds=PROBE_SECONDS)
    except ApiError as error:
        if error.absent:
            return b""
        raise


def _decode(body: bytes, of: type[S]) -> S:
    try:
        return msgspec.json.decode(body, type=of)
    except msgspec.MsgspecError as error:
        message = f"the server does not say what it has: {error}"
        raise AdapterUnavailableError(message) from error


async def probe(client: KubernetesClient) -> None:
    """Find out whether the server answers, and knows us; raises as the client does."""
    await client.get("/version", read_seconds=PROBE_SECONDS)
