"""`health`: asks a running daemon whether it is ready.

HEALTHCHECK runs it again and again, so it imports nothing large.
"""

import http.client
import sys
from pathlib import Path
from typing import Final

import click


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
    http_address = http_address or _configured(config) or "127.0.0.1:15014"
    path = "/healthz" if live else "/ready"
    try:
        status, body = _ask(http_address, path, timeout)
    except http.client.BadStatusLine:
        click.echo(f"http://{http_address}{path}: the answer is not HTTP", err=True)
        sys.exit(1)
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        click.echo(f"http://{http_address}{path}: {error}", err=True)
        sys.exit(1)
    healthy = status == http.client.OK
    click.echo(body, err=not healthy)
    sys.exit(0 if healthy else 1)


def _ask(address: str, path: str, timeout: float) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read(4096).decode(errors="replace").strip()
    finally:
        connection.close()


def _configured(config: Path | None) -> str:
    """The address in the settings file, as it is reached from this machine."""
    if config is None:
        return ""
    from aggregator.settings import load_settings

    address = load_settings(config).listen.http
    return f"127.0.0.1:{address.port}" if address.is_wildcard else address


COMMAND: Final = _health
