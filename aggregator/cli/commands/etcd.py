"""`etcd`: writes and reads the keys that a registry of type etcd reads."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import yaml
from msgspec import Struct

from aggregator.cli.output import show_problems, show_table
from aggregator.cli.registration import Registration
from aggregator.model.discovery import load_adapter
from aggregator.model.errors import ConfigError, Origin, Problem
from aggregator.model.registry import RegistryContext
from aggregator.model.store import OpenStore, Stored
from aggregator.settings import load_settings, lone_registry
from config.documents import Document, read_documents
from config.duration import parse_duration
from config.keyed import Entry, decode_entry, encode_entries
from config.kind_table import kinds

T = TypeVar("T")
_TYPE: Final = "etcd"
_STDIN: Final = "-"


class _Target(Struct, frozen=True):
    """Which etcd, and by which defaults documents are read."""

    context: RegistryContext
    open_store: Callable[[], OpenStore]


@click.group("etcd")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    help="A settings file, of which the registry of type etcd is taken.",
)
@click.option("-r", "--registry", default="", help="The registry's name, if there are several.")
@click.option("--endpoint", multiple=True, help="Without -c: host:port; may be given repeatedly.")
@click.option("--prefix", help="Without -c: what the mesh's keys begin with.")
@click.option("--user", help="Without -c: whom to log in as.")
@click.option("--password-file", help="Without -c: file with the password.")
@click.option("--tls", is_flag=True, help="Without -c: speak TLS.")
@click.option("--ca", help="Without -c: file with the servers' authorities; speaks TLS.")
@click.option("--cert", help="Without -c: file with our certificate; speaks TLS.")
@click.option("--key", help="Without -c: file with its key.")
@click.pass_context
def _etcd(context: click.Context, /, config: Path | None, registry: str, **options: Any) -> None:
    """Write and read services, instances and rules in etcd.

    Keys are those below the registry's prefix: services/NAMESPACE/HOST,
    instances/NAMESPACE/HOST/NAME, rules/….
    """
    given = {name: value for name, value in options.items() if value}
    if config is not None:
        if given:
            raise click.UsageError("with -c, the settings file says which etcd")
        context.obj = _from_file(config, registry)
    else:
        if registry:
            raise click.UsageError("-r names a registry of the settings file, which -c gives")
        context.obj = _from_options(given)


@_etcd.command("put")
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option("--ttl", default="", help="Let the keys go after this time, such as 30s.")
@click.pass_obj
def _put(target: _Target, files: tuple[str, ...], ttl: str) -> None:
    """Write what is in the files (- is standard input), if all of it is valid.

    Services, instances and rules as docs/etcd.md has them; also files that a registry of type files
    reads, with lists of services.
    """
    seconds = _seconds(ttl) if ttl else 0
    entries = _read(files, target.context)

    async def write() -> None:
        async with target.open_store() as store:
            lease = await store.grant(seconds) if seconds else 0
            await store.put({entry.key: entry.value for entry in entries}, lease=lease)

    _run(write())
    for entry in entries:
        click.echo(entry.key)


@_etcd.command("get")
@click.argument("key")
@click.option("--raw", is_flag=True, help="The value as it is stored.")
@click.pass_obj
def _get(target: _Target, key: str, raw: bool) -> None:
    """Show the value of a key."""

    async def read() -> Stored | None:
        async with target.open_store() as store:
            return await store.get(key)

    stored = _run(read())
    if stored is None:
        raise click.ClickException(f"there is no key {key}")
    documents = read_documents(stored.value, key).documents
    if raw or not documents:
        sys.stdout.buffer.write(stored.value)
        return
    data = [document.data for document in documents]
    text = yaml.dump_all(data, Dumper=yaml.SafeDumper, sort_keys=False, allow_unicode=True)
    click.echo(text, nl=False)


@_etcd.command("list")
@click.argument("below", default="")
@click.pass_obj
def _list(target: _Target, below: str) -> None:
    """List the keys that begin with BELOW, and whether they can be used.

    Exits with 1 if one cannot.
    """

    async def read() -> list[Stored]:
        async with target.open_store() as store:
            return [stored async for stored in store.list(below)]

    problems: list[Problem] = []
    rows = []
    for stored in _run(read()):
        found = _faults(stored, target.context)
        problems += found
        lease = f"{stored.lease:x}" if stored.lease else ""
        state = "unusable" if found else "ok"
        rows.append((_shown(stored.key), str(stored.revision), lease, state))
    show_table(("key", "revision", "lease", "state"), rows)
    show_problems(problems)
    sys.exit(1 if problems else 0)


@_etcd.command("delete")
@click.argument("keys", nargs=-1, required=True, metavar="KEY…")
@click.pass_obj
def _delete(target: _Target, keys: tuple[str, ...]) -> None:
    """Delete keys; exits with 1 if one was not there."""

    async def delete() -> list[str]:
        async with target.open_store() as store:
            return [key for key in keys if not await store.delete(key)]

    missing = _run(delete())
    for key in missing:
        click.echo(f"there is no key {key}", err=True)
    sys.exit(1 if missing else 0)


@_etcd.command("register", context_settings={"ignore_unknown_options": True})
@click.argument("file")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--ttl", default="15s", show_default=True, help="How long keys outlive their owner.")
@click.pass_obj
def _register(target: _Target, file: str, command: tuple[str, ...], ttl: str) -> None:
    """Keep what is in FILE registered while COMMAND runs, or until interrupted.

    The keys go at once when it ends, and after --ttl if this process dies too. Ends as the command
    does. Write -- before a command with options.
    """
    entries = _read((file,), target.context)
    values = {entry.key: entry.value for entry in entries}
    registration = Registration(
        target.open_store, values, _seconds(ttl), lambda line: click.echo(line, err=True)
    )
    sys.exit(_run(_accompany(registration, command)))


async def _accompany(registration: Registration, command: Sequence[str]) -> int:
    """Run both; the exit code of the command, 0 without one."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    process = await asyncio.create_subprocess_exec(*command) if command else None
    keeping = asyncio.create_task(registration.run())
    ending = asyncio.create_task(_stopped(stop, process))
    await asyncio.wait((keeping, ending), return_when=asyncio.FIRST_COMPLETED)
    keeping.cancel()
    # First nobody is sent here any more, then it ends.
    with contextlib.suppress(asyncio.CancelledError):
        try:
            await keeping
        finally:
            if process is not None and process.returncode is None:
                process.terminate()
            ending.cancel()
    return await process.wait() if process is not None else 0


