"""`serve`: runs the control plane until it is told to stop."""

import asyncio
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import click
import uvloop

from aggregator import logs
from aggregator.daemon import Daemon
from aggregator.notify import Notifier
from aggregator.quantity import Address
from aggregator.settings import Settings, embedded_settings, load_settings, override


class AddressType(click.ParamType[Address]):
    """An address to listen on."""

    name = "host:port"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address:
        """Check the form."""
        try:
            return Address.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command("serve")
@click.option("-c", "--config", type=click.Path(path_type=Path), help="The settings file.")
@click.option(
    "--config-dir",
    type=click.Path(path_type=Path),
    help="A folder of services and rules, to run without a settings file.",
)
@click.option("--grpc-address", type=AddressType(), help="Where xDS is served, in plaintext.")
@click.option("--http-address", type=AddressType(), help="Where readiness and metrics are served.")
def _serve(
    config: Path | None,
    config_dir: Path | None,
    grpc_address: Address | None,
    http_address: Address | None,
) -> None:
    """Run the control plane.

    Give it either a settings file (-c) or just a folder of services and rules (--config-dir).
    SIGHUP, or a change of the settings file, reloads the settings; SIGTERM stops gracefully.
    """
    load = partial(_load, _source(config, config_dir), grpc_address, http_address)
    settings = load()
    logs.configure(settings.log.level, settings.log.format)
    daemon = Daemon(settings, load, Notifier(os.environ, process_id=os.getpid()))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(daemon.run())


def _source(config: Path | None, config_dir: Path | None) -> Callable[[], Settings]:
    if config is not None and config_dir is not None:
        message = "give -c FILE or --config-dir DIR, not both: the file names its folders itself"
        raise click.UsageError(message)
    if config is not None:
        return partial(load_settings, config)
    if config_dir is not None:
        return partial(embedded_settings, config_dir)
    message = (
        "nothing to serve: give a settings file with -c FILE, "
        "or a folder of services and rules with --config-dir DIR"
    )
    raise click.UsageError(message)


def _load(source: Callable[[], Settings], grpc: Address | None, http: Address | None) -> Settings:
    return override(source(), grpc=grpc, http=http)


COMMAND: Final = _serve
