"""`check`: whether a settings file can be used, without starting anything."""

import sys
from pathlib import Path
from typing import Final

import click

from aggregator.cli.output import show_problems, show_table
from aggregator.model.errors import ConfigError
from aggregator.settings import load_settings


@click.command("check")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    required=True,
    help="The settings file.",
)
def _check(config: Path) -> None:
    """Read the settings file and show what it means; exit with 1 if anything in it is wrong."""
    try:
        settings = load_settings(config)
    except ConfigError as error:
        show_problems(error.problems)
        sys.exit(1)
    show_problems(settings.warnings)
    rows = [
        (each.name, each.type, "required" if each.required else "optional", each.context.namespace)
        for each in settings.registries
    ]
    show_table(("registry", "type", "readiness", "namespace"), rows)


COMMAND: Final = _check
