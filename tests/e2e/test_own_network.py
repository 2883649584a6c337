"""Real registries under real traffic. API servers refuse loopback addresses for endpoints, so that
these cases run in a network namespace which has others, and in a pytest of their own.
"""

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.servers.build import CONSUL, KUBE_APISERVER
from tests.support.servers.envoy import find_envoy
from tests.support.servers.process import need

pytestmark = [pytest.mark.e2e, pytest.mark.servers, pytest.mark.slow]

CASES: Final = Path(__file__).with_name("own_network")
SECONDS: Final = 280
SET_UP: Final = (
    "ip link set lo up && ip addr add 10.1.0.1/16 dev lo"
    # API servers look for the address that they would be reached at.
    ' && ip route add default dev lo && exec "$@"'
)


def find_tools() -> list[str]:
    """What makes the namespace. Where that cannot be the test is skipped, but fails in CI."""
    command = ["unshare", "--user", "--map-root-user", "--net", "--kill-child"]
    missing = [name for name in ("unshare", "ip") if shutil.which(name) is None]
    problem = f"not on the PATH: {', '.join(missing)}"
    if not missing:
        tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
        if tried.returncode == 0:
            return [*command, "sh", "-c", SET_UP]
        problem = f"no network namespace for users here: {tried.stderr.strip()}"
    if os.environ.get("CI") == "true":
        pytest.fail(problem)
    pytest.skip(problem)


@pytest.mark.timeout(SECONDS + 20)
async def test_real_registries_under_real_traffic(tmp_path: Path) -> None:
    """Clusters and Consul behind one host: failover, migration, gateways, VMs and pods."""
    tools = await asyncio.to_thread(find_tools)
    find_envoy()
    # What is built is fetched from outside.
    need(KUBE_APISERVER)
    need(CONSUL)
    process = await asyncio.create_subprocess_exec(
        *tools,
        "sh",
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--basetemp",
        str(tmp_path / "cases"),
        "-v",
        str(CASES),
        env={**os.environ, "OWN_NETWORK": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()
