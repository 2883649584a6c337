"""How long the daemon takes from its start until it is ready with all that a cluster has.

The floor is the same lists, read by a bare client that does nothing with them.
"""

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.apiserver import ApiServer
from bench.child import BenchError, usage_of
from bench.figure import MEGA, Case, Row, Side
from bench.mesh import Mesh
from tests.support.port import free_port

PODS_PER_SERVICE: Final = 2.5
SECONDS: Final = 120.0
POLL: Final = 0.01


def measure_start(case: Case, api: ApiServer, folder: Path) -> Row:
    """The daemon's starts beside bare listings. Raises BenchError if it does not become ready."""
    settings = folder / "mesh-aggregator.yaml"
    kubeconfig = api.kube.write_kubeconfig(folder / "kubeconfig.yaml")
    settings.write_text(
        f"registries:\n- {{name: east, type: kubernetes, kubeconfig: {kubeconfig.name}}}\n"
    )
    times, usages = [], []
    for number in range(case.rounds):
        address, log = f"127.0.0.1:{free_port()}", folder / f"daemon-{number}.log"
        began = time.monotonic_ns()
        with _daemon(settings, address, log) as process:
            _wait_ready(process, address, log)
            times.append((time.monotonic_ns() - began) / MEGA)
            _check_complete(address, case.mesh)
            usages.append(usage_of(process.pid))
    floors, cpu, size = [], [], 0
    for _ in range(case.rounds):
        began, before = time.monotonic_ns(), time.process_time()
        size = api.list_everything()
        floors.append((time.monotonic_ns() - began) / MEGA)
        cpu.append(time.process_time() - before)
    megabytes = size / MEGA
    most = max(usages, key=lambda usage: usage.peak_mb)
    used = sum(usage.cpu_seconds for usage in usages) / len(usages)
    return Row(
        case,
        Side(tuple(times), used, megabytes, 0, most.peak_mb, most.rss_mb),
        Side(tuple(floors), sum(cpu) / len(cpu), megabytes, 0, 0, 0),
    )


@contextmanager
def _daemon(settings: Path, address: str, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [str(Path(sys.executable).with_name("mesh-aggregator")), "serve", "-c", str(settings)]
    command += ["--grpc-address", f"127.0.0.1:{free_port()}", "--http-address", address]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, cwd=settings.parent)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait_ready(process: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if _is_ready(address):
            return
        time.sleep(POLL)
    message = f"the daemon did not become ready: {log.read_text(errors='replace')[-2000:]}"
    raise BenchError(message)


def _check_complete(address: str, mesh: Mesh) -> None:
    """What is ready with less than all would have been measured in vain."""
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request("GET", "/debug/registryz?services=false")
        (registry,) = json.loads(connection.getresponse().read())["registries"]
    finally:
        connection.close()
    found = (registry["services"], registry["endpoints"])
    # The API server's own service is there too.
    if found[0] < mesh.services or found[1] < mesh.services * mesh.endpoints:
        message = f"ready with {found[0]} services and {found[1]} endpoints alone"
        raise BenchError(message)


def _is_ready(address: str) -> bool:
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()
