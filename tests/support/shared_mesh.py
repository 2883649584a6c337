"""A daemon over several registries, as users run it, and what one Envoy makes of a host in it."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support.daemon_process import Daemon, serving
from tests.support.poll import eventually
from tests.support.servers.backend import HttpBackend
from tests.support.servers.envoy import Envoy

SETTINGS: Final = "mesh-aggregator.yaml"
SETTLE_SECONDS: Final = 15.0
Endpoints = dict[str, tuple[int, int]]
"""Priority and weight by ``address:port``."""


class SharedMesh:
    """The daemon with the folder that its settings and file registries are in."""

    def __init__(self, folder: Path, daemon: Daemon) -> None:
        self.folder: Final = folder
        self.daemon: Final = daemon

    def set_up(self, **sections: Any) -> None:
        """Write the settings; a running daemon follows them."""
        write(self.folder / SETTINGS, sections)

    def write(self, registry: str, name: str, *documents: Mapping[str, Any]) -> None:
        """Put a file into the folder of a file registry."""
        write(self.folder / registry / name, *documents)


def write(path: Path, *documents: Mapping[str, Any]) -> None:
    """Put YAML documents into a file, all at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(yaml.safe_dump_all(documents, sort_keys=False))
    aside.rename(path)


@asynccontextmanager
async def running_shared_mesh(folder: Path, **sections: Any) -> AsyncIterator[SharedMesh]:
    """A daemon with these settings for the block; folders of its file registries may be there."""
    write(folder / SETTINGS, sections)
    for registry in sections["registries"]:
        if registry["type"] == "files":
            (folder / registry["path"]).mkdir(exist_ok=True)
    async with serving("-c", str(folder / SETTINGS)) as daemon:
        await daemon.ready()
        yield SharedMesh(folder, daemon)


def served_by(host: str, port: int, *backends: HttpBackend, **more: Any) -> dict[str, Any]:
    """A file's service on *port* with these endpoints, of all of which *more* is true."""
    endpoints = [
        {"address": each.address, "ports": {"http": each.port}} | more for each in backends
    ]
    service = {
        "host": host,
        "ports": [{"name": "http", "number": port, "protocol": "HTTP"}],
        "endpoints": endpoints,
    }
    return {"services": [service]}


def ejecting(host: str, namespace: str = "default") -> dict[str, Any]:
    """A DestinationRule that ejects an endpoint at its first failure, for the rest of the test."""
    outliers = {
        "consecutiveGatewayErrors": 1,
        "consecutive5xxErrors": 1,
        "interval": "0.1s",
        "baseEjectionTime": "60s",
        "maxEjectionPercent": 100,
    }
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": host.partition(".")[0], "namespace": namespace},
        "spec": {"host": host, "trafficPolicy": {"outlierDetection": outliers}},
    }


async def endpoints_of(envoy: Envoy, host: str, port: int) -> Endpoints:
    """What Envoy balances over."""
    clusters = await envoy.clusters()
    statuses = clusters.get(f"outbound|{port}||{host}", {}).get("host_statuses", ())
    found: Endpoints = {}
    for each in statuses:
        address = each["address"]["socket_address"]
        place = f"{address['address']}:{address['port_value']}"
        found[place] = (each.get("priority", 0), each.get("weight", 1))
    return found


async def wait_endpoints(envoy: Envoy, host: str, port: int, expected: Endpoints) -> None:
    """Return once Envoy has exactly these."""
    await eventually(
        lambda: endpoints_of(envoy, host, port),
        lambda found: found == expected,
        seconds=SETTLE_SECONDS,
        hint=f"Envoy has not {expected}",
    )


def counted(backends: Sequence[HttpBackend]) -> Counter[str]:
    """How many requests each has received since it was last asked."""
    counts: Counter[str] = Counter()
    for each in backends:
        counts[each.name] += len(each.received)
        each.received.clear()
    return counts
