"""`validate`: what is wrong with files of services and rules, before a daemon reads them."""

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
from msgspec import Struct

from aggregator import logs
from aggregator.cli.output import show_problems, show_table
from aggregator.model.discovery import load_adapter
from aggregator.model.errors import AdapterError, Origin, Problem, Severity
from aggregator.model.registry import Adapter
from aggregator.registry.aggregate import Aggregate
from aggregator.registry.settings import RegistrySettings
from aggregator.settings import files_registry
from config.kind_table import kinds


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
    finding = read(paths)
    show_problems(finding.problems)
    counts = (finding.services, finding.endpoints, finding.rules, len(finding.problems))
    show_table(("services", "endpoints", "rules", "problems"), [tuple(map(str, counts))])
    if any(problem.severity is Severity.ERROR for problem in finding.problems):
        sys.exit(1)


def read(paths: tuple[Path, ...]) -> Finding:
    """Run the adapter on each path until it is in sync, into one merged state."""
    sources: list[_Source] = []
    for index, path in enumerate(paths):
        settings = files_registry(f"files-{index}", path)
        spec = load_adapter(settings.type, Origin())
        adapter = spec.create(settings.context, settings.adapter)
        sources.append(_Source(path, settings, adapter))
    kinds()  # Found by reading folders, which the event loop must not do.
    return asyncio.run(_read_all(sources))


class _Source(Struct, frozen=True):
    path: Path
    settings: RegistrySettings
    adapter: Adapter


async def _read_all(sources: Sequence[_Source]) -> Finding:
    aggregate = Aggregate(lambda _changes: None, clock=time.monotonic)
    failures = [problem for each in sources for problem in await _read_one(aggregate, each)]
    found = [problem for each in aggregate.problems().values() for problem in each]
    keys = aggregate.service_keys()
    return Finding(
        services=len(keys),
        endpoints=sum(len(aggregate.endpoints(key)) for key in keys),
        rules=len(aggregate.config_keys()),
        problems=tuple(sorted({*failures, *found, *aggregate.conflicts()})),
    )


async def _read_one(aggregate: Aggregate, source: _Source) -> tuple[Problem, ...]:
    """Feed one path; says why if it cannot be read at all."""
    synced = asyncio.Event()
    sink = aggregate.sink(source.settings.name, source.settings.context, synced.set)
    running = asyncio.create_task(source.adapter.run(sink))
    waiting = asyncio.create_task(synced.wait())
    await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
    failed = None if synced.is_set() else running.exception()
    running.cancel()
    waiting.cancel()
    await asyncio.wait((running, waiting))
    if failed is not None and not isinstance(failed, AdapterError):
        raise failed
    return (Problem(Origin(str(source.path)), "", str(failed)),) if failed else ()


COMMAND: Final = _validate
