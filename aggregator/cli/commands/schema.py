"""`schema`: the form of the settings file, for editors and checkers."""

import json
from typing import Final

import click

from aggregator.schema import settings_schema


@click.command("schema")
def _schema() -> None:
    """Print the JSON Schema of the settings file."""
    click.echo(json.dumps(settings_schema(), indent=2, ensure_ascii=False))


COMMAND: Final = _schema
