"""`validate`: what is wrong with files of services and rules, before a daemon reads them."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Final

import click
from msgspec import Struct

from aggregator import logs
from aggregator.cli.output import show_problems, show_table
from aggregator.model.discovery import load_adapter
from aggregator.model.errors import AdapterError, Origin, Problem, Severity
from aggregator.registry.aggregate import Aggregate
from aggregator.registry.settings import RegistrySettings
from aggregator.settings import files_registry


class Finding(Struct, frozen=True):
    """What was read, and what is wrong with it."""

    services: int
    endpoints: int
    rules: int
    problems: tuple[Problem, ...]


@click.command("validate")
@click.argument(
    "paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="PATH…"
)
def _validate(paths: tuple[Path, ...]) -> None:
    """Read folders and files as a daemon would, together, and say everything that is wrong.

    Exits with 1 if anything in them would be left out.
    """
    logs.silence()
    finding = asyncio.run(read(paths))
    show_problems(finding.problems)
    counts = (finding.services, finding.endpoints, finding.rules, len(finding.problems))
    show_table(("services", "endpoints", "rules", "problems"), [tuple(map(str, counts))])
    if any(problem.severity is Severity.ERROR for problem in finding.problems):
        sys.exit(1)


async def read(paths: tuple[Path, ...]) -> Finding:
    """Run the adapter on each path until it is in sync, into one merged state."""
    aggregate = Aggregate(lambda _changes: None, clock=time.monotonic)
    failures: list[Problem] = []
    for index, path in enumerate(paths):
        failures += await _read_one(aggregate, files_registry(f"files-{index}", path), path)
    found = [problem for each in aggregate.problems().values() for problem in each]
    keys = aggregate.service_keys()
    return Finding(
        services=len(keys),
        endpoints=sum(len(aggregate.endpoints(key)) for key in keys),
        rules=len(aggregate.config_keys()),
        problems=tuple(sorted({*failures, *found, *aggregate.conflicts()})),
    )


async def _read_one(
    aggregate: Aggregate, settings: RegistrySettings, path: Path
) -> tuple[Problem, ...]:
    """Feed one path; says why if it cannot be read at all."""
    adapter = load_adapter(settings.type, Origin()).create(settings.context, settings.adapter)
    synced = asyncio.Event()
    sink = aggregate.sink(settings.name, settings.context, synced.set)
    running = asyncio.create_task(adapter.run(sink))
    waiting = asyncio.create_task(synced.wait())
    await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
    failed = None if synced.is_set() else running.exception()
    running.cancel()
    waiting.cancel()
    await asyncio.wait((running, waiting))
    if failed is not None and not isinstance(failed, AdapterError):
        raise failed
    return (Problem(Origin(str(path)), "", str(failed)),) if failed else ()


COMMAND: Final = _validate
