"""Asks the daemon that runs on this machine over HTTP. Imports nothing large."""

import http.client
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import click

DEFAULT_ADDRESS: Final = "127.0.0.1:15014"


def daemon_address(http_address: str, config: Path | None) -> str:
    """Where it listens: as told, as its settings file says, or by default."""
    return http_address or _configured(config) or DEFAULT_ADDRESS


def ask(address: str, path: str, timeout: float) -> tuple[int, str]:
    """Status and body. Without an answer, says so and ends the command with 1."""
    try:
        with closing(http.client.HTTPConnection(address, timeout=timeout)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace").strip()
    except http.client.BadStatusLine:
        click.echo(f"http://{address}{path}: the answer is not HTTP", err=True)
        sys.exit(1)
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        click.echo(f"http://{address}{path}: {error}", err=True)
        sys.exit(1)


def ask_json(address: str, path: str, timeout: float) -> Any:
    """The content of a debug view. Without one, says why and ends the command with 1."""
    status, body = ask(address, path, timeout)
    try:
        if status == http.client.OK:
            return json.loads(body)
    except ValueError:
        body = "the answer is no JSON"
    click.echo(f"http://{address}{path}: {body}", err=True)
    sys.exit(1)


def _configured(config: Path | None) -> str:
    """The address in the settings file, as it is reached from this machine."""
    if config is None:
        return ""
    from aggregator.settings import load_settings

    address = load_settings(config).listen.http
    return f"127.0.0.1:{address.port}" if address.is_wildcard else address