async def _stopped(stop: asyncio.Event, process: asyncio.subprocess.Process | None) -> None:
    """Return when we are told to end, or the command has ended."""
    waits: list[asyncio.Task[object]] = [asyncio.create_task(stop.wait())]
    if process is not None:
        waits.append(asyncio.create_task(process.wait()))
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


# Which etcd


def _from_file(file: Path, name: str) -> _Target:
    candidates = [each for each in load_settings(file).registries if each.type == _TYPE]
    found = [each for each in candidates if name in ("", each.name)]
    if len(found) != 1:
        names = ", ".join(each.name for each in candidates) or "none"
        message = f"expected one registry of type {_TYPE}, or its name by -r; there are: {names}"
        raise ConfigError(Problem(Origin(str(file)), "registries", message))
    return _target(found[0].context, found[0].adapter)


def _from_options(options: dict[str, Any]) -> _Target:
    tls = {name: options.pop(name) for name in ("ca", "cert", "key") if name in options}
    if options.pop("tls", False) or tls:
        options["tls"] = tls
    endpoints = list(options.pop("endpoint", ("127.0.0.1:2379",)))
    data = {"name": _TYPE, "type": _TYPE, "endpoints": endpoints, **options}
    registry = lone_registry(data, Origin("command line"), Path.cwd())
    return _target(registry.context, registry.adapter)


def _target(context: RegistryContext, settings: Struct) -> _Target:
    open_store = load_adapter(_TYPE, context.origin).open_store
    assert open_store is not None  # noqa: S101 — the adapter is ours.
    return _Target(context, lambda: open_store(context, settings))


# What to write


def _read(files: Iterable[str], context: RegistryContext) -> list[Entry]:
    """All entries of the files; raises ConfigError with everything that is wrong."""
    kinds()  # Found by reading folders, which the event loop must not do.
    problems: list[Problem] = []
    entries: dict[str, Entry] = {}
    for document in _documents(files, problems):
        try:
            for entry in encode_entries(document, context):
                if entry.key in entries:
                    problems.append(Problem(document.origin, "", f"{entry.key} is given twice"))
                entries[entry.key] = entry
        except ConfigError as error:
            problems.extend(error.problems)
    if not entries and not problems:
        problems.append(Problem(Origin(" ".join(files)), "", "there is nothing to write"))
    if problems:
        raise ConfigError(tuple(problems))
    show_problems(warning for entry in entries.values() for warning in entry.warnings)
    return list(entries.values())


def _documents(files: Iterable[str], problems: list[Problem]) -> list[Document]:
    found: list[Document] = []
    for file in files:
        try:
            text = sys.stdin.buffer.read() if file == _STDIN else Path(file).read_bytes()
        except OSError as error:
            message = f"cannot be read: {error.strerror or error}"
            problems.append(Problem(Origin(file), "", message))
            continue
        documents = read_documents(text, "standard input" if file == _STDIN else file)
        problems.extend(documents.problems)
        found.extend(documents.documents)
    return found


def _faults(stored: Stored, context: RegistryContext) -> Sequence[Problem]:
    """Why a key cannot be used."""
    try:
        decode_entry(stored.key, stored.value, context, _shown(stored.key))
    except ConfigError as error:
        return error.problems
    return ()


def _shown(key: str) -> str:
    """A key for people, whatever bytes are in it."""
    return key.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _seconds(text: str) -> int:
    """A lease's time, in whole seconds."""
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if seconds < 1:
        raise click.BadParameter("expected at least 1s")
    return round(seconds)


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


COMMAND: Final = _etcd
