"""How commands show things: framed tables on a terminal, plain lines when piped."""

import sys
from collections.abc import Iterable, Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aggregator.model.errors import Problem, Severity


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write *rows* to standard output; piped, a line each with tabs between, the columns first."""
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            click.echo("\t".join(" ".join(cell.split()) for cell in row))
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def show_problems(problems: Iterable[Problem]) -> None:
    """Write one line for each to standard error, in the form that editors jump to."""
    for problem in problems:
        colour = "red" if problem.severity is Severity.ERROR else "yellow"
        label = click.style(problem.severity.value, fg=colour)
        click.echo(f"{label}: {problem}", err=True)
