"""What the user sees: on a terminal a live table below the story, elsewhere plain lines."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from examples.demo.stage import Stage
from examples.demo.step import Excerpt, Seen, Step

PLAIN_WIDTH: Final = 100
READING_SECONDS: Final = 1.5
INDENT: Final = 4

_PICTURE: Final = """
  folder ──▶ mesh-aggregator {xds}
                   │ ADS
                   ▼
  client ──▶ Envoy {service} ──▶ v1, v2-a, v2-b, v3
"""


class Screen:
    """Tells the story of *steps* as they run."""

    def __init__(self, console: Console, steps: Sequence[Step]) -> None:
        self._console: Final = console
        self._steps: Final = steps
        self._told: Final[dict[str, Text]] = {}
        self._seen: Final[dict[str, Seen]] = {}
        self._live: Final = (
            Live(console=console, get_renderable=self._table, refresh_per_second=10)
            if console.is_terminal and not console.is_dumb_terminal
            else None
        )
        if self._live is None:
            console.width = max(console.width, PLAIN_WIDTH)

    def begin(self) -> None:
        """Say what this is, before anything runs."""
        title = Text("A folder of services and rules drives a real Envoy", "bold")
        self.say(title, Text("Starting four servers, mesh-aggregator and Envoy …", "dim"))

    def introduce(self, stage: Stage) -> None:
        """Draw what runs."""
        self.say(
            Text(_PICTURE.format(xds=f":{stage.xds_port}", service=f":{stage.service_port}")),
            Text(f"The folder is {stage.folder.path}, a copy of {_short(stage.source)}."),
            Text("Envoy's bootstrap tells it where mesh-aggregator is, and nothing else."),
        )

    def shown(self) -> AbstractContextManager[object]:
        """Shows the table for the block, where it can be."""
        return self._live or nullcontext()

    def say(self, *parts: RenderableType) -> None:
        """Print parts of the story."""
        if self._live is not None:
            self._console.print(*parts, sep="\n")
            return
        with self._console.capture() as capture:
            self._console.print(*parts, sep="\n", soft_wrap=True)
        # Rich fills lines up to the width, which is of no use in a file.
        plain = "\n".join(line.rstrip() for line in capture.get().splitlines())
        self._console.out(plain, highlight=False)

    async def explain(self, step: Step, excerpt: Excerpt) -> None:
        """Show what comes, with the time to read it if somebody does."""
        number = self._steps.index(step) + 1
        title = Text(f"{number}/{len(self._steps)} {step.title}", "bold")
        parts = (Text(step.about), self._code(excerpt))
        self.say(Text(), title, *(Padding(each, (0, 0, 0, INDENT)) for each in parts))
        self.tell(step, "")
        if self._live is not None:
            await asyncio.sleep(READING_SECONDS)

    def _code(self, excerpt: Excerpt) -> RenderableType:
        head = Text(f"{excerpt.file}:", "dim")
        text = excerpt.text.rstrip("\n")
        if not text:
            return Group(head, Text("  (nothing of the kind is there)", "red"))
        if self._live is None:
            return Group(head, Text(text))
        lexer = "diff" if excerpt.is_change else "yaml"
        return Group(head, Syntax(text, lexer, theme="ansi_dark", background_color="default"))

    def tell(self, step: Step, text: str) -> None:
        """Show what has been seen so far."""
        self._told[step.title] = Text(text, "yellow")

    def conclude(self, step: Step, seen: Seen) -> None:
        """Show what has been seen in the end."""
        self._seen[step.title] = seen
        self._told[step.title] = Text(seen.text)
        if self._live is None:
            expected = Text(f"expected: {step.expected}")
            self.say(*(Padding(each, (0, 0, 0, INDENT)) for each in (expected, self._line(seen))))

    @staticmethod
    def _line(seen: Seen) -> Text:
        return Text(f"seen:     {seen.text}  ({'as expected' if seen.passed else 'WRONG'})")

    def judge(self, seconds: float, problems: Sequence[str]) -> bool:
        """Sum up; returns whether everything was as the rules say.

        *problems* are what mesh-aggregator found wrong with the files.
        """
        if self._live is None:
            self.say(self._table())
        wrong = [step.title for step in self._steps if not self._seen[step.title].passed]
        count = len(self._steps)
        if wrong:
            text = f"{len(wrong)} of {count} checks failed: {', '.join(wrong)}."
            self.say(Text(text, "bold red"), *(Text(each, "red") for each in problems))
        else:
            text = f"All {count} checks passed in {seconds:.0f} s: Envoy does what the files say."
            self.say(Text(text, "bold green"))
        return not wrong

    def _table(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in ("", "rule", "expected", "seen through Envoy"):
            table.add_column(column)
        for step in self._steps:
            told = self._told.get(step.title, Text())
            table.add_row(self._mark(step), step.title, step.expected, told)
        return table

    def _mark(self, step: Step) -> Text:
        seen = self._seen.get(step.title)
        if seen is not None:
            return Text("✔", "bold green") if seen.passed else Text("✘", "bold red")
        return Text("▶", "yellow") if step.title in self._told else Text("·", "dim")


def _short(path: Path) -> str:
    """As the user would name it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
