"""`version`: which release this is, and on which libraries it runs."""

from typing import Final

import click

from aggregator.debug.release import components


@click.command("version")
@click.option("--short", is_flag=True, help="Print the version alone.")
def _version(short: bool) -> None:
    """Print the version, and those of the libraries that shape what is sent."""
    versions = components()
    if short:
        click.echo(versions["mesh-aggregator"])
        return
    for name, number in versions.items():
        click.echo(f"{name} {number}")


COMMAND: Final = _version
