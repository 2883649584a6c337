"""`registry test`: what registries would yield, without serving it."""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import click

from aggregator import logs
from aggregator.cli.output import show_problems, show_table
from aggregator.cli.trial import Trial, trial_form, try_registries
from aggregator.settings import load_settings


@click.group("registry")
def _registry() -> None:
    """Look at registries directly, without a daemon."""


@_registry.command("test")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    required=True,
    help="The settings file.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    help="json has every endpoint with its labels.",
)
@click.argument("names", nargs=-1, metavar="[NAME]…")
def _test(config: Path, output: str, names: tuple[str, ...]) -> None:
    """Read the named registries, or all of them, and show what each would yield.

    Exits with 1 unless all of them were read completely, within their `sync_timeout`.
    """
    settings = load_settings(config)
    show_problems(settings.warnings)
    logs.silence()
    trials = try_registries(settings, names)
    if output == "json":
        click.echo(json.dumps({"registries": [trial_form(each) for each in trials]}, indent=2))
    else:
        _show(trials)
    if not all(each.passed for each in trials):
        sys.exit(1)


def _show(trials: Sequence[Trial]) -> None:
    show_table(_COLUMNS, [_row(each) for each in trials])
    click.echo()
    show_table(("registry", "namespace", "host", "ports", "endpoints"), list(_services(trials)))
    for trial in trials:
        show_problems(trial.problems)
        if trial.status.last_error:
            error = f"registry {trial.status.name}: {trial.status.last_error}"
            click.echo(f"{click.style('error', fg='red')}: {error}", err=True)
        elif not trial.passed:
            error = f"registry {trial.status.name}: not complete after {trial.seconds:.1f} s"
            click.echo(f"{click.style('error', fg='red')}: {error}", err=True)


_COLUMNS: Final = (
    "registry",
    "type",
    "state",
    "services",
    "endpoints",
    "rules",
    "workloads",
    "skipped",
    "excluded",
    "seconds",
)


def _row(trial: Trial) -> tuple[str, ...]:
    status = trial.status
    counts = (
        status.services,
        status.endpoints,
        status.configs,
        status.workloads,
        status.skipped,
        status.excluded,
    )
    return (status.name, status.type, status.state, *map(str, counts), f"{trial.seconds:.2f}")


def _services(trials: Iterable[Trial]) -> Iterable[tuple[str, ...]]:
    for trial in trials:
        for each in trial.services:
            ports = " ".join(f"{port.number}/{port.protocol}" for port in each.ports)
            name, key = trial.status.name, each.key
            yield (name, key.namespace, key.host, ports, str(len(each.endpoints)))


COMMAND: Final = _registry
