"""The command line: finds the commands, and turns errors that users cause into one line each."""

import importlib
import pkgutil
import sys

import click

from aggregator.cli import commands
from aggregator.model.errors import ConfigError, MeshError

PROGRAM = "mesh-aggregator"


class CommandFolder(click.Group):
    """Commands are the modules of `aggregator.cli.commands`.

    Only the one that runs is imported, so that `health` is quick.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All modules of the folder; dashes stand for the underscores of their names."""
        found = (info.name for info in pkgutil.iter_modules(commands.__path__))
        return sorted(name.replace("_", "-") for name in found)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module that declares the command."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = f"{commands.__name__}.{cmd_name.replace('-', '_')}"
        command = importlib.import_module(module).COMMAND
        if not isinstance(command, click.Command):
            message = f"{module}.COMMAND is no command"
            raise TypeError(message)
        return command


@click.command(cls=CommandFolder, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """One mesh out of every registry: a control plane for Envoy."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 2 for wrong usage or settings, 1 for a failure, else 0."""
    try:
        cli.main(arguments, prog_name=PROGRAM, standalone_mode=True)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(f"{PROGRAM}: {problem}", err=True)
        sys.exit(2)
    except MeshError as error:
        click.echo(f"{PROGRAM}: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
