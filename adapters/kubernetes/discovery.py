"""Which kinds of rules the API server has, and in which version they are best read."""

from collections.abc import Iterable
from typing import TypeVar

import msgspec
from msgspec import Struct

from adapters.kubernetes.client import ApiError, KubernetesClient
from aggregator.model.errors import AdapterUnavailableError
from config.kind import KindSpec

S = TypeVar("S", bound=Struct)


class _Version(Struct, frozen=True):
    version: str = ""


class _Group(Struct, frozen=True):
    versions: tuple[_Version, ...] = ()


class _Resource(Struct, frozen=True):
    name: str = ""


class _Resources(Struct, frozen=True):
    resources: tuple[_Resource, ...] = ()


async def find_versions(
    client: KubernetesClient, specs: Iterable[KindSpec], seconds: float
) -> dict[str, str]:
    """The version to read of each kind that the server has, by plural name.

    The server has *seconds* for each answer. Raises as the client does if anything but the absence
    of a group or version was answered.
    """
    wanted = list(specs)
    found: dict[str, str] = {}
    for group in sorted({spec.group for spec in wanted}):
        mine = [spec for spec in wanted if spec.group == group]
        served = await _versions(client, group, seconds)
        versions = dict.fromkeys(version for spec in mine for version in spec.versions)
        for version in versions:
            missing = [spec for spec in mine if spec.plural not in found]
            if version not in served or not missing:
                continue
            plurals = await _plurals(client, group, version, seconds)
            found |= {
                spec.plural: version
                for spec in missing
                if spec.plural in plurals and version in spec.versions
            }
    return found


async def _versions(client: KubernetesClient, group: str, seconds: float) -> set[str]:
    body = await _get(client, f"/apis/{group}", seconds)
    return {each.version for each in _decode(body, _Group).versions} if body else set()


async def _plurals(client: KubernetesClient, group: str, version: str, seconds: float) -> set[str]:
    body = await _get(client, f"/apis/{group}/{version}", seconds)
    return {each.name for each in _decode(body, _Resources).resources} if body else set()


async def _get(client: KubernetesClient, path: str, seconds: float) -> bytes:
    """The answer; nothing where the server has nothing."""
    try:
        return await client.get(path, read_seconds=seconds)
    except ApiError as error:
        if error.absent:
            return b""
        raise


def _decode(body: bytes, of: type[S]) -> S:
    try:
        return msgspec.json.decode(body, type=of)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        message = f"the server does not say what it has: {error}"
        raise AdapterUnavailableError(message) from error


async def probe(client: KubernetesClient, seconds: float) -> None:
    """Find out whether the server answers, and knows us; raises as the client does."""
    await client.get("/version", read_seconds=seconds)
