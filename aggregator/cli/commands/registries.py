"""`registries`: how each registry of a running daemon fares."""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from aggregator.cli.output import show_table
from aggregator.cli.running import ask_json, daemon_address

_COLUMNS: Final = (
    "registry",
    "type",
    "cluster",
    "state",
    "age",
    "services",
    "endpoints",
    "rules",
    "problems",
    "skipped",
    "reconnects",
    "held",
    "last error",
)
_SENTENCES: Final = 2
"""How many of the last columns hold sentences, which have no place in a framed table."""


@click.command("registries")
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
@click.option("--timeout", default=10.0, show_default=True, help="Seconds to wait for the answer.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="For people, or all that is known for scripts.",
)
@click.option("--problems", is_flag=True, help="Say what is wrong in what the registries give.")
def _registries(
    http_address: str, config: Path | None, timeout: float, output: str, problems: bool
) -> None:
    """Show how each registry of the daemon on this machine fares.

    `age` is for how long what a registry said may be out of date, `held` what the loss guard does
    not believe yet.
    """
    address = daemon_address(http_address, config)
    found = ask_json(address, "/debug/registryz?services=false", timeout)
    if output == "json":
        told = {key: found[key] for key in ("registries", "problems")}
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    _show([_row(each) for each in found["registries"]])
    if problems:
        for line in _problems(found["problems"]):
            click.echo(line)


def _show(rows: Sequence[tuple[str, ...]]) -> None:
    if not sys.stdout.isatty():
        show_table(_COLUMNS, rows)
        return
    show_table(_COLUMNS[:-_SENTENCES], [row[:-_SENTENCES] for row in rows])
    for row in rows:
        for title, text in zip(_COLUMNS[-_SENTENCES:], row[-_SENTENCES:], strict=True):
            if text:
                click.echo(f"{row[0]}: {title}: {text}")


def _row(registry: dict[str, Any]) -> tuple[str, ...]:
    name = registry["name"] + (" (successor)" if registry["replacing"] else "")
    state = registry["state"] + ("" if registry["required"] else " (optional)")
    age = f"{registry['ageSeconds']:.0f}s" if registry["ageSeconds"] else ""
    if registry["reason"]:
        state += f", {registry['reason']}"
    held = "; ".join(
        f"{each['listing']}: {each['before']} -> {each['after']} endpoints,"
        f" believed in {each['believedIn']:.0f}s"
        for each in registry["held"]
    )
    counts = (
        str(registry[key]) for key in ("services", "endpoints", "configs", "problems", "skipped")
    )
    return (
        name,
        registry["type"],
        registry["clusterId"],
        state,
        age,
        *counts,
        str(registry["reconnects"]),
        held,
        registry["lastError"],
    )


def _problems(scopes: Iterable[dict[str, Any]]) -> Iterable[str]:
    for scope in scopes:
        for each in scope["problems"]:
            place = each["source"] or scope["scope"]
            parts = (scope["registry"], place, each["subject"], each["path"], each["message"])
            yield f"{each['severity']}: " + ": ".join(part for part in parts if part)


COMMAND: Final = _registries
