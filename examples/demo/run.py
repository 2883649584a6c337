"""The demo's command: shows step after step, and judges what it saw."""

import asyncio
import shutil
import signal
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.text import Text

from examples.demo.program import DemoError
from examples.demo.screen import Screen
from examples.demo.stage import running_stage
from examples.demo.step import STEPS

MESH: Final = Path(__file__).parent / "mesh"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--mesh",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=MESH,
    help="A folder in place of the demo's; what its rules do is held against the demo's.",
)
def command(mesh: Path) -> None:
    """Show on this machine how a folder of services and rules drives a real Envoy.

    Exits with 0 only if all that was seen is what the rules say.
    """
    console = Console(highlight=False)
    with asyncio.Runner() as runner:
        code = runner.run(_until_interrupted(console, mesh))
    raise SystemExit(code)


async def _until_interrupted(console: Console, mesh: Path) -> int:
    """Run the demo; a signal ends it in order, and further ones do not disturb that."""
    received: list[int] = []
    showing = asyncio.create_task(_show_in_folder(console, mesh))

    def interrupt(number: int) -> None:
        if not received:
            received.append(number)
            showing.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, interrupt, number)
    try:
        return await showing
    except asyncio.CancelledError:
        if not received:
            raise
        console.print("\nInterrupted; everything that was started has been ended.")
        return 128 + received[0]


async def _show_in_folder(console: Console, mesh: Path) -> int:
    """Work in a folder of our own, which is kept if there is something to look into."""
    work = Path(tempfile.mkdtemp(prefix="mesh-demo-"))
    failed = False
    try:
        failed = not await _show(console, mesh, work)
    except DemoError as error:
        failed = True
        console.print(Text(f"\nThe demo cannot go on: {error}", "red"), soft_wrap=True)
    finally:
        if failed:
            console.print(f"The files and the logs are in {work}", soft_wrap=True)
        else:
            shutil.rmtree(work)
    return 1 if failed else 0


async def _show(console: Console, mesh: Path, work: Path) -> bool:
    """Whether everything was as the rules say."""
    started = time.monotonic()
    screen = Screen(console, STEPS)
    screen.begin()
    async with running_stage(mesh, work) as stage:
        screen.introduce(stage)
        with screen.shown():
            for step in STEPS:
                await screen.explain(step, step.excerpt(stage))
                seen = await step.run(stage, partial(screen.tell, step))
                stage.check()
                screen.conclude(step, seen)
        problems = stage.aggregator.problems()
    return screen.judge(time.monotonic() - started, problems)
