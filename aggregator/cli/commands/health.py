"""`health`: asks a running daemon whether it is ready.

HEALTHCHECK runs it again and again, so it imports nothing large.
"""

import http.client
import sys
from pathlib import Path
from typing import Final

import click

from aggregator.cli.running import ask, daemon_address


@click.command("health")
@click.option(
    "--http-address",
    default="",
    help="Where the daemon's HTTP server listens; 127.0.0.1:15014 unless given.",
)
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    help="The daemon's settings file, which says where it listens.",
)
@click.option("--timeout", default=3.0, show_default=True, help="Seconds to wait for the answer.")
@click.option("--live", is_flag=True, help="Ask only whether it runs, not whether it is ready.")
def _health(http_address: str, config: Path | None, timeout: float, live: bool) -> None:
    """Exit with 0 if the daemon on this machine is ready, else with 1."""
    path = "/healthz" if live else "/ready"
    status, body = ask(daemon_address(http_address, config), path, timeout)
    healthy = status == http.client.OK
    click.echo(body, err=not healthy)
    sys.exit(0 if healthy else 1)


COMMAND: Final = _health
