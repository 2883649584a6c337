"""`health`: asks a running daemon whether it is ready.

HEALTHCHECK runs it again and again, so it imports nothing large.
"""

import http.client
import sys
from typing import Final

import click


@click.command("health")
@click.option(
    "--http-address",
    default="127.0.0.1:15014",
    show_default=True,
    help="Where the daemon's HTTP server listens.",
)
@click.option("--timeout", default=3.0, show_default=True, help="Seconds to wait for the answer.")
@click.option("--live", is_flag=True, help="Ask only whether it runs, not whether it is ready.")
def _health(http_address: str, timeout: float, live: bool) -> None:
    """Exit with 0 if the daemon on this machine is ready, else with 1."""
    path = "/healthz" if live else "/ready"
    connection = http.client.HTTPConnection(http_address, timeout=timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read(4096).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        click.echo(f"http://{http_address}{path}: {error}", err=True)
        sys.exit(1)
    finally:
        connection.close()
    healthy = response.status == http.client.OK
    click.echo(body, err=not healthy)
    sys.exit(0 if healthy else 1)


COMMAND: Final = _health
